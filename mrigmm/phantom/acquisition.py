"""Grids, orientation, motion, coil shading and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from mrigmm.phantom.config import REFERENCE_SEQUENCE, SEQUENCES, PhantomConfig
from mrigmm.phantom.effects import add_ghost, reconstruct, vary_slices

FloatArray = NDArray[np.floating[Any]]

# Voxel size of the sequences' own grids relative to that of LGE.
_OWN_SPACING = {"LGE": 1.0, "T2": 1.25, "bSSFP": 1.1}


@dataclass(frozen=True)
class Grid:
    """Voxel grid in the short-axis frame: size (X, Y, Z), position of voxel (0, 0) and spacing in mm."""

    matrix: int
    spacing_mm: float
    origin_mm: tuple[float, float]
    heights_mm: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z)."""
        return self.matrix, self.matrix, len(self.heights_mm)

    def points(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return coordinates in mm, of shapes (X, 1, 1), (1, Y, 1), (1, 1, Z)."""
        steps = np.arange(self.matrix) * self.spacing_mm
        return (
            (self.origin_mm[0] + steps)[:, None, None],
            (self.origin_mm[1] + steps)[None, :, None],
            np.array(self.heights_mm)[None, None, :],
        )


def draw_heights(config: PhantomConfig, *, length_mm: float, rng: np.random.Generator) -> FloatArray:
    """Slice positions (Z,) in mm below the base, equally spaced.

    The stack shrinks to fit the ventricle: first in distance, then in slices.
    """
    fewest, most = config.slices
    count = int(np.clip(round(rng.normal((fewest + most) / 2, (most - fewest) / 4)), fewest, most))
    distance = rng.uniform(*config.slice_distance_mm)
    first = rng.uniform(0.06, 0.16) * length_mm
    room = 0.86 * length_mm - first
    count = min(count, 1 + int(room // config.slice_distance_mm[0]))
    distance = min(distance, room / max(count - 1, 1))
    heights: FloatArray = first + distance * np.arange(count)
    return heights


def draw_grids(config: PhantomConfig, *, heights_mm: FloatArray, rng: np.random.Generator) -> dict[str, Grid]:
    """Return one grid per sequence; all the same unless the configuration asks for separate ones."""
    centre = rng.normal(0, 4, 2)
    shifts = rng.uniform(-5, 5, (len(SEQUENCES), 2))
    grids = {}
    for sequence, shift in zip(SEQUENCES, shifts, strict=True):
        own = config.separate_grids and sequence != REFERENCE_SEQUENCE
        spacing = config.spacing_mm * (_OWN_SPACING[sequence] if own else 1.0)
        matrix = round(config.matrix * config.spacing_mm / spacing)
        corner = -(matrix - 1) / 2 * spacing + centre + (shift if own else 0.0)
        heights = tuple(float(height) for height in heights_mm)
        grids[sequence] = Grid(matrix, spacing, (float(corner[0]), float(corner[1])), heights)
    return grids


def draw_orientation(rng: np.random.Generator) -> FloatArray:
    """Short-axis frame to RAS world, (4, 4): oblique, and far from the axes for most hearts."""
    # columns: x to the left and back, y down, z to the apex (left, front, down)
    typical = np.array([[-0.60, -0.25, -0.76], [-0.75, 0.48, 0.44], [0.26, -0.84, -0.48]])
    left, _, right = np.linalg.svd(typical)
    world = np.eye(4)
    world[:3, :3] = Rotation.from_rotvec(rng.normal(0, 0.15, 3)).as_matrix() @ (left @ right)
    world[:3, 3] = rng.normal(0, 30, 3)
    return world


def grid_affine(grid: Grid, orientation: FloatArray, *, slice_distance_mm: float) -> FloatArray:
    """Return voxel indices to RAS world, (4, 4). `slice_distance_mm` also holds for a single slice."""
    scale = np.diag([grid.spacing_mm, grid.spacing_mm, slice_distance_mm, 1.0])
    scale[:3, 3] = (*grid.origin_mm, grid.heights_mm[0])
    affine: FloatArray = orientation @ scale
    return affine


def draw_motion(config: PhantomConfig, *, n_slices: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Return the in-plane displacement (Z, 2) in mm of the heart in each slice, per sequence; 0 in LGE."""
    motion = {}
    for sequence in SEQUENCES:
        size, direction = rng.uniform(0, 1, n_slices), rng.uniform(0, 2 * np.pi, n_slices)
        reach = 0.0 if sequence == REFERENCE_SEQUENCE else config.motion_mm
        motion[sequence] = reach * size[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1)
    return motion


def to_grid(field: FloatArray, *, source: Grid, target: Grid) -> FloatArray:
    """Return field (..., X, Y, Z) of one grid at the voxels of another one with the same slices, linear."""
    if target == source:
        return field
    x, y = (
        (target.origin_mm[axis] + np.arange(target.matrix) * target.spacing_mm - source.origin_mm[axis])
        / source.spacing_mm
        for axis in range(2)
    )
    where = np.meshgrid(x, y, indexing="ij")
    planes = np.moveaxis(field, -1, -3).reshape(-1, *source.shape[:2])
    moved = np.stack([map_coordinates(plane, where, order=1, mode="wrap") for plane in planes])
    return np.moveaxis(moved.reshape(*field.shape[:-3], field.shape[-1], *target.shape[:2]), -3, -1)


def acquire(
    signal: FloatArray,
    *,
    grid: Grid,
    config: PhantomConfig,
    signed: bool,
    gain: float,
    zero: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the point spread, coil sensitivity and noise.

    Args:
        signal: (X, Y, Z) in LV z-score units.
        grid: its grid.
        config: point spread, shading and noise.
        signed: keep the sign (phase-sensitive) instead of taking the magnitude.
        gain: scanner units per LV z-score unit.
        zero: the zero level: signal that gives intensity 0.
        rng: for shading and noise.

    Returns:
        (X, Y, Z) float32 intensities in scanner units.
    """
    further = rng.spawn(1)[0]  # for effects that came later, so that the draws below stay as they are
    contrast, offset, own_shading = config.slice_drift
    signal = vary_slices(
        signal, contrast=contrast, offset=offset, lowest=None if signed else zero, rng=further
    )
    sigma = (config.psf_mm / grid.spacing_mm,) * 2 + (0,)
    noise = _noise_by_slice(grid, config)
    real, imaginary = (noise * rng.standard_normal(grid.shape, dtype=np.float32) for _ in range(2))
    clean = add_ghost(signal - np.float32(zero), strength=config.ghost, rng=further)
    real, imaginary = (
        reconstruct(
            gaussian_filter(part, sigma),
            spacing_mm=grid.spacing_mm,
            smoothing_mm=config.smoothing_mm,
            sharpening=config.sharpening,
            kspace_share=config.kspace_share,
        )
        for part in (clean + real, imaginary)
    )
    intensity = real if signed else np.hypot(real, imaginary)
    slopes = further.normal(0, own_shading, (2, grid.shape[2]))
    return (gain * intensity * _sensitivity(grid, config, slopes, rng)).astype(np.float32)


def _noise_by_slice(grid: Grid, config: PhantomConfig) -> FloatArray:
    """Return the SD of the noise (Z,): as configured at the base, times `apex_noise` in the lowest slice."""
    heights = np.array(grid.heights_mm)
    way = (heights - heights.min()) / max(np.ptp(heights), 1e-6)
    noise: FloatArray = (config.noise * (1 + (config.apex_noise - 1) * way)).astype(np.float32)
    return noise


def _sensitivity(
    grid: Grid, config: PhantomConfig, slopes: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Return a smooth coil sensitivity (X, Y, Z), mean about 1: a random plane and a random paraboloid.

    `slopes` (2, Z) tilt the plane in each slice.
    """
    x, y, _ = grid.points()
    u, v = x / 40.0, y / 40.0  # 40 mm: about the radius of the heart
    slope, bend = rng.normal(0, config.shading, 2), rng.normal(0, config.shading / 4, 3)
    plane = slope[0] * u + slope[1] * v + bend[0] * u * u + bend[1] * u * v + bend[2] * v * v
    plane = plane + slopes[0] * u + slopes[1] * v
    sensitivity: FloatArray = np.exp(np.clip(plane, -1.0, 1.0))
    return sensitivity
