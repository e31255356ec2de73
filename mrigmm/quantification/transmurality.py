"""Transmurality of an infarct, along rays from the cavity's centre within a slice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.geometry import filled, largest_piece, plane_box

N_RAYS = 180
# Samples along a ray per pixel: a pixel at the border counts by the length that the ray runs in it.
_SAMPLES_PER_PIXEL = 8
# Upper ends (%) of the bins after the first, which is exactly 0.
BIN_ENDS = (25, 50, 75, 100)
BIN_NAMES = (
    "rays_percent_at_0",
    *(f"rays_percent_{low}_{high}" for low, high in zip((0, *BIN_ENDS), BIN_ENDS, strict=False)),
)

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


def ray_degrees() -> Floats:
    """Return the angle (N_RAYS,) of each ray, from the first axis of the plane towards the second."""
    return np.arange(N_RAYS) * 360 / N_RAYS


def cavity_body(cavity: Mask, wall: Mask) -> Mask:
    """Return the cavity (X, Y) of a slice in one piece, papillary muscles included.

    Its largest piece with the holes filled; where no cavity is labelled, the hole that the wall encloses.
    Empty where there is neither.
    """
    found = cavity if cavity.any() else filled(wall) & ~wall
    box, body = plane_box(found), np.zeros_like(found)
    body[box] = filled(largest_piece(found[box]))
    return body


def cavity_bodies(cavity: Mask, wall: Mask) -> Mask:
    """Return `cavity_body` of all slices (X, Y, Z)."""
    bodies = np.zeros_like(cavity)
    for z in range(cavity.shape[2]):
        bodies[..., z] = cavity_body(cavity[..., z], wall[..., z])
    return bodies


def centre_mm(body: Mask, axes_mm: Floats) -> Floats:
    """Centre (2,) of a mask (X, Y) in mm from the first pixel.

    Args:
        body: not empty.
        axes_mm: (2, 2), its columns one step along each array axis.
    """
    x, y = (np.arange(n) @ body.sum(axis=1 - axis) for axis, n in enumerate(body.shape))
    return np.asarray(axes_mm @ (np.array([x, y]) / body.sum()))


def ray_transmurality(
    cavity: Mask, wall: Mask, infarct: Mask, axes_mm: Floats, *, body: Mask | None = None
) -> Floats:
    """Return the share (%) of the wall from endocardium to epicardium that is infarct, along each ray.

    A ray starts at the centre of the cavity. The endocardium is where it leaves the cavity for the last
    time, the epicardium where it then leaves the ventricle.

    Args:
        cavity: (X, Y) of one slice.
        wall: (X, Y), infarct included.
        infarct: (X, Y).
        axes_mm: (2, 2), its columns one step along each array axis in mm (not perpendicular when sheared).
        body: `cavity_body`, where it is known.

    Returns:
        (N_RAYS,) percent; NaN where a ray meets no wall, everywhere in a slice without cavity or wall.
    """
    body = cavity_body(cavity, wall) if body is None else body
    if not body.any() or not wall.any():
        return np.full(N_RAYS, np.nan)
    # 1: cavity, 2: wall, 3: infarct; islands of blood in the wall are wall.
    kinds = np.select([body, infarct, wall | cavity], np.array([1, 3, 2], dtype=np.uint8))
    samples = _along_rays(kinds, centre_mm(body, axes_mm), axes_mm)
    place, in_cavity = np.arange(samples.shape[1]), samples == 1
    last = place[-1] - in_cavity[:, ::-1].argmax(axis=1)[:, None]
    beyond = place > last
    left = (beyond & (samples == 0)).argmax(axis=1)[:, None]  # all rays end outside
    infarcted = (beyond & (place < left) & (samples == 3)).sum(axis=1)
    thickness = np.where(in_cavity.any(axis=1), (left - last)[:, 0] - 1, 0)
    return np.asarray(100 * infarcted / np.where(thickness > 0, thickness, np.nan))


def _along_rays(
    values: NDArray[np.integer[Any]], start_mm: Floats, axes_mm: Floats
) -> NDArray[np.integer[Any]]:
    """Return values (N_RAYS, S) at equal steps from a point outwards until all rays have left; 0 outside.

    Steps of which all rays meet nothing but 1 are left out, but for the last of them.
    """
    pixel = np.linalg.norm(axes_mm, axis=0)
    step = float(pixel.min()) / _SAMPLES_PER_PIXEL
    x, y = np.ogrid[: values.shape[0], : values.shape[1]]
    distance = np.hypot(
        *(along[0] * x + along[1] * y - at for along, at in zip(axes_mm, start_mm, strict=True))
    )
    reach, free = distance[values > 0].max(), distance[values != 1].min(initial=np.inf)
    radii = np.arange(0, reach + 2 * pixel.max(), step)
    # No sample is farther from the centre of its pixel than half the sum of the pixel's sides.
    radii = radii[max(int(np.searchsorted(radii, min(free, reach) - pixel.sum() / 2)) - 1, 0) :]
    angles = np.deg2rad(ray_degrees())
    directions = np.stack([np.cos(angles), np.sin(angles)])  # (2, N_RAYS)
    to_index = np.linalg.inv(axes_mm)
    start = to_index @ start_mm
    index = (to_index @ directions)[:, :, None] * radii
    index += start[:, None, None]
    np.rint(index, out=index)
    # What lies beyond the array is outside; the farthest that a ray goes is its end.
    ends = index[..., -1]
    before = np.maximum(-ends.min(axis=1), 0).astype(np.intp)
    after = np.maximum(ends.max(axis=1) - values.shape + 1, 0).astype(np.intp)
    padded = np.zeros(values.shape + before + after, values.dtype)
    padded[before[0] :, before[1] :][: values.shape[0], : values.shape[1]] = values
    index += before[:, None, None]
    index[0] *= padded.shape[1]
    index[0] += index[1]
    return np.asarray(padded.ravel()[index[0].astype(np.intp)])


def summarise_rays(percent: Floats) -> dict[str, float]:
    """Return mean transmurality of rays (any shape) that meet wall, and the share of them (%) in each bin.

    Bins are 0, (0, 25], (25, 50], (50, 75] and (75, 100] %. NaN without such rays.
    """
    found = percent[np.isfinite(percent)]
    if found.size == 0:
        return dict.fromkeys(("transmurality_percent", *BIN_NAMES), np.nan)
    bins = np.bincount(np.searchsorted((0, *BIN_ENDS), found), minlength=len(BIN_NAMES))
    shares = 100 * bins / found.size
    return {
        "transmurality_percent": float(found.mean()),
        **{name: float(share) for name, share in zip(BIN_NAMES, shares, strict=True)},
    }
