"""The ventricle of a study without a region map, found by the pretrained networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from mrigmm.data.study_tensors import WHOLE, PlaneBox, StudyTensors
from mrigmm.data.ventricle import closed_ventricle, divided_ventricle, with_convex_cavity
from mrigmm.data.whole import middle_view
from mrigmm.errors import InputError, Problem
from mrigmm.labels import SEGMENTER_CLASSES, Region
from mrigmm.methods.anatomy import Anatomy
from mrigmm.methods.located_contrast import located_contrast, misnamed
from mrigmm.methods.study_views import NETWORK_SEQUENCES, OTHER, StudyView, centred_view, found_view
from mrigmm.pretrained.folder import PretrainedFolder
from mrigmm.pretrained.networks import PretrainedNetworks, read_networks, shipped_networks

# What the locator was trained on (`phantom.generator.whole`).
_LOCATOR_PIXEL_MM, _LOCATOR_SIDE_MM = 2.5, 320.0
_CAVITY_MM = 10.0  # SD of the Gaussian that a cavity is looked for with
_REACH_MM = 40.0  # of the cavity around the best place
_MOVED_MM = 6.0  # a square that is farther from the ventricle's centre is laid anew
# There is no heart where both are low: the smoothed probability of cavity at the best place, mean over the
# slices that show the most of it, and the mean probability of what the segmenter calls ventricle there.
LOWEST_LOCATED, LOWEST_QUALITY = 0.7, 0.75
_MIN_SLICES = 3

_BLOOD = SEGMENTER_CLASSES.index("blood")
_WALL = [SEGMENTER_CLASSES.index(name) for name in ("myocardium", "edema", "scar", "mvo")]


@dataclass(frozen=True)
class FoundAnatomy(Anatomy):
    """Ventricle that the networks found.

    Attributes:
        located: how sure the locator is, 0 to 1.
    """

    located: float


@dataclass(frozen=True)
class Located:
    """Place of the ventricle by the locator.

    Attributes:
        centre: of the ventricle in voxels of X and Y, one for the stack.
        sure: how sure it is, 0 to 1.
        contrasts: sequence -> `located_contrast`, of those that show a cavity.
    """

    centre: tuple[float, float]
    sure: float
    contrasts: dict[str, float]


class NetworkFinder:
    """Locator, then segmenter with nothing given.

    Args:
        device: where they are computed; they are read when they are first needed.
        folder: of `mrigmm pretrain`; None: the networks that ship with the package.
    """

    sequences = (*NETWORK_SEQUENCES, OTHER)

    def __init__(self, device: str = "cpu", folder: Path | None = None) -> None:
        self.device, self.folder = device, folder

    @cached_property
    def networks(self) -> PretrainedNetworks:
        """Locator and segmenters."""
        if self.folder is None:
            return shipped_networks(self.device)
        return read_networks(PretrainedFolder(self.folder), torch.device(self.device))

    def find(self, study: StudyTensors) -> FoundAnatomy:
        """Cavity and wall of a study of `load_whole`.

        Raises:
            InputError: there is no ventricle.
        """
        located = self.locate(study)
        centre = located.centre
        probabilities, codes = self._segmented(study, centre)
        if not codes.any():
            raise _no_ventricle(study)
        again = np.argwhere(codes)[:, :2].mean(axis=0)
        moved = np.hypot(*((again - centre) * np.array(study.spacing_mm[:2])))
        if moved > _MOVED_MM:
            probabilities, codes = self._segmented(study, (float(again[0]), float(again[1])))
            if not codes.any():
                raise _no_ventricle(study)
        quality = _slice_quality(probabilities, codes)
        if located.sure < LOWEST_LOCATED and float(np.nanmedian(quality)) < LOWEST_QUALITY:
            raise _no_ventricle(study)
        # In z over the ventricle, blood and scar are told apart better than in z over the square.
        inside = codes > 0
        again_seen = found_view(study, torch.from_numpy(inside))
        codes = divided_ventricle(inside, seen_cavity(self.networks, again_seen))
        return FoundAnatomy(codes, quality, tuple(misnamed(located.contrasts)), located=located.sure)

    def told(self, found: Anatomy) -> Problem:
        """Return that the region is the program's own; a warning where the networks are unsure of it."""
        return Problem(
            "the region is the program's own, found by the pretrained networks and not given (predict "
            "writes it as _region.nii.gz): look at it",
            severity="warning" if found.study_quality < LOWEST_QUALITY else "note",
        )

    def record(self, found: Anatomy) -> dict[str, Any]:
        """Return how sure the networks are of what was found."""
        assert isinstance(found, FoundAnatomy)
        return {
            "found_by": "pretrained networks",
            "quality": found.study_quality,
            "quality_0_to_1": found.study_quality,
            "slice_quality": found.slice_qualities,
            "located_0_to_1": found.located,
            "misnamed": list(found.warnings),
        }

    def locate(self, study: StudyTensors) -> Located:
        """Find the ventricle in the whole slices of all sequences together."""
        view = middle_view(study, spacing_mm=_LOCATOR_PIXEL_MM, view_mm=_LOCATOR_SIDE_MM, divisor=16)
        seen = view.image.float()[study.present]  # (C', A, A, Z)
        n_channels, side, _, n_slices = seen.shape
        slices = seen.permute(0, 3, 1, 2).reshape(-1, side, side)  # (C' * Z, A, A)
        found = self.networks.cavity(slices).reshape(n_channels, n_slices, side, side).mean(dim=0)
        smooth = ndimage.gaussian_filter(found.numpy(), (0, *[_CAVITY_MM / _LOCATOR_PIXEL_MM] * 2))
        total = smooth.mean(axis=0)
        best = np.unravel_index(total.argmax(), total.shape)
        at_best = np.sort(smooth[:, best[0], best[1]])[::-1]
        sure = float(at_best[: max(_MIN_SLICES, n_slices // 2)].mean())
        near = np.hypot(*np.ogrid[-best[0] : side - best[0], -best[1] : side - best[1]])
        weight = found.mean(dim=0).numpy() * (near * _LOCATOR_PIXEL_MM < _REACH_MM)
        peak = torch.zeros(1, side, side, n_slices)
        middle = [round(c) for c in ndimage.center_of_mass(weight + 1e-9)]
        peak[0, middle[0], middle[1]] = 1
        # A peak that survives the way back to voxels of any size.
        spread = torch.from_numpy(ndimage.gaussian_filter(peak.numpy(), (0, 2, 2, 0)))
        on_study = view.to_study_grid(spread)[0].sum(dim=-1).numpy()
        x, y = ndimage.center_of_mass(on_study + 1e-12)
        names = [name for name, there in zip(study.sequences, study.present, strict=True) if there]
        contrasts = {
            name: located_contrast(image.numpy(), found.numpy(), _LOCATOR_PIXEL_MM)
            for name, image in zip(names, seen, strict=True)
        }
        return Located(
            (float(x), float(y)), sure, {name: c for name, c in contrasts.items() if c is not None}
        )

    def _segmented(self, study: StudyTensors, centre: tuple[float, float]) -> tuple[Tensor, np.ndarray]:
        """Class probabilities (K, X, Y, Z) and the closed ventricle (X, Y, Z)."""
        view = centred_view(study, centre)
        probabilities = view.to_study(self.networks.found(view.slices))
        cavity, wall = probabilities[_BLOOD], probabilities[_WALL].sum(dim=0)
        outside = (1 - cavity - wall).clamp_min(0)
        codes = closed_ventricle(torch.stack([outside, cavity, wall]).numpy())
        return probabilities, with_convex_cavity(codes)


def seen_cavity(networks: PretrainedNetworks, view: StudyView, box: PlaneBox = WHOLE) -> np.ndarray:
    """Where (X, Y, Z) bool what finds the wall sees blood rather than wall, in a part of the plane."""
    maps = view.to_study(networks.found(view.slices, again=True), box)
    return np.asarray(maps[_BLOOD] > maps[_WALL].sum(dim=0))


def _slice_quality(probabilities: Tensor, codes: np.ndarray) -> np.ndarray:
    """Mean probability, in each slice, of what its ventricle is called; NaN without a ventricle."""
    wall = probabilities[_WALL].sum(dim=0).numpy()
    called = np.where(codes == Region.CAVITY, probabilities[_BLOOD].numpy(), wall)
    inside = codes > 0
    n = inside.sum(axis=(0, 1))
    total = np.where(inside, called, 0).sum(axis=(0, 1))
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _no_ventricle(study: StudyTensors) -> InputError:
    return InputError(
        "no left ventricle was found",
        study=study.id,
        file=study.output.file,
        expected="short-axis slices of a heart, in LGE, T2 or bSSFP",
        remedy="give a region map, or leave this study out",
    )
