"""The 16 segments of the American Heart Association on a short-axis stack.

M. Cerqueira et al., Standardized myocardial segmentation and nomenclature, Circulation 2002. Segment 17, the
apical cap, is not seen in short-axis slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from mrigmm.data.geometry import plane_box
from mrigmm.quantification.transmurality import cavity_bodies, cavity_body, centre_mm

N_SEGMENTS = 16
N_RINGS = 3
# Right-ventricular blood this near to the left ventricle lies at the septum, behind at most a thin wall.
_SEPTUM_MM = 6.0
# The right ventricle narrows to the apex: at the base its area must be larger by at least this factor.
_BASETO_APEX = 1.5
# An insertion found by the program is not used beyond it: half an AHA segment.
_MOST_SPREAD_DEGREES = 30.0
# From the cavity's centre to the outer border of the wall it is less.
_WIDEST_MM = 80.0
# From base to apex in patients (RAS+): to the left, front and feet; and the cosine within which a stack's
# direction is taken for it: stacks without directions in their header are farther off.
TO_APEX = np.array([-0.76, 0.44, -0.48])
_LEAST_COSINE = 0.7
# Share of the way from the inferior to the anterior insertion that must lead upwards in the patient.
_LEAST_UPWARDS = 0.5

NOT_ABOVE = "by the header, the anterior insertion of the right ventricle is not above the inferior one"

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Orientation:
    """Position of the base and the septum.

    Attributes:
        base_first: whether the first slice of the array is the basal one.
        insertion_degrees: angle of the anterior insertion of the right ventricle around the cavity's
            centre, in the plane's axes (`plane_axes`).
        spread_degrees: circular SD of that angle over the slices, where the program found it; None where
            a user or a reference label showed it.
    """

    base_first: bool
    insertion_degrees: float
    spread_degrees: float | None = None

    @property
    def automatic(self) -> bool:
        """Whether the program found the insertion."""
        return self.spread_degrees is not None


def slice_rings(n_slices: int) -> NDArray[np.int64]:
    """Ring (0 basal, 1 mid-cavity, 2 apical) of each slice between base and apex: equal thirds by centre."""
    return np.floor(N_RINGS * (np.arange(n_slices) + 0.5) / n_slices).astype(np.int64)


def segment_numbers(ring: int, degrees: Floats) -> NDArray[np.int64]:
    """AHA segment (1 to 16) of directions in a ring.

    Args:
        ring: 0 basal (segments 1 to 6), 1 mid-cavity (7 to 12), 2 apical (13 to 16).
        degrees: from the anterior insertion towards the septum. The insertion is the border between the
            anterior and the anteroseptal segment; apical segments have 90 degrees instead of 60, and the
            septal one has the same middle as the two above it.
    """
    turned = np.asarray(degrees) % 360
    if ring < 2:  # anteroseptal (2), inferoseptal, inferior, inferolateral, anterolateral, anterior (1)
        return np.asarray(1 + 6 * ring + (1 + (turned // 60).astype(np.int64)) % 6)
    return np.asarray(13 + (1 + ((turned - 15) % 360 // 90).astype(np.int64)) % 4)


def plane_axes(affine: Floats) -> tuple[Floats, Floats]:
    """Return the slices' plane in world axes.

    Args:
        affine: (4, 4) of an array with the slices along the last axis.

    Returns:
        Two perpendicular unit vectors (3, 2) in the plane, so that the first, the second and the direction
        of rising slices are right-handed in the world; and (2, 2), the steps along the array's first two
        axes in them, in mm.
    """
    steps = affine[:3, :2]
    normal = np.cross(steps[:, 0], steps[:, 1])
    normal *= np.sign(normal @ affine[:3, 2]) / np.linalg.norm(normal)
    first = steps[:, 0] / np.linalg.norm(steps[:, 0])
    axes = np.stack([first, np.cross(normal, first)], axis=1)
    return axes, axes.T @ steps


def towards_septum(base_first: bool) -> int:
    """1 where angles in `plane_axes` rise from the anterior wall over the septum to the inferior, else -1.

    Seen from the apex that way is counter-clockwise: right-handed about the direction from base to apex.
    """
    return 1 if base_first else -1


def insertion_of_point(point_mm: Floats, cavity: Mask, wall: Mask, affine: Floats) -> float | None:
    """Angle (degrees, in `plane_axes`) of a point in world mm around the cavity of the slice next to it.

    None when no slice has a cavity.
    """
    _, in_plane = plane_axes(affine)
    index = np.linalg.inv(affine) @ np.array([*point_mm, 1.0])
    bodies = [cavity_body(cavity[..., z], wall[..., z]) for z in range(cavity.shape[2])]
    usable = [z for z, body in enumerate(bodies) if body.any()]
    if not usable:
        return None
    z = min(usable, key=lambda z: abs(z - index[2]))
    offset = in_plane @ index[:2] - centre_mm(bodies[z], in_plane)
    return float(np.rad2deg(np.arctan2(offset[1], offset[0])) % 360)


def epicardium_at(degrees: float, cavity: Mask, wall: Mask, affine: Floats) -> Floats:
    """Return index and slice (N, 3) of the wall's outer border at an angle of `plane_axes`.

    A row for each slice with cavity and wall, but those whose wall is open there.
    """
    _, in_plane = plane_axes(affine)
    direction = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
    to_index, radii = np.linalg.inv(in_plane), np.arange(0, _WIDEST_MM, 0.25)
    found = []
    for z in range(cavity.shape[2]):
        body = cavity_body(cavity[..., z], wall[..., z])
        if not body.any():
            continue
        ray = to_index @ (centre_mm(body, in_plane)[:, None] + direction[:, None] * radii)  # (2, R)
        x, y = np.rint(ray).astype(np.int64)
        inside = (x >= 0) & (x < wall.shape[0]) & (y >= 0) & (y < wall.shape[1])
        hit = np.flatnonzero(inside)[wall[x[inside], y[inside], z]]
        if hit.size:
            found.append([*ray[:, hit[-1]], z])
    return np.array(found).reshape(-1, 3)


def distance_mm(point_mm: Floats, mask: Mask, affine: Floats) -> float:
    """Distance of a point in world mm from the nearest voxel of a mask (X, Y, Z) that has some."""
    voxels = apply_affine(affine, np.argwhere(mask))
    return float(np.linalg.norm(voxels - point_mm, axis=1).min())


def base_by_rv(rv: Mask, ventricle: Mask) -> bool | None:
    """Return whether the first slice is basal (the right ventricle is larger there); None when unclear.

    Args:
        rv: (X, Y, Z) right-ventricular blood.
        ventricle: (X, Y, Z) left ventricle; three slices of it are needed.
    """
    used = np.flatnonzero(ventricle.any(axis=(0, 1)))
    if used.size < N_RINGS:
        return None
    area = rv.sum(axis=(0, 1))[used]
    third = used.size // N_RINGS
    first, last = float(area[:third].mean()), float(area[-third:].mean())
    if max(first, last) <= _BASETO_APEX * min(first, last):
        return None
    return first > last


def base_by_header(affine: Floats) -> bool | None:
    """Return whether the first slice is basal, as the stack lies in patients (RAS+); None when unclear."""
    cosine = float(affine[:3, 2] @ TO_APEX / np.linalg.norm(affine[:3, 2]) / np.linalg.norm(TO_APEX))
    return None if abs(cosine) < _LEAST_COSINE else cosine > 0


def insertion_by_rv(rv: Mask, cavity: Mask, wall: Mask, affine: Floats, *, base_first: bool) -> float | None:
    """Return the angle (degrees, in `plane_axes`) of the anterior end of the arc where the ventricles meet.

    The circular mean over the slices that have cavity and right ventricle; None without such a slice.
    """
    ends = contact_ends(rv, cavity, wall, affine, base_first=base_first)
    return _mean_degrees(ends[:, 0])[0] if len(ends) else None


def contact_ends(
    rv: Mask, cavity: Mask, wall: Mask, affine: Floats, *, base_first: bool, bodies: Mask | None = None
) -> Floats:
    """Ends (S, 2) of the arc where the ventricles meet: anterior, inferior, of S slices that show both.

    Angles in radians around the cavity's centre, in `plane_axes`. `bodies` are those of `cavity_bodies`,
    where they are known.
    """
    _, in_plane = plane_axes(affine)
    spacing = np.linalg.norm(in_plane, axis=0)
    way = towards_septum(base_first)
    margin = int(np.ceil(_SEPTUM_MM / spacing.min()))
    box = plane_box(cavity | wall, margin=margin)
    rv, wall, cavity = rv[box], wall[box], cavity[box]
    bodies = cavity_bodies(cavity, wall) if bodies is None else bodies[box]
    ends = []
    for z in range(rv.shape[2]):
        body = bodies[..., z]
        near = plane_box(rv[..., z], margin=margin)
        left = (body | wall[..., z])[near]
        if not body.any() or not rv[..., z].any() or not left.any():
            continue
        nearest = ndimage.distance_transform_edt(
            ~left, sampling=spacing, return_distances=False, return_indices=True
        )  # (2, X, Y), the place of the left ventricle's pixel
        places = np.array(np.nonzero(rv[near][..., z]))  # (2, N)
        apart = np.linalg.norm(spacing[:, None] * (places - nearest[:, *places]), axis=0)
        places += np.array([[near[0].start], [near[1].start]])
        places = places[:, apart <= _SEPTUM_MM]
        if not places.size:
            continue
        offsets = in_plane @ places - centre_mm(body, in_plane)[:, None]
        angles = np.arctan2(offsets[1], offsets[0])
        middle = np.angle(np.exp(1j * angles).mean())
        away = np.angle(np.exp(1j * (angles - middle)))  # -pi .. pi around the middle of the arc
        ends.append((middle + way * (way * away).min(), middle + way * (way * away).max()))
    return np.array(ends).reshape(-1, 2)


def automatic_orientation(
    rv: Mask,
    cavity: Mask,
    wall: Mask,
    affine: Floats,
    *,
    base_first: bool | None = None,
    bodies: Mask | None = None,
) -> Orientation | str:
    """Base and anterior insertion as ventricles and header show them, where that is safe.

    The right ventricle narrows to the apex, and the apex lies to the left and front of the base: one of them
    tells the base, and neither may tell the opposite. That, and a world that is right-handed, tell the
    anterior end of the arc where the ventricles meet, which must then be the upper one (`anterior_above`).

    Args:
        rv: (X, Y, Z) right-ventricular blood that a method found.
        cavity: (X, Y, Z) of the left ventricle.
        wall: (X, Y, Z) of the left ventricle.
        affine: (4, 4) of these arrays, slices last.
        base_first: where the user named the base.
        bodies: (X, Y, Z) `cavity_bodies`, where they are known.

    Returns:
        Or in words why not.
    """
    if base_first is None:
        shown = {base for base in (base_by_rv(rv, cavity | wall), base_by_header(affine)) if base is not None}
        if len(shown) > 1:
            return "by the header, the base is at the other end than by the right ventricle that was found"
        if not shown:
            return "neither the header nor the right ventricle that was found tells base from apex"
        (base_first,) = shown
    ends = contact_ends(rv, cavity, wall, affine, base_first=base_first, bodies=bodies)
    if len(ends) < N_RINGS:
        return f"the ventricles meet in {len(ends)} slices, {N_RINGS} are needed"
    anterior, spread = _mean_degrees(ends[:, 0])
    if spread > _MOST_SPREAD_DEGREES:
        return f"the insertion of the right ventricle differs by {spread:.0f} degrees (SD) between slices"
    if not anterior_above(ends, affine):
        return NOT_ABOVE
    return Orientation(base_first, anterior, spread)


def anterior_above(ends: Floats, affine: Floats) -> bool:
    """Return whether, by the header, the anterior of the `contact_ends` is the upper one, as in patients.

    It is not in a mirrored file, and in one whose header says no directions.
    """
    (anterior, _), (inferior, _) = (_mean_degrees(column) for column in ends.T)
    axes, _ = plane_axes(affine)
    a, i = np.deg2rad([anterior, inferior])
    upwards = axes @ np.array([np.cos(a) - np.cos(i), np.sin(a) - np.sin(i)])
    return bool(upwards[2] >= _LEAST_UPWARDS * np.linalg.norm(upwards))


def _mean_degrees(angles: Floats) -> tuple[float, float]:
    """Circular mean and SD in degrees of angles (S,) in radians."""
    mean = np.exp(1j * angles).mean()
    length = min(float(np.abs(mean)), 1.0)
    spread = np.sqrt(-2 * np.log(length)) if length > 0 else np.pi
    return float(np.rad2deg(np.angle(mean)) % 360), float(np.rad2deg(spread))
