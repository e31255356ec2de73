"""`<id>.json` beside a label map: how it was made, and whether it is still the map that was written.

Programs that correct a label map save it with other types, compression and order of the axes. What they do
not change by that is which voxel has which class: its digest tells a corrected map from one saved anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, FiniteFloat, PlainSerializer, PlainValidator, TypeAdapter
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticSerializationError

from mrigmm.data.geometry import Grid
from mrigmm.data.manifest import RegionRule
from mrigmm.data.volumes import Volume

_CONFIG = ConfigDict(arbitrary_types_allowed=True, coerce_numbers_to_str=True)
Numbers = Annotated[
    NDArray[np.float64],
    PlainValidator(lambda values: np.array(values, dtype=float)),
    PlainSerializer(lambda values: values.tolist()),
]


@dataclass(frozen=True, config=_CONFIG)
class LabelMapRecord:
    """Content of a label map.

    Attributes:
        grid: of the file.
        sha256: digest of the class ids of its voxels, in the order of that grid.
    """

    grid: Annotated[Grid, PlainValidator(lambda grid: grid)]
    sha256: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "shape": list(self.grid.shape),
            "affine": self.grid.affine.tolist(),
            "also": [affine.tolist() for affine in self.grid.also],
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LabelMapRecord:
        """Read what `as_json` gives.

        Raises:
            LookupError, TypeError or ValueError: it is damaged.
        """
        x, y, z = (int(n) for n in content["shape"])
        affines = [np.array(rows, dtype=float) for rows in (content["affine"], *content.get("also", ()))]
        for affine in affines:
            if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
                raise ValueError(f"affine {affine.tolist()}")
        return cls(Grid((x, y, z), affines[0], tuple(affines[1:])), str(content["sha256"]))


def record_of(ids: NDArray[np.generic], grid: Grid) -> LabelMapRecord:
    """Record a label map.

    Args:
        ids: (X, Y, Z) class ids.
        grid: of this array.
    """
    content = ids.reshape(grid.shape).astype("<i4").tobytes()
    return LabelMapRecord(grid, hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, config=_CONFIG)
class SavedMixture:
    """The mixture of a study: weights (S, K), means (S, K, C), covariances (S, K, C, C)."""

    sequences: tuple[str, ...]
    units: str
    weights: Numbers
    means: Numbers
    covariances: Numbers

    def check(self) -> None:
        """Refuse a mixture that was read and is none; raises ValueError."""
        shape, C = self.means.shape, len(self.sequences)
        if len(shape) != 3 or shape[2] != C:
            raise ValueError(f"means of shape {shape}")
        if self.weights.shape != shape[:2] or self.covariances.shape != (*shape, C):
            raise ValueError(
                f"weights of shape {self.weights.shape}, covariances of shape {self.covariances.shape}"
            )
        if not all(np.isfinite(part).all() for part in (self.weights, self.means, self.covariances)):
            raise ValueError("the mixture is not finite")


Verdict = Literal["accepted", "rejected"]
Base = Literal["first", "last"]
# Which slice of the file is the basal one.
BASES: tuple[str, ...] = get_args(Base)


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Review:
    """Decision of somebody who looked at a study; times are ISO 8601 in UTC.

    Attributes:
        verdict: None where it is still open.
        comment: in the reviewer's words.
        insertion_mm: anterior insertion of the right ventricle, RAS+; None where nobody moved it.
        base: one of `BASES`; None where nobody named it.
        by: who saved last.
        at: when.
        edited_by: who changed the label map last; None where nobody did.
        edited_at: when.
    """

    verdict: Verdict | None = None
    comment: str = ""
    insertion_mm: tuple[FiniteFloat, FiniteFloat, FiniteFloat] | None = None
    base: Base | None = None
    by: str = ""
    at: str = ""
    edited_by: str | None = None
    edited_at: str | None = None


def _record(found: Any) -> LabelMapRecord | None:
    """Content of the label map, read or as it is; raises LookupError, TypeError or ValueError."""
    if found is None or isinstance(found, LabelMapRecord):
        return found
    return LabelMapRecord.from_json(found)


def _quantities(found: Any) -> Mapping[str, Any] | None:
    """Clinical numbers whose every value is a number; raises LookupError, TypeError or ValueError."""
    if found is None:
        return None
    ends = [end for pair in found["intervals"].values() for end in (pair[0], pair[1])]
    rows = (found["volumes"], *found["slices"], *found["segments"])
    values = [value for row in rows for value in row.values() if value is not None]
    if not all(isinstance(number, int | float) for number in (*ends, *values)):
        raise ValueError("a quantity that is no number")
    return {**found, "notes": [str(text) for text in found["notes"]]}


def _region(found: Any) -> str | Mapping[str, Any] | None:
    """Where a region comes from, with how sure the anatomy stage is of it as numbers; raises ValueError."""
    if not isinstance(found, dict):
        return None if found is None else str(found)
    of_the_study = {n: q for n, q in found.items() if "quality" in n and n != "slice_quality"}
    return {**found, **{name: None if q is None else float(q) for name, q in of_the_study.items()}}


Plain = Mapping[str, Any]  # plain JSON values by name


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class SideFile:
    """Everything that is known of a label map beside its voxels.

    Only `classes` has to be there: a label map of another program needs no more. Files of older versions
    have no `label_map`.

    Attributes:
        classes: class name -> id.
        label_map: what the label map held when it was written.
        study: id.
        patient: whom it shows, where a patient has several studies.
        visit: which of the patient's visits.
        method: name of what segmented it.
        settings: of the method.
        run: folder of the trained run; None for a method without one.
        prior: source, data set and study ids of the population prior.
        volume_ml: class -> volume.
        quantities: clinical numbers, as `Quantities.as_dict` gives them.
        mixture: of the study.
        details: iterations and further figures of the method.
        inputs: file of each sequence that was read.
        frames: frame, from 0, of files that hold several.
        region: file or rule of the region map, or what the anatomy stage says of the one it found.
        region_divided: whether the region told cavity from wall; older files do not say.
        reference_grid: image whose grid the label map has.
        motion: sequence -> shift of each slice, where sequences were registered.
        bias_field: sequence -> bias field, where it was removed.
        scribbles: map of classes that a user named.
        warnings: what a careful user would act on.
        notes: what is good to know.
        made_with: digests of files and options that decide the result.
        seconds: that it took.
        versions: package -> version.
        command: command line.
        disclaimer: what the results are not for.
        review: what somebody who looked at it decided (`mrigmm review`).
    """

    study: str | None = None
    patient: str | None = None
    visit: str | None = None
    method: str = "unknown"
    settings: Plain = field(default_factory=dict)
    run: Path | None = None
    prior: Annotated[Plain | None, BeforeValidator(lambda it: it if isinstance(it, Mapping) else None)] = None
    classes: Mapping[str, int]
    volume_ml: Mapping[str, float] = field(default_factory=dict)
    label_map: Annotated[
        LabelMapRecord | None,
        PlainValidator(_record),
        PlainSerializer(lambda it: None if it is None else it.as_json()),
    ] = None
    quantities: Annotated[Plain | None, BeforeValidator(_quantities)] = None
    mixture: SavedMixture | None = None
    details: Plain = field(default_factory=dict)
    inputs: Mapping[str, Path] = field(default_factory=dict)
    frames: Mapping[str, int] = field(default_factory=dict)
    region: Annotated[str | Plain | None, BeforeValidator(_region)] = None
    region_divided: bool = False
    reference_grid: Path | None = None
    motion: Plain = field(default_factory=dict)
    bias_field: Plain = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None
    disclaimer: str | None = None
    scribbles: Path | None = None
    review: Review | None = None
    made_with: Plain | None = None
    seconds: float | None = None

    def describes(self, labels: Volume) -> bool:
        """Return whether a label map is still the one that was written.

        A file of an older version knows no more of it than the volumes of its classes.

        Args:
            labels: the map as it is now; where there is a record, in the order of its grid
                (`data.maps.on_grid`).
        """
        if self.label_map is not None:
            return record_of(labels.data, self.label_map.grid).sha256 == self.label_map.sha256
        voxel_ml = labels.grid.voxel_volume_ml
        return all(
            abs(int((labels.data == self.classes[name]).sum()) - ml / voxel_ml) < 0.5
            for name, ml in self.volume_ml.items()
            if name in self.classes
        )

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file, its keys in the order of the fields; `from_json` reads it."""
        content: dict[str, Any] = {}
        try:
            plain = TypeAdapter(SideFile).dump_python(self, mode="json")
        except PydanticSerializationError as error:  # pydantic takes an interrupt for a failure
            raise error.__cause__ if isinstance(error.__cause__, KeyboardInterrupt) else error from None
        for key, value in plain.items():
            if key == "details":
                content |= value
            elif value or key not in _LEFT_OUT:
                content[key] = value
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SideFile:
        """Read what `as_json` gives, of this or an older version.

        Raises:
            LookupError, TypeError, AttributeError, ValueError or ArithmeticError: it is damaged.
        """
        # Older versions say null, or nothing.
        known = {key: content[key] for key in _KEYS if content.get(key) is not None}
        details = {key: value for key, value in content.items() if key not in _KEYS}
        side = TypeAdapter(cls).validate_python({**known, "details": details})
        if not side.classes or len(set(side.classes.values())) < len(side.classes):
            raise ValueError(f"classes {side.classes}")
        if not isinstance(side.image_digests, Mapping):
            raise TypeError("images")
        if side.mixture is not None:
            side.mixture.check()
        return side

    @property
    def sequences(self) -> tuple[str, ...]:
        """Those that vary in the region; in files of older versions those that were read."""
        return tuple(str(name) for name in (self.quantities or {}).get("sequences", self.inputs))

    @property
    def image_digests(self) -> Mapping[str, str | None]:
        """Sequence -> digest of the file that was segmented."""
        digests: Mapping[str, str | None] = (self.made_with or {}).get("images", {})
        return digests

    @property
    def region_file(self) -> Path | None:
        """The region map; None where a rule or the anatomy stage made the region."""
        is_file = isinstance(self.region, str) and self.region not in RegionRule.KINDS
        return Path(str(self.region)) if is_file else None


_KEYS = tuple(name for name in SideFile.__dataclass_fields__ if name != "details")
# Keys that are not written where there is no such thing.
_LEFT_OUT = ("patient", "visit", "motion", "bias_field", "scribbles", "review")
