"""`<id>.json` beside a label map: how it was made, and whether it is still the map that was written.

Programs that correct a label map save it with other types, compression and order of the axes. What they do
not change by that is which voxel has which class: its digest tells a corrected map from one saved anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid
from mrigmm.data.manifest import RegionRule
from mrigmm.data.volumes import Volume


@dataclass(frozen=True)
class LabelMapRecord:
    """Content of a label map.

    Attributes:
        grid: of the file.
        sha256: digest of the class ids of its voxels, in the order of that grid.
    """

    grid: Grid
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


@dataclass(frozen=True)
class SavedMixture:
    """The mixture of a study: weights (S, K), means (S, K, C), covariances (S, K, C, C)."""

    sequences: tuple[str, ...]
    units: str
    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "sequences": self.sequences,
            "units": self.units,
            "weights": self.weights.tolist(),
            "means": self.means.tolist(),
            "covariances": self.covariances.tolist(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SavedMixture:
        """Read what `as_json` gives.

        Raises:
            LookupError, TypeError or ValueError: it is damaged.
        """
        weights, means, covariances = (
            np.array(content[name], dtype=float) for name in ("weights", "means", "covariances")
        )
        sequences = tuple(str(name) for name in content["sequences"])
        if means.ndim != 3 or means.shape[2] != len(sequences):
            raise ValueError(f"means of shape {means.shape}")
        if weights.shape != means.shape[:2] or covariances.shape != (*means.shape, len(sequences)):
            raise ValueError(f"weights of shape {weights.shape}, covariances of shape {covariances.shape}")
        if not all(np.isfinite(part).all() for part in (weights, means, covariances)):
            raise ValueError("the mixture is not finite")
        return cls(sequences, str(content["units"]), weights, means, covariances)


VERDICTS = ("accepted", "rejected")
# Which slice of the file is the basal one.
BASES = ("first", "last")


@dataclass(frozen=True, kw_only=True)
class Review:
    """Decision of somebody who looked at a study; times are ISO 8601 in UTC.

    Attributes:
        verdict: one of `VERDICTS`; None where it is still open.
        comment: in the reviewer's words.
        insertion_mm: anterior insertion of the right ventricle, RAS+; None where nobody moved it.
        base: one of `BASES`; None where nobody named it.
        by: who saved last.
        at: when.
        edited_by: who changed the label map last; None where nobody did.
        edited_at: when.
    """

    verdict: str | None = None
    comment: str = ""
    insertion_mm: tuple[float, float, float] | None = None
    base: str | None = None
    by: str = ""
    at: str = ""
    edited_by: str | None = None
    edited_at: str | None = None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Review:
        """Read what `dataclasses.asdict` gives.

        Raises:
            LookupError, TypeError or ValueError: it is damaged.
        """
        verdict, base, point = (content.get(key) for key in ("verdict", "base", "insertion_mm"))
        if verdict not in (None, *VERDICTS) or base not in (None, *BASES):
            raise ValueError(f"verdict {verdict}, base {base}")
        if point is not None:
            x, y, z = (float(value) for value in point)
            if not np.isfinite([x, y, z]).all():
                raise ValueError("an insertion that is not finite")
            point = (x, y, z)
        return cls(
            verdict=verdict,
            comment=str(content.get("comment", "")),
            insertion_mm=point,
            base=base,
            by=str(content.get("by", "")),
            at=str(content.get("at", "")),
            edited_by=_name(content, "edited_by"),
            edited_at=_name(content, "edited_at"),
        )


@dataclass(frozen=True, kw_only=True)
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

    classes: Mapping[str, int]
    label_map: LabelMapRecord | None = None
    study: str | None = None
    patient: str | None = None
    visit: str | None = None
    method: str = "unknown"
    settings: Mapping[str, Any] = field(default_factory=dict)
    run: Path | None = None
    prior: Mapping[str, Any] | None = None
    volume_ml: Mapping[str, float] = field(default_factory=dict)
    quantities: Mapping[str, Any] | None = None
    mixture: SavedMixture | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Path] = field(default_factory=dict)
    frames: Mapping[str, int] = field(default_factory=dict)
    region: str | Mapping[str, Any] | None = None
    region_divided: bool = False
    reference_grid: Path | None = None
    motion: Mapping[str, Any] = field(default_factory=dict)
    bias_field: Mapping[str, Any] = field(default_factory=dict)
    scribbles: Path | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    made_with: Mapping[str, Any] | None = None
    seconds: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None
    disclaimer: str | None = None
    review: Review | None = None

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
        """Return the content of the file; `from_json` reads it."""
        return {
            "study": self.study,
            **({} if self.patient is None else {"patient": self.patient}),
            **({} if self.visit is None else {"visit": self.visit}),
            "method": self.method,
            "settings": self.settings,
            "run": None if self.run is None else str(self.run),
            "prior": self.prior,
            "classes": self.classes,
            "volume_ml": self.volume_ml,
            "label_map": None if self.label_map is None else self.label_map.as_json(),
            "quantities": self.quantities,
            "mixture": None if self.mixture is None else self.mixture.as_json(),
            **self.details,
            "inputs": {name: str(file) for name, file in self.inputs.items()},
            "frames": self.frames,
            "region": self.region,
            "region_divided": self.region_divided,
            "reference_grid": None if self.reference_grid is None else str(self.reference_grid),
            **({"motion": self.motion} if self.motion else {}),
            **({"bias_field": self.bias_field} if self.bias_field else {}),
            "warnings": self.warnings,
            "notes": self.notes,
            "versions": self.versions,
            "command": self.command,
            "disclaimer": self.disclaimer,
            **({} if self.scribbles is None else {"scribbles": str(self.scribbles)}),
            **({} if self.review is None else {"review": asdict(self.review)}),
            "made_with": self.made_with,
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SideFile:
        """Read what `as_json` gives, of this or an older version.

        Raises:
            LookupError, TypeError, AttributeError, ValueError or ArithmeticError: it is damaged.
        """
        classes = {str(name): int(i) for name, i in content["classes"].items()}
        if not classes or len(set(classes.values())) < len(classes):
            raise ValueError(f"classes {classes}")
        label_map, mixture, quantities = (content.get(key) for key in ("label_map", "mixture", "quantities"))
        command, disclaimer, seconds = (content.get(key) for key in ("command", "disclaimer", "seconds"))
        prior, region, made_with = content.get("prior"), content.get("region"), _mapping(content, "made_with")
        review = _mapping(content, "review")
        _mapping(made_with, "images")
        return cls(
            classes=classes,
            label_map=None if label_map is None else LabelMapRecord.from_json(label_map),
            study=_name(content, "study"),
            patient=_name(content, "patient"),
            visit=_name(content, "visit"),
            method=str(content.get("method", "unknown")),
            settings=_mapping(content, "settings"),
            run=_path(content, "run"),
            prior=prior if isinstance(prior, dict) else None,
            volume_ml={str(name): float(ml) for name, ml in _mapping(content, "volume_ml").items()},
            quantities=None if quantities is None else _checked_quantities(quantities),
            mixture=None if mixture is None else SavedMixture.from_json(mixture),
            details={key: value for key, value in content.items() if key not in _KEYS},
            inputs={str(name): Path(file) for name, file in _mapping(content, "inputs").items()},
            frames={str(name): int(frame) for name, frame in _mapping(content, "frames").items()},
            region=_checked_region(region),
            region_divided=bool(content.get("region_divided", False)),
            reference_grid=_path(content, "reference_grid"),
            motion=_mapping(content, "motion"),
            bias_field=_mapping(content, "bias_field"),
            scribbles=_path(content, "scribbles"),
            warnings=tuple(str(text) for text in content.get("warnings", ())),
            notes=tuple(str(text) for text in content.get("notes", ())),
            made_with=made_with or None,  # older versions did not say
            seconds=None if seconds is None else float(seconds),
            versions={str(name): str(number) for name, number in _mapping(content, "versions").items()},
            command=None if command is None else str(command),
            disclaimer=None if disclaimer is None else str(disclaimer),
            review=Review.from_json(review) if review else None,
        )

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


_KEYS = frozenset(SideFile.__dataclass_fields__) - {"details"}


def _checked_quantities(found: Mapping[str, Any]) -> dict[str, Any]:
    """Clinical numbers whose every value is a number.

    Raises:
        LookupError, TypeError or ValueError: they are not.
    """
    ends = [end for pair in found["intervals"].values() for end in (pair[0], pair[1])]
    rows = (found["volumes"], *found["slices"], *found["segments"])
    values = [value for row in rows for value in row.values() if value is not None]
    if not all(isinstance(number, int | float) for number in (*ends, *values)):
        raise ValueError("a quantity that is no number")
    return {**found, "notes": [str(text) for text in found["notes"]]}


def _checked_region(region: Any) -> str | Mapping[str, Any] | None:
    """Return where a region comes from, with how sure the anatomy stage is of it as numbers.

    Raises:
        TypeError or ValueError: they are none.
    """
    if not isinstance(region, dict):
        return None if region is None else str(region)
    of_the_study = {n: q for n, q in region.items() if "quality" in n and n != "slice_quality"}
    return {**region, **{name: None if q is None else float(q) for name, q in of_the_study.items()}}


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under a key, empty where there is none.

    Raises:
        TypeError: it is something else.
    """
    found = content.get(key)
    if found is not None and not isinstance(found, dict):
        raise TypeError(key)
    return found or {}


def _name(content: Mapping[str, Any], key: str) -> str | None:
    return None if content.get(key) is None else str(content[key])


def _path(content: Mapping[str, Any], key: str) -> Path | None:
    return None if content.get(key) is None else Path(content[key])
