"""A study without a region map: all that was acquired, and where its ventricle is when that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigmm.data.crops import NetworkView, network_view
from mrigmm.data.geometry import coverage
from mrigmm.data.manifest import RegionRule, Study
from mrigmm.data.maps import region_map, require_cavity_inside
from mrigmm.data.study import load_study, read_sequences, reference_sequence
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.data.volumes import Volume
from mrigmm.errors import InputError
from mrigmm.labels import Region

# A class that no anatomy forbids anywhere.
_ANYTHING = ("anything",)
# What the anatomy stage tells apart, and the region code of each.
ANATOMY = {"outside": Region.OUTSIDE, "cavity": Region.CAVITY, "wall": Region.WALL}


def load_whole(
    study: Study,
    sequences: Sequence[str],
    labels: Mapping[str, Sequence[int]],
    *,
    images: Mapping[str, Volume] | None = None,
) -> StudyTensors:
    """A study with everything that all of its sequences show as its region, in z-scores over that.

    Args:
        study: the files; a region map is not read.
        sequences: channel order.
        labels: class name -> ids, which tells the frame of a cine where a label does.
        images: what `read_sequences` returned for this study, where the caller has it already.

    Raises:
        InputError: a file cannot be read, no image has contrast, or the sequences have nothing in common.
    """
    study = replace(study, region=None)
    if images is None:
        images = read_sequences(study, sequences, labels)
    reference = images[reference_sequence(images)]
    if all(volume.data.min() == volume.data.max() for volume in images.values()):
        raise InputError(
            "the images show nothing",
            study=study.id,
            file=reference.path,
            expected="images with contrast",
            got=f"one value in all voxels of {', '.join(images)}",
            remedy="leave the study out",
        )
    seen = np.ones(reference.grid.shape, dtype=bool)
    for volume in images.values():
        if not volume.grid.same_as(reference.grid):
            seen &= coverage(reference.grid, volume.grid)
    if not seen.any():
        seen[:] = True  # the error of a grid that lies elsewhere names both
    region = np.where(seen, Region.LV, Region.OUTSIDE).astype(np.uint8)
    return load_study(study, sequences, _ANYTHING, labels=labels, images=images, region=region)


def known_anatomy(
    study: Study, labels: Mapping[str, Sequence[int]], images: Mapping[str, Volume]
) -> NDArray[np.uint8] | None:
    """Codes of `labels.Region` (X, Y, Z) in file order where cavity and wall are told apart.

    Taken from the reference label, where a cohort's classes have blood and wall, else from the region map.

    Returns:
        None when neither tells them apart.

    Raises:
        InputError: a file cannot be read or does not fit.
    """
    reference = images[reference_sequence(images)]
    if study.label is not None and "blood" in labels:
        study = replace(study, region=RegionRule("cavity-wall"))
    if study.region is None:
        return None
    codes = region_map(study, images, reference, labels)
    require_cavity_inside(study, codes, reference.grid)
    return codes if {Region.CAVITY, Region.WALL} <= set(np.unique(codes).tolist()) else None


def middle_view(study: StudyTensors, *, spacing_mm: float, view_mm: float, divisor: int) -> NetworkView:
    """The square in the middle of the image, whose side is the same for every study.

    Args:
        study: of `load_whole`.
        spacing_mm: in-plane pixel.
        view_mm: side of the square, rounded up to a multiple of `divisor` pixels.
        divisor: of the network.
    """
    middle = torch.zeros_like(study.region)
    middle[middle.shape[0] // 2, middle.shape[1] // 2] = int(Region.LV)
    return network_view(
        replace(study, region=middle), spacing_mm=spacing_mm, crop_mm=view_mm, divisor=divisor
    )


def anatomy_channels(study: StudyTensors, codes: NDArray[np.uint8]) -> Tensor:
    """One-hot anatomy (3, X, Y, Z) of a study, from region codes in file order."""
    turned = torch.from_numpy(study.turn.apply(codes))
    return torch.stack([turned == int(code) for code in ANATOMY.values()]).float()
