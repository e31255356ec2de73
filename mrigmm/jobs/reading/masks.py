"""Label maps that no prediction stands behind: a folder or file of masks, and what their ids mean.

A folder that `predict` or `measure` wrote is read by the same `Reader`, so that whoever drew or computed a
label map is compared in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid
from mrigmm.data.manifest import check_study_id
from mrigmm.data.manifest_structure import ManifestStructure
from mrigmm.data.maps import on_grid
from mrigmm.data.side_file import SideFile
from mrigmm.data.sources.base import NIFTI, Folder, list_folder, stem
from mrigmm.data.sources.file_names import read_name
from mrigmm.data.sources.files import Match, matching
from mrigmm.data.sources.names import class_name, label_ids
from mrigmm.data.sources.nnunet import dataset_labels
from mrigmm.data.visits import visit_of
from mrigmm.data.volumes import Volume, read_map
from mrigmm.errors import InputError, Problem, some_of
from mrigmm.jobs.common import LABELS_SUFFIX
from mrigmm.jobs.reading.failures import is_side_file
from mrigmm.jobs.reading.prediction_folder import (
    Prediction,
    predicted_studies,
    read_prediction,
    require_different,
    require_predictions,
)
from mrigmm.labels import AUXILIARY_NAMES, BACKGROUND_ID, SCHEMES, class_ids

MASKS = "given masks"  # the method of a label map that was given
# Schemes that files show by ids that no other scheme has.
_TOLD_BY = (("myops", {1220, 2221}), ("mscmr", {200, 500}))


@dataclass(frozen=True)
class Mask(Prediction):
    """A label map that was given, with the ids of our own; `rv` is right-ventricular blood (X, Y, Z)."""

    rv: NDArray[np.bool_] | None = None

    def probabilities(self) -> Volume | None:
        """Return None: a mask has none."""
        return None

    def right_ventricle(self) -> NDArray[np.bool_] | None:
        """Where (X, Y, Z) the mask has blood of the right ventricle; None where it has no such class."""
        return self.rv


@dataclass(frozen=True)
class Reader:
    """Whoever made the label maps of a folder, or of one file.

    Attributes:
        source: folder or file.
        masks: study id -> mask and, where the names tell, patient and visit; None of predictions.
        labels: class name -> ids in the masks.
        problems: files that are not read, and what to know.
    """

    source: Path
    masks: Mapping[str, Match] | None = None
    labels: Mapping[str, Sequence[int]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def studies(self) -> tuple[str, ...]:
        """Ids, in order."""
        return predicted_studies(self.source) if self.masks is None else tuple(self.masks)

    def read(self, study: str) -> Prediction:
        """Read the label map of a study.

        Raises:
            InputError: missing, damaged, or ids that are not known.
        """
        if self.masks is None:
            return read_prediction(self.source, study)
        if study not in self.masks:
            raise InputError(
                "there is no mask of the study",
                study=study,
                file=self.source,
                expected="a file of this id",
                got=some_of(list(self.masks)),
                remedy="name the files of all readers alike",
            )
        return read_mask(Path(self.masks[study].file), study, self.labels)


def is_predictions(source: Path) -> bool:
    """Whether `predict` or `measure` wrote a folder: a label map in it has a side file."""
    return source.is_dir() and any(
        is_side_file(file.with_name(f"{file.name.removesuffix(LABELS_SUFFIX)}.json"))
        for file in source.glob(f"*{LABELS_SUFFIX}")
    )


def open_reader(source: Path, labels: str | None = None, pattern: str | None = None) -> Reader:
    """Open a folder of predictions, or a folder or file of masks.

    Args:
        source: folder or file.
        labels: what the ids of masks mean (`label_ids`); default as `dataset.json` or the ids tell it.
        pattern: names of the masks, with `{id}`, or `{patient}` and `{visit}`; default as the names tell it.

    Raises:
        InputError: there are no masks, or it is not known what their ids mean.
    """
    if labels is None and pattern is None and is_predictions(source):
        return Reader(source)
    masks, problems = find_masks(source, pattern)
    known = mask_labels(source, [Path(match.file) for match in masks.values()], labels)
    return Reader(source, masks, known, tuple(problems))


def open_readers(sources: Sequence[Path], labels: Sequence[str] = ()) -> list[Reader]:
    """Open what several readers made.

    Args:
        sources: folders, or files.
        labels: what the ids of masks mean; one for all, or one for each source that has no side files.

    Raises:
        InputError: a source has no label maps, is given twice, or it is not known what its ids mean.
    """
    for source in sources:
        if not source.is_file() and not any(re.search(f"{NIFTI}$", f.name, re.I) for f in source.rglob("*")):
            require_predictions(source)
    require_different(sources)
    plain = [source for source in sources if not is_predictions(source)]
    if len(labels) > 1 and len(labels) != len(plain):
        raise InputError(
            "--labels does not say what the ids of which masks mean",
            expected=f"once for all masks, or once for each of {len(plain)}: {', '.join(map(str, plain))}",
            got=f"{len(labels)} times",
        )
    meaning = dict(zip(plain, labels if len(labels) > 1 else [*labels] * len(plain), strict=bool(labels)))
    return [open_reader(source, meaning.get(source)) for source in sources]


def find_masks(source: Path, pattern: str | None = None) -> tuple[dict[str, Match], list[Problem]]:
    """Masks by study id, and files that are left out.

    Where some names have a word for masks (`_seg`, `labelsTr/`), the others are taken for images. An id is
    the name without such a word and without what all names end in; where files of several folders have one
    name, the folders are part of it.

    Raises:
        InputError: no such file or folder, or no mask in it.
    """
    if source.is_file():
        study = _id(source.name)
        return {study: Match(study, str(source), *(visit_of(study) or (None, None)))}, []
    folder = list_folder(source)
    if pattern is not None:
        found = list(matching(folder, pattern))
        left_out: list[str] = []
    else:
        files = [file for file in folder.files if re.search(f"{NIFTI}$", file, re.I)]
        told = [file for file in files if read_name(file).mask] or files
        left_out = [file for file in files if file not in told]
        found = [Match(study, file, *(visit_of(study) or (None, None))) for study, file in _ids(told)]
    if not found:
        raise InputError(
            "there are no masks in the folder",
            file=source,
            expected="NIfTI files" if pattern is None else f"files named {pattern}",
            got=folder.describe(),
            remedy="give the folder that holds them, or name them with --pattern '{id}_seg.nii.gz'",
        )
    problems = []
    if left_out:
        what = f"left out, since no word in their names says that they are masks: {some_of(left_out)}"
        problems.append(Problem(what, file=str(source), severity="note"))
    masks: dict[str, Match] = {}
    twice: dict[str, list[str]] = {}
    for match in found:
        twice.setdefault(match.study.casefold(), []).append(match.file)
        masks[match.study] = match._replace(file=str(folder.root / match.file))
    for study in list(masks):
        files, reason = twice[study.casefold()], check_study_id(study)
        if len(files) > 1 or reason is not None:
            del masks[study]
            what = f"the study id cannot be used: {reason}" if reason else "two masks have one study id"
            remedy = "rename it, or tell the ids with --pattern '{id}_seg.nii.gz'"
            problems.append(Problem(what, study, str(source), got=" and ".join(files), remedy=remedy))
    if not masks:
        raise InputError.from_problems(problems)
    return masks, problems


def mask_labels(source: Path, files: Sequence[Path], labels: str | None) -> dict[str, tuple[int, ...]]:
    """Class name -> ids of masks: as given, by nnU-Net's `dataset.json`, or by ids that one scheme has.

    Obstruction counts as scar, also where only its own id is given.

    Raises:
        InputError: not known what the ids mean, or the same id for two classes.
    """
    if labels is not None:
        given: Mapping[str, Sequence[int]] = label_ids(labels)
        named = {name if name == "mvo" else class_name(name, {}): ids for name, ids in given.items()}
        if len(named) < len(given):  # two names of one class are told as they were given
            named = dict(given)
    else:
        named = dict(_recorded(source) or _recognised(source, files))
    structure = ManifestStructure(source, source)
    known = structure.labels({name: list(ids) for name, ids in named.items()})
    if structure.problems:
        raise InputError.from_problems(structure.problems)
    if "mvo" in known:
        known["scar"] = tuple(dict.fromkeys((*known.get("scar", ()), *known["mvo"])))
    if not any(name not in AUXILIARY_NAMES and ids for name, ids in known.items()):
        raise InputError("the labels name no class to measure", file=source, got=", ".join(known))
    return known


def read_mask(file: Path, study: str, labels: Mapping[str, Sequence[int]]) -> Mask:
    """Read one mask, with the ids of our own label maps.

    Args:
        file: NIfTI file.
        study: study id.
        labels: class name -> ids in the file; a class without ids is not looked for.

    Raises:
        InputError: missing, damaged, fractions, unknown ids, several volumes; or nothing is labelled in a
            mask that should have a wall.
    """
    known = sorted({i for ids in labels.values() for i in ids})
    volume = read_map(file, study=study, role="mask", known=known)
    classes = [name for name, ids in labels.items() if ids and name not in AUXILIARY_NAMES]
    ids = class_ids(classes)
    data = np.full(volume.data.shape, BACKGROUND_ID, dtype=np.int64)
    for name in classes:
        data[np.isin(volume.data, labels[name])] = ids[name]
    if not data.any() and "myocardium" in classes:
        raise InputError(
            "the mask is empty",
            study=study,
            file=file,
            expected=f"voxels of {', '.join(classes)}",
            got="background only",
            remedy="draw it, or leave the study out",
        )

    def part(name: str) -> NDArray[np.bool_] | None:
        return np.isin(volume.data, labels[name]) if labels.get(name) else None

    side = SideFile(classes=ids, study=study, method=MASKS)
    return Mask(
        study,
        file.parent,
        replace(volume, data=data),
        side,
        part("mvo"),
        (),
        edited=False,
        rv=part("rv_blood"),
    )


def turned(prediction: Prediction, grid: Grid, role: str = "mask") -> Mask:
    """A label map, and obstruction and right ventricle beside it, in the order of a grid.

    Args:
        prediction: the label map.
        grid: of the same voxels.
        role: what the map is, for messages.

    Raises:
        InputError: it has other voxels than the grid.
    """
    study, labels = prediction.study, prediction.labels

    def put(mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        if mask is None:
            return None
        volume = replace(labels, data=mask.astype(np.int64))
        return np.asarray(on_grid(volume, grid, study, role).data > 0)

    return Mask(
        study,
        prediction.folder,
        replace(on_grid(labels, grid, study, role), grid=grid),
        prediction.side,
        put(prediction.mvo),
        prediction.sequences,
        prediction.edited,
        prediction.edema_sought,
        put(prediction.right_ventricle()),
    )


def _id(path: str) -> str:
    """Return folders and name without the words that say what a file is; if nothing is left, its name."""
    return "_".join(read_name(path).whole) or stem(path)


def _ids(files: Sequence[str]) -> list[tuple[str, str]]:
    """Study id and file of each path, by its name, or by folders and name where two have one name."""
    ids = [_id(file.split("/")[-1]) for file in files]
    if len({name.casefold() for name in ids}) < len(files):
        ids = [_id(file) for file in files]
    words = [name.split("_") for name in ids]
    while len(files) > 1 and all(len(line) > 1 and line[-1] == words[0][-1] for line in words):
        if visit_of(f"x_{words[0][-1]}"):
            break
        words = [line[:-1] for line in words]
    return [("_".join(line), file) for line, file in zip(words, files, strict=True)]


def _recorded(source: Path) -> dict[str, list[int]] | None:
    """Labels by nnU-Net's `dataset.json` beside masks, or one folder above."""
    folder = source if source.is_dir() else source.parent
    for place in (folder, folder.parent):
        if (place / "dataset.json").is_file():
            return dataset_labels(Folder(place, ()), "dataset.json")
    return None


def _recognised(source: Path, files: Iterable[Path]) -> Mapping[str, Sequence[int]]:
    """The scheme whose own ids occur in the masks; raises InputError where the ids say nothing."""
    found: set[int] = set()
    for file in files:
        try:
            found |= {int(i) for i in np.unique(read_map(file, study=file.name, role="mask").data)}
        except InputError:  # told when the study itself is due
            continue
    for name, own in _TOLD_BY:
        if found & own and found <= {i for ids in SCHEMES[name].values() for i in ids}:
            return SCHEMES[name]
    fitting = [name for name, s in SCHEMES.items() if found <= {i for ids in s.values() for i in ids}]
    ids = some_of([str(i) for i in sorted(found)], 12)
    raise InputError(
        "it is not known what the ids in the masks mean",
        file=source,
        expected="--labels SCHEME, or --labels '{blood: 1, myocardium: 2, scar: [3, 4]}'",
        got=f"ids {ids}, which fit {' and '.join(fitting) or 'no scheme'}",
        remedy="say what they mean with --labels",
    )
