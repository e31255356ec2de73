"""Region maps and reference labels of a study, in the program's own codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import Grid, turned_onto
from mrigmm.data.in_memory import LoadedStudy
from mrigmm.data.manifest import RegionRule, Study
from mrigmm.data.quality import codes_slices_last, exchanged, slice_shapes
from mrigmm.data.volumes import Volume, read_map
from mrigmm.errors import InputError
from mrigmm.labels import (
    AUXILIARY_NAMES,
    BACKGROUND_ID,
    CAVITY_CLASSES,
    REGION_FILE_IDS,
    Region,
    allowed_classes,
    class_ids,
)

# Label maps inside the program: class index from 0; everything that is no class has this value.
NO_CLASS = -1

# What writes a region map with its ids exchanged; nibabel is there wherever this package is.
_EXCHANGE = (
    'python -c "import nibabel as n, numpy as np, sys; f = n.load(sys.argv[1]); '
    "n.save(n.Nifti1Image(np.array([0, 2, 1], np.uint8)[np.uint8(f.dataobj)], f.affine, f.header), "
    'sys.argv[2])" OLD.nii.gz NEW.nii.gz'
)


def read_reference_label(
    study: Study, grid: Grid, labels: Mapping[str, Sequence[int]], classes: Sequence[str]
) -> NDArray[np.int64]:
    """Reference label (X, Y, Z) in file order as class indices, `NO_CLASS` elsewhere.

    Raises:
        InputError: when it is missing, has unknown ids or lies on another grid than `grid`.
    """
    volume = reference_volume(study, grid, labels)
    return reference_classes(volume, labels, classes)


def reference_volume(study: Study, grid: Grid, labels: Mapping[str, Sequence[int]]) -> Volume:
    """Reference label with the file's ids, in the order of `grid`.

    Raises:
        InputError: when it is missing, has unknown ids or lies on another grid than `grid`.
    """
    return on_grid(_label_volume(study, labels), grid, study.id, "label")


def reference_classes(
    reference: Volume, labels: Mapping[str, Sequence[int]], classes: Sequence[str]
) -> NDArray[np.int64]:
    """Ids of a reference label as class indices (X, Y, Z), `NO_CLASS` elsewhere."""
    return class_indices(reference.data, [labels.get(name, ()) for name in classes])


def read_scribbles(
    path: Path, grid: Grid, region: NDArray[np.uint8], classes: Sequence[str], *, study: str
) -> NDArray[np.int64]:
    """Classes that a user named in a few voxels (X, Y, Z) in file order, `NO_CLASS` elsewhere.

    Args:
        path: map with the ids of our own label maps (`labels.class_ids`); 0 says nothing.
        grid: that it must lie on.
        region: (X, Y, Z) region codes.
        classes: of the mixture.
        study: id, for messages.

    Raises:
        InputError: unknown ids, another grid, or a class where the region does not allow it.
    """
    ids = class_ids(classes)
    volume = read_map(path, study=study, role="scribbles", known=(BACKGROUND_ID, *ids.values()))
    volume = on_grid(volume, grid, study, "scribbles")
    named = class_indices(volume.data, [(i,) for i in ids.values()])
    allowed = np.array(allowed_classes(classes))
    allowed[Region.OUTSIDE] = False
    wrong = (named != NO_CLASS) & ~allowed[region, named]
    if wrong.any():
        outside = int((wrong & (region == Region.OUTSIDE)).sum())
        raise InputError(
            "there are scribbles where the region map does not allow their class",
            study=study,
            file=path,
            expected="scribbles inside the region; blood in the cavity and the other tissues in the wall",
            got=f"{int(wrong.sum())} voxels, {outside} of them outside the region",
            remedy="set them to 0, or correct the region map",
        )
    return named


def _label_volume(study: Study, labels: Mapping[str, Sequence[int]]) -> Volume:
    if study.label is None:
        raise InputError(
            "the study has no reference label", study=study.id, remedy="add 'label' to it in the manifest"
        )
    known = [i for ids in labels.values() for i in ids]
    if not known:
        raise InputError(
            "the label ids of this cohort are not known",
            study=study.id,
            file=study.label,
            remedy="add 'labels' (class name -> id) to the manifest",
        )
    return read_map(study.label, study=study.id, role="label", known=known)


def class_indices(labels: NDArray[Any], ids: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Ids of a label map as indices into groups of them, `NO_CLASS` elsewhere."""
    indices = np.full(labels.shape, NO_CLASS, dtype=np.int64)
    for index, group in enumerate(ids):
        indices[np.isin(labels, group)] = index
    return indices


def region_map(
    study: Study, images: Mapping[str, Volume], reference: Volume, labels: Mapping[str, Sequence[int]]
) -> NDArray[np.uint8]:
    """Region codes (X, Y, Z) of a study, from its file or by its rule.

    Args:
        study: the files.
        images: the sequences that were read.
        reference: the one that gives the grid.
        labels: class name -> ids, for rules that derive the region from the reference label.

    Raises:
        InputError: no region, another grid, unknown ids, or an empty region.
    """
    if isinstance(study, LoadedStudy) and study.drawn is not None:
        return _region_of(study.drawn, reference.grid, study.id)
    if study.region is None:
        raise InputError(
            "the study has no region map, and a mixture is fitted inside one",
            study=study.id,
            expected="a map of the left ventricle: 1 inside, or 1 = cavity and 2 = wall",
            remedy="name it as 'region' of the study in the manifest (mrigmm manifest: --region, "
            "--region-from-labels), or let a run of train-anatomy find it: --anatomy RUN",
        )
    if isinstance(study.region, RegionRule):
        file = study.label if study.region.kind != "nonzero" else reference.path
        region = _derived_region(study, study.region, images, reference, labels)
        return _not_empty(region, study.id, file)
    drawn = read_map(study.region, study=study.id, role="region", known=REGION_FILE_IDS)
    return _region_of(drawn, reference.grid, study.id)


def _region_of(drawn: Volume, grid: Grid, study: str) -> NDArray[np.uint8]:
    """Region codes (X, Y, Z) on a grid, of a map with the ids of a file."""
    drawn = on_grid(drawn, grid, study, "region")
    ids = drawn.data.astype(np.uint8)
    # A file's 1 is the whole ventricle, unless the map has a wall; then it is the cavity.
    inner = Region.CAVITY if (ids == 2).any() else Region.LV
    codes = np.array([Region.OUTSIDE, inner, Region.WALL], dtype=np.uint8)
    return _not_empty(codes[ids], study, drawn.path)


def _not_empty(region: NDArray[np.uint8], study: str, file: Path | None) -> NDArray[np.uint8]:
    if not region.any():
        raise InputError(
            "the region is empty",
            study=study,
            file=file,
            expected="voxels above 0",
            got="none",
            remedy="check the file, or leave the study out" if file is not None else "check the map",
        )
    return region


def own_region(study: Study, labels: Mapping[str, Sequence[int]]) -> tuple[NDArray[np.bool_], Grid] | None:
    """The region on the grid of its own file, whatever the images are; None when no file holds it.

    Raises:
        InputError: as `region_map`.
    """
    if isinstance(study, LoadedStudy) and study.drawn is not None:
        return study.drawn.data > 0, study.drawn.grid
    if study.region is None or (isinstance(study.region, RegionRule) and study.region.kind == "nonzero"):
        return None
    if isinstance(study.region, RegionRule):
        volume = _label_volume(study, labels)
        classes = [name for name in labels if name not in AUXILIARY_NAMES]
        return reference_classes(volume, labels, classes) != NO_CLASS, volume.grid
    volume = read_map(study.region, study=study.id, role="region", known=REGION_FILE_IDS)
    return volume.data > 0, volume.grid


def derived_from_label(study: Study) -> bool:
    """Return whether a rule makes the region map from the reference label."""
    return isinstance(study.region, RegionRule) and study.region.kind != "nonzero"


def region_from_label(study: Study) -> bool:
    """Return whether the region map is made from, or is, the reference label: then it gives answers away."""
    if isinstance(study.region, RegionRule):
        return derived_from_label(study)
    return study.region is not None and study.label is not None and study.region == study.label


def _derived_region(
    study: Study,
    rule: RegionRule,
    images: Mapping[str, Volume],
    reference: Volume,
    labels: Mapping[str, Sequence[int]],
) -> NDArray[np.uint8]:
    if rule.kind == "nonzero":
        inside = np.ones(reference.grid.shape, dtype=bool)
        for name, volume in images.items():
            require_grid(volume, reference.grid, study.id, name)
            inside &= volume.data > 0
        return np.where(inside, Region.LV, Region.OUTSIDE).astype(np.uint8)
    classes = [name for name in labels if name not in AUXILIARY_NAMES]
    index = read_reference_label(study, reference.grid, labels, classes)
    if rule.kind == "lv":
        return np.where(index != NO_CLASS, Region.LV, Region.OUTSIDE).astype(np.uint8)
    cavity = np.isin(index, [i for i, name in enumerate(classes) if name in CAVITY_CLASSES])
    region = np.where(index != NO_CLASS, Region.WALL, Region.OUTSIDE)
    return np.where(cavity, Region.CAVITY, region).astype(np.uint8)


def require_cavity_inside(study: Study, region: NDArray[np.uint8], grid: Grid) -> None:
    """Refuse a left ventricle whose cavity and wall have changed places, whatever it was read from.

    Args:
        study: the files.
        region: (X, Y, Z) region codes of `region_map`.
        grid: of the region.

    Raises:
        InputError: the wall lies inside the cavity.
    """
    if not {Region.CAVITY, Region.WALL} <= set(np.unique(region).tolist()):
        return
    codes, spacing = codes_slices_last(region, grid)
    slices = exchanged(slice_shapes(codes, spacing))
    if not slices:
        return
    both = (codes == Region.CAVITY).any(axis=(0, 1)) & (codes == Region.WALL).any(axis=(0, 1))
    some = "" if len(slices) == both.sum() else f", in slices {', '.join(map(str, slices))} (from 1)"
    if derived_from_label(study):
        raise InputError(
            "cavity and wall are exchanged: the classes of the wall lie inside the blood",
            study=study.id,
            file=study.label,
            expected="blood that the classes of the wall enclose",
            got=f"a wall that blood encloses{some}",
            remedy="exchange the ids of blood and of the wall's classes under 'labels' in the manifest",
        )
    raise InputError(
        "cavity and wall are exchanged: the region map's 2 lies inside its 1",
        study=study.id,
        file=study.region,
        expected="1 = cavity that 2 = wall encloses",
        got=f"2 that 1 encloses{some}",
        remedy=f"exchange 1 and 2 in the map and give the new file: {_EXCHANGE}",
    )


def where_classes_fit(study: Study, region: NDArray[np.uint8], classes: Sequence[str]) -> NDArray[np.uint8]:
    """The region without the voxels where no class is allowed (the cavity, without a blood class)."""
    fits = np.array([any(row) for row in allowed_classes(classes)])
    if fits.all():
        return region
    restricted = np.where(fits[region], region, Region.OUTSIDE).astype(np.uint8)
    if not restricted.any():
        raise InputError(
            "the region holds none of the classes",
            study=study.id,
            expected=f"voxels where {', '.join(classes)} can occur",
            got="only " + " and ".join(Region(code).name.lower() for code in np.unique(region) if code),
            remedy="give a region map that fits the classes",
        )
    return restricted


def on_grid(volume: Volume, expected: Grid, study: str, role: str) -> Volume:
    """A map in the order of a grid; programs flip and permute the axes of the maps that they save.

    Raises:
        InputError: the map has other voxels than the grid.
    """
    if volume.grid.same_as(expected):
        return volume
    data = turned_onto(volume.data, volume.grid, expected)
    if data is None:
        raise _other_grid(volume, expected, study, role)
    return replace(volume, data=data, grid=expected, stored_shape=expected.shape)


def require_grid(volume: Volume, expected: Grid, study: str, role: str) -> None:
    """Refuse a map that does not lie on the expected grid."""
    if not volume.grid.same_as(expected):
        raise _other_grid(volume, expected, study, role)


def _other_grid(volume: Volume, expected: Grid, study: str, role: str) -> InputError:
    difference = volume.grid.difference_mm(expected)
    distance = "" if np.isinf(difference) else f"; corners differ by up to {difference:.1f} mm"
    return InputError(
        f"the {role} map is not on the grid of the reference sequence",
        study=study,
        file=volume.path,
        expected=expected.describe(),
        got=volume.grid.describe() + distance,
        remedy="resample the map onto the reference sequence (nearest neighbour), or copy that header "
        "if only the header was lost",
    )
