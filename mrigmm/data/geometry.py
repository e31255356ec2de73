"""Voxel grids in physical space. All lengths in mm, world axes as nibabel's (RAS+)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from mrigmm.data.limits import IN_PLANE_MM, SLICE_DISTANCE_MM

# Two grids are the same when all corners agree within this, or within a tenth of a voxel in plane:
# headers are written in float32 and by many hands.
TOLERANCE_MM = 0.1
TOLERANCE_VOXELS = 0.1


@dataclass(frozen=True)
class Grid:
    """A voxel grid: shape (X, Y, Z) and affine (4, 4) from voxel index to mm.

    Attributes:
        shape: (X, Y, Z).
        affine: (4, 4), by which everything is measured.
        also: other affines of the file's header. Programs that read those write maps by them, and such a map
            lies on this grid, too.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    also: tuple[NDArray[np.float64], ...] = ()

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Distance (3,) in mm between neighbouring voxel centres along each array axis."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in ml (1 ml = 1000 mm3); uses slice distance, right for sheared grids."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def slice_axis(self) -> int:
        """Array axis across the slices: the one with the largest spacing, the last in a tie.

        Of slices that are thinner than square pixels, the one with the smallest. A single-slice axis wins
        over spacing, since a header may say anything about its thickness.
        """
        single = [axis for axis in (2, 1, 0) if self.shape[axis] == 1]
        if single:
            return single[0]
        spacing = self.spacing_mm.round(3)
        thin = int(spacing.argmin())
        one, other = np.delete(spacing, thin)
        if spacing[thin] < one == other:
            return thin
        return max((2, 1, 0), key=lambda axis: float(spacing[axis]))

    @property
    def readings(self) -> tuple[Grid, ...]:
        """The grid by each of its affines, the first by the one that is measured by."""
        return tuple(Grid(self.shape, affine) for affine in (self.affine, *self.also))

    @property
    def has_usual_voxels(self) -> bool:
        """Whether a cardiac sequence can have voxels of this size."""
        in_plane = np.delete(self.spacing_mm, self.slice_axis)
        usual = bool(IN_PLANE_MM[0] <= in_plane.min() and in_plane.max() <= IN_PLANE_MM[1])
        if self.shape[self.slice_axis] > 1:
            distance = float(self.spacing_mm[self.slice_axis])
            usual &= SLICE_DISTANCE_MM[0] <= distance <= SLICE_DISTANCE_MM[1]
        return usual

    def corners_mm(self) -> NDArray[np.float64]:
        """Centres (8, 3) of the corner voxels in mm."""
        index = np.array(list(product(*[(0, n - 1) for n in self.shape])), dtype=float)
        return np.asarray(apply_affine(self.affine, index))

    def difference_mm(self, other: Grid) -> float:
        """Largest distance in mm between matching corners; infinite when the shapes differ.

        Of the affines of two headers, those that agree best count.
        """
        if self.shape != other.shape:
            return float("inf")
        return min(
            float(np.linalg.norm(one.corners_mm() - two.corners_mm(), axis=1).max())
            for one, two in product(self.readings, other.readings)
        )

    def same_as(self, other: Grid) -> bool:
        """Return whether the two grids describe the same voxels (0.1 mm or 10 % of the in-plane voxel)."""
        in_plane = np.delete(self.spacing_mm, self.slice_axis).min()
        return self.difference_mm(other) <= max(TOLERANCE_MM, TOLERANCE_VOXELS * float(in_plane))

    def measured_by(self, other: Grid) -> Grid:
        """Return the grid, of two of the same voxels, whose header was found to name several, else this one.

        A map of another program has a header of its own, which agrees with itself at any size of the voxels.
        """
        return other if other.also and not self.also else self

    def describe(self) -> str:
        """Shape, spacing, orientation and position in one line, for messages."""
        shape = " x ".join(str(n) for n in self.shape)
        spacing = " x ".join(f"{s:.3g}" for s in self.spacing_mm)
        codes = "".join(code or "?" for code in nib.aff2axcodes(self.affine))
        origin = ", ".join(f"{v:.1f}" for v in self.affine[:3, 3])
        return f"{shape} voxels of {spacing} mm, {codes}, origin ({origin}) mm"


@dataclass(frozen=True)
class Turn:
    """Permutation and flips of the array axes that put the slices last, whatever order a file stores.

    Stored flips and axis permutations of one acquisition all lead to the same array this way, so
    that a network sees the same picture.

    Attributes:
        axes: array axis of the file behind each axis of the turned array; world axes ascend in plane.
        flipped: which axes of the turned array run against the file's.
        axcodes: orientation of the turned array, such as "RAS" for axial and "RSA" for coronal slices.
        affine: (4, 4) of the turned array.
    """

    axes: tuple[int, int, int]
    flipped: tuple[int, ...]
    axcodes: str
    affine: NDArray[np.float64]

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Turn the last three axes of an array (..., X, Y, Z) of the file."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return np.ascontiguousarray(self._flip(turned))

    def undo(self, array: NDArray[Any]) -> NDArray[Any]:
        """The way back, exactly."""
        return np.ascontiguousarray(self.undone(array))

    def undone(self, array: NDArray[Any]) -> NDArray[Any]:
        """`undo` as a view of the array."""
        lead = array.ndim - 3
        back = np.argsort(self.axes)
        straight = self._flip(array)
        return straight.transpose(*range(lead), *(lead + int(axis) for axis in back))

    def _flip(self, array: NDArray[Any]) -> NDArray[Any]:
        lead = array.ndim - 3
        # A single slice has no direction; numpy would give it a negative stride, which torch refuses.
        return np.flip(array, tuple(lead + axis for axis in self.flipped if array.shape[lead + axis] > 1))


def slices_last(grid: Grid) -> Turn:
    """Return how to turn an array on this grid so that its slices lie along the last axis."""
    ornt = nib.io_orientation(grid.affine)  # (3, 2): world axis and direction of each array axis
    world = [int(axis) for axis in ornt[:, 0]]
    last = world[grid.slice_axis]
    order = [axis for axis in range(3) if axis != last] + [last]
    axes = [world.index(axis) for axis in order]
    flipped = tuple(i for i, axis in enumerate(axes) if ornt[axis, 1] < 0)
    to_file = np.eye(4)  # index of the turned array -> index of the file's
    to_file[:3, :3] = np.eye(3)[:, axes]
    for i in flipped:
        to_file[axes[i], i] = -1
        to_file[axes[i], 3] = grid.shape[axes[i]] - 1
    codes = "".join("RAS"[axis] for axis in order)
    return Turn((axes[0], axes[1], axes[2]), flipped, codes, grid.affine @ to_file)


def turned_onto(array: NDArray[Any], grid: Grid, other: Grid) -> NDArray[Any] | None:
    """An array (X, Y, Z) on `grid` as one on `other`, by flips and permutations of its axes alone.

    Returns:
        The array in the order of `other`, exactly; None where the two grids have other voxels.
    """
    found = (_turned_onto(array, one, two) for one, two in product(grid.readings, other.readings))
    return next((turned for turned in found if turned is not None), None)


def _turned_onto(array: NDArray[Any], grid: Grid, other: Grid) -> NDArray[Any] | None:
    steps = np.linalg.inv(grid.affine)[:3, :3] @ other.affine[:3, :3]  # of `other`, in voxels of `grid`
    axes = [int(axis) for axis in np.argmax(np.abs(steps), axis=0)]  # of the array, for each of `other`
    if len(set(axes)) < 3:
        return None
    turned = array.transpose(*axes)
    to_grid = np.diag([0.0, 0.0, 0.0, 1.0])  # index of the turned array -> index of the array
    flipped: tuple[int, ...] = ()
    for i, axis in enumerate(axes):
        to_grid[axis, i] = 1.0
        if steps[axis, i] < 0:
            flipped += (i,)
            to_grid[axis, i], to_grid[axis, 3] = -1.0, array.shape[axis] - 1
    turned = np.flip(turned, flipped)
    shape = (turned.shape[0], turned.shape[1], turned.shape[2])
    return np.ascontiguousarray(turned) if Grid(shape, grid.affine @ to_grid).same_as(other) else None


def coverage(grid: Grid, other: Grid) -> NDArray[np.bool_]:
    """Return which voxels (X, Y, Z) of `grid` lie inside the field of view of `other`.

    The field of view reaches half a voxel beyond the outermost voxel centres.
    """
    slack = 1e-3  # voxels; float32 headers
    lower, upper = -0.5 - slack, np.asarray(other.shape) - 0.5 + slack
    to_other = index_affine(grid, other)
    corners = apply_affine(np.linalg.inv(other.affine), grid.corners_mm())
    if np.all((corners >= lower) & (corners <= upper)):  # then all between them do, too
        return np.ones(grid.shape, dtype=bool)
    inside = np.ones(grid.shape, dtype=bool)
    for axis in range(3):
        index = index_along(to_other, grid.shape, axis)
        inside &= (index >= lower) & (index <= upper[axis])
    return inside


def index_affine(grid: Grid, other: Grid) -> NDArray[np.float64]:
    """Affine (4, 4) from voxel indices of `grid` to those of `other`."""
    return np.asarray(np.linalg.inv(other.affine) @ grid.affine)


def index_along(affine: NDArray[np.float64], shape: tuple[int, int, int], axis: int) -> NDArray[np.float64]:
    """Index (X, Y, Z) along `axis` of the other grid, of every voxel of a grid of this shape."""
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    row = affine[axis]
    return np.asarray(row[0] * x + (row[1] * y + (row[2] * z + row[3])))


def shear_degrees(grid: Grid) -> float:
    """Return how far the array axes are from perpendicular to each other, in degrees; 0 = not sheared."""
    axes = grid.affine[:3, :3] / grid.spacing_mm
    cosines = (axes.T @ axes)[np.triu_indices(3, 1)]
    return float(np.rad2deg(np.arcsin(np.clip(np.abs(cosines), 0, 1))).max())


def slice_normal(grid: Grid) -> NDArray[np.float64]:
    """Unit vector (3,) perpendicular to the slices, of either sign."""
    first, second = np.delete(grid.affine[:3, :3], grid.slice_axis, axis=1).T
    normal = np.cross(first, second)
    return np.asarray(normal / np.linalg.norm(normal))


def in_field_of_view(index: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return which positions (..., 3) lie inside a volume, up to half a voxel beyond its outer centres."""
    slack = 1e-3  # voxels; float32 headers
    upper = np.asarray(shape) - 0.5
    return np.asarray(np.all((index >= -0.5 - slack) & (index <= upper + slack), axis=-1))


def with_slices_last(array: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """An array (..., X, Y, Z) of a file with the slices along the last axis; nothing is flipped."""
    return np.moveaxis(array, array.ndim - 3 + grid.slice_axis, -1)


def slices_last_grid(grid: Grid) -> Grid:
    """The grid of an array whose slice axis was moved to the end."""
    order = [axis for axis in range(3) if axis != grid.slice_axis] + [grid.slice_axis]
    x, y, z = (grid.shape[axis] for axis in order)
    return Grid((x, y, z), grid.affine[:, [*order, 3]])


def filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask (X, Y) with its holes, which no path from edge to edge of pixels leads out of.

    As `scipy.ndimage.binary_fill_holes`, which grows the outside pixel by pixel and takes many times as long.
    """
    around = np.ones((mask.shape[0] + 2, mask.shape[1] + 2), dtype=bool)
    np.logical_not(mask, out=around[1:-1, 1:-1])
    parts, _ = ndimage.label(around)
    return np.asarray(parts[1:-1, 1:-1] != parts[0, 0])


def largest_piece(mask: NDArray[np.bool_], structure: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """The largest connected piece of a mask, of equal ones the first; an empty mask as it is.

    Args:
        mask: of any shape.
        structure: neighbours, as `scipy.ndimage.label` takes them; None: across faces (edges, in 2-D).
    """
    parts, n = ndimage.label(mask, structure)
    return mask if n <= 1 else np.asarray(parts == np.bincount(parts.ravel())[1:].argmax() + 1)


def plane_box(mask: NDArray[np.bool_], margin: int = 0) -> tuple[slice, slice]:
    """The part of the plane that holds a mask (X, Y) or (X, Y, Z), with some pixels around it where there
    are any; one pixel if the mask is empty.
    """
    # Slice by slice: numpy's own `any` along a short last axis takes many times as long.
    flat = mask if mask.ndim == 2 else np.logical_or.reduce([*np.moveaxis(mask, 2, 0)])
    ends = [np.flatnonzero(flat.any(axis=axis)) for axis in (1, 0)]
    x, y = (
        slice(max(int(i[0]) - margin, 0), int(i[-1]) + 1 + margin) if i.size else slice(0, 1) for i in ends
    )
    return x, y
