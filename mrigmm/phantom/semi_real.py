"""Semi-real studies: contours and bSSFP frame of a real patient, simulated lesions, LGE and T2.

Written for the Sunnybrook Cardiac Data (CC0): `<patient>_ED.nii.gz` is an end-diastolic bSSFP stack,
`<patient>_ED_label.nii.gz` its contours as 0 background, 1 cavity, 2 wall.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from mrigmm.errors import InputError
from mrigmm.phantom.acquisition import Grid
from mrigmm.phantom.config import PhantomConfig
from mrigmm.phantom.pathology import draw_infarct
from mrigmm.phantom.shape import Tissue, TissueArray, WallPosition
from mrigmm.phantom.study import SimulatedStudy, Streams, TrueMixture, image_heart, study_name

FloatArray = NDArray[np.floating[Any]]

_CAVITY, _WALL = 1, 2
_REAL_SEQUENCE = "bSSFP"
# Signal of surrounding tissue in bSSFP, relative to blood in the LV cavity.
_AIR_BELOW, _MUSCLE_BELOW = 0.15, 0.6
_ABOVE_APEX_MM = 10.0  # from the last contoured slice to the apex
_RV_REACH_MM, _RV_HALF_ANGLE = 35.0, np.deg2rad(75)


@dataclass(frozen=True)
class RealHeart:
    """Anatomy looked up in maps made from real contours; an `Anatomy`.

    Attributes:
        grid: of the maps, in a frame whose origin lies in the cavity.
        tissue: (X, Y, Z). angle: (X, Y, Z) rad, pi towards the right ventricle. depth: (X, Y, Z).
        frame: (X, Y, Z) the real bSSFP image.
        affine: (4, 4) of the files.
    """

    grid: Grid
    tissue: TissueArray
    angle: FloatArray
    depth: FloatArray
    frame: NDArray[np.float32]
    affine: FloatArray

    def locate(self, x: FloatArray, y: FloatArray, z: FloatArray) -> WallPosition:
        """Anatomy at points in mm, of the nearest voxel."""
        columns = []
        for axis, position in enumerate((x, y)):
            steps = np.rint((position - self.grid.origin_mm[axis]) / self.grid.spacing_mm).astype(int)
            columns.append(np.clip(steps, 0, self.grid.matrix - 1))
        heights = np.array(self.grid.heights_mm)
        slices = np.abs(z[..., None] - heights).argmin(axis=-1)
        where = tuple(np.broadcast_arrays(*columns, slices))
        return WallPosition(self.tissue[where], self.angle[where], self.depth[where])


def read_hearts(folder: Path) -> list[RealHeart]:
    """Read every patient of a folder, in the order of the names.

    Raises:
        InputError: no patient there, a stack without its contours, or one that is not square.
    """
    paths = sorted(folder.glob("*_ED.nii.gz"))
    if not paths:
        raise InputError(
            "no real anatomy found",
            file=folder,
            expected="files <patient>_ED.nii.gz and <patient>_ED_label.nii.gz",
            remedy="name the folder with the converted Sunnybrook data",
        )
    return [_read_heart(path) for path in paths]


def _read_heart(path: Path) -> RealHeart:
    contours = path.with_name(path.name.replace("_ED.nii.gz", "_ED_label.nii.gz"))
    if not contours.is_file():
        raise InputError("a stack has no contours", file=path, expected=contours.name)
    image, drawn = nib.Nifti1Image.from_filename(path), nib.Nifti1Image.from_filename(contours)
    frame, label = image.get_fdata(dtype=np.float32), np.asarray(drawn.dataobj)
    if frame.shape != label.shape or frame.shape[0] != frame.shape[1]:
        raise InputError(
            "stack and contours do not fit",
            file=path,
            expected=f"a square matrix like that of {contours.name}, {label.shape}",
            got=str(frame.shape),
        )
    used = (label == _CAVITY).any(axis=(0, 1)) & (label == _WALL).any(axis=(0, 1))
    first, last = np.flatnonzero(used)[[0, -1]]
    frame, label = frame[..., first : last + 1], label[..., first : last + 1]
    affine = image.affine.copy()
    affine[:3, 3] += first * affine[:3, 2]
    grid = _frame_grid(label, affine)
    blood = float(np.median(frame[label == _CAVITY]))
    angle, depth, outside_mm = _wall_coordinates(label, frame / blood, grid)
    tissue = _classify(
        label, frame / blood, angle, outside_mm, wall=float(np.median(frame[label == _WALL])) / blood
    )
    return RealHeart(grid, tissue, angle, depth, frame, affine)


def _frame_grid(label: NDArray[Any], affine: FloatArray) -> Grid:
    """Return the grid in mm with the origin in the cavity and heights that grow from base to apex."""
    spacing, distance = (float(np.linalg.norm(affine[:3, axis])) for axis in (0, 2))
    centre = np.argwhere(label == _CAVITY).mean(axis=0) * spacing
    heights = distance * np.arange(label.shape[2])
    area = (label == _CAVITY).sum(axis=(0, 1))
    if area[0] < area[-1]:  # stored from the apex up
        heights = heights[::-1]
    return Grid(label.shape[0], spacing, (-float(centre[0]), -float(centre[1])), tuple(map(float, heights)))


def _wall_coordinates(
    label: NDArray[Any], ratio: FloatArray, grid: Grid
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the angle (pi towards the right ventricle), depth and distance outside the epicardium in mm."""
    angle, depth, outside = (np.zeros(label.shape, dtype=np.float32) for _ in range(3))
    positions = np.indices(label.shape[:2])
    for z in range(label.shape[2]):
        inside, cavity = label[..., z] > 0, label[..., z] == _CAVITY
        centre = np.argwhere(inside).mean(axis=0)
        angle[..., z] = np.arctan2(positions[1] - centre[1], positions[0] - centre[0])
        outer, inner = distance_transform_edt(inside), distance_transform_edt(~cavity)
        depth[..., z] = outer / np.maximum(outer + inner, 1e-6)
        outside[..., z] = distance_transform_edt(~inside) * grid.spacing_mm
    # The brightest side around the heart is the right ventricle.
    ring = (outside > 4) & (outside < 25) & (ratio > _MUSCLE_BELOW)
    towards_rv = np.angle(np.exp(1j * angle[ring]).mean())
    angle = np.angle(np.exp(1j * (angle - towards_rv + np.pi))).astype(np.float32)
    return angle, depth, outside


def _classify(
    label: NDArray[Any], ratio: FloatArray, angle: FloatArray, outside_mm: FloatArray, *, wall: float
) -> TissueArray:
    """Return tissue from the contours and, around them and in the cavity, from the brightness of bSSFP."""
    tissue: TissueArray = np.full(label.shape, Tissue.FAT, dtype=np.uint8)
    near = (outside_mm < _RV_REACH_MM) & (np.pi - np.abs(angle) < _RV_HALF_ANGLE)
    tissue[near] = Tissue.RV_BLOOD
    tissue[ratio < _MUSCLE_BELOW] = Tissue.MUSCLE
    tissue[ratio < _AIR_BELOW] = Tissue.LUNG
    tissue[label == _CAVITY] = Tissue.BLOOD
    tissue[(label == _CAVITY) & (ratio < (1 + wall) / 2)] = Tissue.PAPILLARY
    tissue[label == _WALL] = Tissue.MYOCARDIUM
    return tissue


def simulate_semi_real(heart: RealHeart, config: PhantomConfig, *, seed: int, index: int) -> SimulatedStudy:
    """Simulate study `index` of the cohort `seed` in a real heart.

    The real frame stands for bSSFP as it is, on the grid that LGE and T2 share with it; the reader's
    endo- and epicardial contours are the real ones. The configuration's grid has no effect, and the
    true mixture covers LGE and T2.
    """
    streams = Streams.of(seed, index)
    heights = np.array(heart.grid.heights_mm)
    length = float(np.ptp(heights)) + _ABOVE_APEX_MM
    infarct = draw_infarct(config, length_mm=length, heights_mm=heights, rng=streams.lesion, number=index)
    simulated = ("LGE", "T2")
    study = image_heart(
        heart,
        infarct,
        grids=dict.fromkeys(simulated, heart.grid),
        affines=dict.fromkeys(simulated, heart.affine),
        config=replace(config, observer_border_mm=0.0),
        streams=streams,
        name=study_name(index),
    )
    keep = np.arange(len(simulated))
    mixture = TrueMixture(
        study.mixture.classes,
        simulated,
        study.mixture.weights,
        study.mixture.means[:, keep],
        study.mixture.covariances[:, keep[:, None], keep],
    )
    return replace(
        study,
        sequences=study.sequences | {_REAL_SEQUENCE: heart.frame},
        affines=study.affines | {_REAL_SEQUENCE: heart.affine},
        motion=study.motion | {_REAL_SEQUENCE: np.zeros((len(heights), 2))},
        mixture=mixture,
    )
