"""Motion between sequences: in-plane rigid registration, slice by slice, by mutual information.

Sequences are acquired in separate breath-holds, so a slice of one may lie a few millimetres beside the
same slice of another. Slices are compared in a small picture around the region, in millimetres, so that
voxel sizes, orientation and shear of the files do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates

from mrigmm.data.geometry import Grid, in_field_of_view
from mrigmm.data.volumes import Volume
from mrigmm.lazy import LazyModule

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813 - its own name
else:
    sitk = LazyModule("SimpleITK")

# What was found beyond these is no breath-hold, or no match: the slice is left where it is.
MAX_SHIFT_MM = 8.0
MAX_DEGREES = 5.0
# Chosen on the phantom's tuning seed (docs/results/robustness.md).
NEIGHBOURHOOD_MM = 15.0  # the region is compared with its surroundings up to here
PIXEL_MM = 1.0
BINS = 32
SHIFT_PENALTY = 0.0015  # information (nats) per mm2 that a shift must bring: weak contrast stays near 0
TURN_GAIN = 0.02  # information (nats) that a rotation must bring: hearts are nearly round
# Steps each way and their size (mm, radians): 2 mm and 2 degrees beyond the limits, so that an optimum
# there is seen as such.
_SHIFTS_MM = ((5, 5), 2.0)
_TURNS = ((7, 0, 0), math.radians(1.0))
_TURN_SCALE = 1000.0  # mm2 per radian2, for the descent: a region of about 30 mm
_MIN_PIXELS = 400  # fewer fill no joint histogram
_CLIP_PERCENTILES = (0.5, 99.5)  # a dead pixel must not stretch the bins


@dataclass(frozen=True)
class SliceMotion:
    """Place of a slice of a sequence relative to the reference sequence.

    A point at (u, v) mm from the region's centre in the reference slice is found at R(degrees) (u, v) +
    `shift_mm` in the sequence; u and v run along the first and second in-plane array axis of the
    reference file, and degrees from u to v.
    """

    shift_mm: tuple[float, float] = (0.0, 0.0)
    degrees: float = 0.0


_STILL = SliceMotion()


@dataclass(frozen=True)
class _Plane:
    """One slice of the reference grid: centre (3,) of its region in mm, and in-plane unit vectors (3, 2)."""

    index: int
    centre: NDArray[np.float64]
    axes: NDArray[np.float64]

    def moved(self, points: NDArray[np.float64], motion: SliceMotion) -> NDArray[np.float64]:
        """Points (..., 3) in mm of the reference slice at their place in the sequence."""
        angle = np.deg2rad(motion.degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        here = (points - self.centre) @ self.axes
        return points + (here @ (turn - np.eye(2)).T + np.asarray(motion.shift_mm)) @ self.axes.T


@dataclass(frozen=True)
class _Picture:
    """A slice around the region, pixels (U, V) in its plane's frame, and where they were acquired."""

    values: NDArray[np.float32]
    acquired: NDArray[np.bool_]


@dataclass(frozen=True)
class _Match:
    """The motion that was found and its mutual information in nats, or why there is none."""

    motion: SliceMotion
    information: float
    refused: str | None = None


def find_motion(
    images: Mapping[str, Volume], reference: str, region: NDArray[np.bool_], warnings: list[str]
) -> dict[str, tuple[SliceMotion, ...]]:
    """Motion of every other sequence against the reference sequence, per slice of the reference grid.

    Mattes' mutual information over all pixels of the region's neighbourhood: exhaustive search, then
    gradient descent. Contrasts differ in how much they tell about each other, so in each slice the
    sequences are taken in the order of their information, each registered to whichever of those in place
    tells most about it: as a rule bSSFP to LGE, then T2 to bSSFP.

    Args:
        images: the study's sequences.
        reference: the one that stays.
        region: (X, Y, Z) on its grid.
        warnings: gets a line for each slice that is left where it is.

    Returns:
        Name -> one motion per slice; no motion where the region is empty or the slice was left.
    """
    grid = images[reference].grid
    others = [name for name in images if name != reference]
    found: dict[str, list[SliceMotion]] = {name: [] for name in others}
    for z in range(grid.shape[grid.slice_axis]):
        mask = np.take(region, z, axis=grid.slice_axis)
        motion = dict.fromkeys(others, _STILL)
        if mask.any():
            motion |= _slice_motion(images, reference, _plane(grid, region, z), region, warnings)
        for name in others:
            found[name].append(motion[name])
    return {name: tuple(slices) for name, slices in found.items()}


def sampling_index(
    reference: Grid, region: NDArray[np.bool_], motion: tuple[SliceMotion, ...], moving: Grid
) -> NDArray[np.float64]:
    """Voxel index (X, Y, Z, 3) in a moving sequence of every voxel of the reference grid."""
    voxels = np.moveaxis(np.indices(reference.shape, dtype=float), 0, -1)
    points = apply_affine(reference.affine, voxels)
    for z, of_slice in enumerate(motion):
        if of_slice != _STILL:
            where = tuple(z if axis == reference.slice_axis else slice(None) for axis in range(3))
            points[where] = _plane(reference, region, z).moved(points[where], of_slice)
    return np.asarray(apply_affine(np.linalg.inv(moving.affine), points))


def sample(data: NDArray[Any], index: NDArray[np.float64]) -> NDArray[np.float32]:
    """Intensities at voxel positions (..., 3), linear, the border repeated beyond the last voxel."""
    values = map_coordinates(data, np.moveaxis(index, -1, 0), order=1, mode="nearest", output=np.float64)
    return np.asarray(values, dtype=np.float32)


def _plane(grid: Grid, region: NDArray[np.bool_], z: int) -> _Plane:
    """Frame of slice `z`, whose region is not empty."""
    voxels = np.argwhere(np.moveaxis(region, grid.slice_axis, -1)[..., z])
    centre = np.insert(voxels.mean(axis=0), grid.slice_axis, z)
    first, second = np.delete(grid.affine[:3, :3], grid.slice_axis, axis=1).T
    u = first / np.linalg.norm(first)
    v = second - (second @ u) * u  # orthogonal also on a sheared grid
    axes = np.stack([u, v / np.linalg.norm(v)], axis=1)
    return _Plane(z, np.asarray(apply_affine(grid.affine, centre)), axes)


def _slice_motion(
    images: Mapping[str, Volume],
    reference: str,
    plane: _Plane,
    region: NDArray[np.bool_],
    warnings: list[str],
) -> dict[str, SliceMotion]:
    """Motion of the other sequences in one slice; those that are left out of the answer stay."""
    grid = images[reference].grid
    pixels = _pixels(grid, region, plane)
    points = plane.centre + pixels @ plane.axes.T
    inside = sample(region.astype(np.float32), apply_affine(np.linalg.inv(grid.affine), points)) > 0.5
    near = distance_transform_edt(~inside, sampling=PIXEL_MM) <= NEIGHBOURHOOD_MM

    def picture(name: str, motion: SliceMotion = _STILL) -> _Picture:
        return _picture(images[name], plane.moved(points, motion))

    placed = {reference: picture(reference)}
    waiting = {name: picture(name) for name in images if name != reference}
    motion: dict[str, SliceMotion] = {}
    matches: dict[tuple[str, str], _Match] = {}
    while waiting:
        pairs = [(fixed, name) for fixed in placed for name in waiting]
        for fixed, name in pairs:
            if (fixed, name) not in matches:
                matches[fixed, name] = _match(placed[fixed], waiting[name], near)
        best = max(pairs, key=lambda pair: matches[pair].information)
        match, name = matches[best], best[1]
        del waiting[name]
        if match.refused is not None:
            warnings.append(f"{name}, slice {plane.index + 1}: left unregistered, {match.refused}")
            continue
        motion[name] = match.motion
        placed[name] = picture(name, match.motion)
    return motion


def _pixels(grid: Grid, region: NDArray[np.bool_], plane: _Plane) -> NDArray[np.float64]:
    """Positions (U, V, 2) in mm from the region's centre, of a square that holds all that is compared."""
    voxels = np.argwhere(np.moveaxis(region, grid.slice_axis, -1)[..., plane.index])
    points = apply_affine(grid.affine, np.insert(voxels.astype(float), grid.slice_axis, plane.index, axis=1))
    (count, _), size = _SHIFTS_MM
    reach = float(np.abs((points - plane.centre) @ plane.axes).max()) + NEIGHBOURHOOD_MM + count * size
    steps = int(np.ceil(reach / PIXEL_MM))
    line = np.arange(-steps, steps + 1) * PIXEL_MM
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1)


def _picture(volume: Volume, points: NDArray[np.float64]) -> _Picture:
    """Intensities at points (U, V, 3) in mm, without the outermost of them."""
    index = apply_affine(np.linalg.inv(volume.grid.affine), points)
    values, acquired = sample(volume.data, index), in_field_of_view(index, volume.grid.shape)
    if acquired.any():
        values = np.clip(values, *np.percentile(values[acquired], _CLIP_PERCENTILES))
    return _Picture(values.astype(np.float32), acquired)


def _match(fixed: _Picture, moving: _Picture, near: NDArray[np.bool_]) -> _Match:
    """Register a picture to another one, over the pixels (U, V) of `near` that both have."""
    both = near & fixed.acquired & moving.acquired
    if np.count_nonzero(both) < _MIN_PIXELS:
        return _Match(_STILL, -np.inf, "too little around the region was acquired")
    if min(np.ptp(fixed.values[both]), np.ptp(moving.values[both])) <= 0:
        return _Match(_STILL, -np.inf, "no contrast around the region")
    images = _sitk_image(fixed.values), _sitk_image(moving.values)
    masks = _sitk_image(near & fixed.acquired), _sitk_image(moving.acquired)
    try:
        u, v = _search(images, masks, sitk.TranslationTransform(2), *_SHIFTS_MM, penalty=SHIFT_PENALTY)
        shift = sitk.TranslationTransform(2, (u, v))
        information = _descend(images, masks, shift, scales=(1.0, 1.0))
        u, v = shift.GetParameters()
        rigid = sitk.Euler2DTransform((0.0, 0.0), 0.0, (u, v))
        angle, *_ = _search(images, masks, rigid, *_TURNS)
        if angle != 0:
            rigid.SetAngle(angle)
            turned = _descend(images, masks, rigid, scales=(_TURN_SCALE, 1.0, 1.0))
            if turned > information + TURN_GAIN:
                information = turned
                angle, u, v = rigid.GetParameters()
            else:
                angle = 0.0
    except RuntimeError:  # SimpleITK's only error: too few pixels left over each other, singular histograms
        return _Match(_STILL, -np.inf, "the registration failed")
    # The last digits of SimpleITK's sums differ from run to run; a micrometre is nothing.
    motion = SliceMotion((round(float(u), 3), round(float(v), 3)), round(float(np.rad2deg(angle)), 3))
    length = float(np.hypot(u, v))
    if length > MAX_SHIFT_MM or abs(motion.degrees) > MAX_DEGREES:
        found = f"{length:.1f} mm and {abs(motion.degrees):.1f} degrees"
        limit = f"{MAX_SHIFT_MM:g} mm and {MAX_DEGREES:g} degrees"
        return _Match(_STILL, information, f"motion of {found} is beyond the limit of {limit}")
    return _Match(motion, information)


def _search(
    images: tuple[sitk.Image, sitk.Image],
    masks: tuple[sitk.Image, sitk.Image],
    transform: sitk.Transform,
    steps: tuple[int, ...],
    size: float,
    *,
    penalty: float = 0.0,
) -> tuple[float, ...]:
    """Parameters with the most information, less `penalty` times their square, around a transform's.

    `steps` of one `size` are tried each way along every parameter.
    """
    method = _information(masks)
    tried: list[tuple[float, tuple[float, ...]]] = []
    method.AddCommand(
        sitk.sitkIterationEvent,
        lambda: tried.append((method.GetMetricValue(), method.GetOptimizerPosition())),
    )
    method.SetInitialTransform(transform, inPlace=False)
    method.SetOptimizerAsExhaustive(steps, size)
    method.Execute(*images)
    method.RemoveAllCommands()
    _, best = min(tried, key=lambda one: one[0] + penalty * float(np.square(one[1]).sum()))
    return best


def _descend(
    images: tuple[sitk.Image, sitk.Image],
    masks: tuple[sitk.Image, sitk.Image],
    transform: sitk.Transform,
    *,
    scales: tuple[float, ...],
) -> float:
    """Move a transform to the nearest maximum of the information, and return that in nats."""
    method = _information(masks)
    method.SetInitialTransform(transform, inPlace=True)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=0.5,  # first step in mm
        minStep=0.01,
        numberOfIterations=100,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScales(scales)
    method.Execute(*images)
    return -float(method.GetMetricValue())


def _information(masks: tuple[sitk.Image, sitk.Image]) -> sitk.ImageRegistrationMethod:
    """Mutual information over all pixels of the masks; the same sums in the same order on every run."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetMetricFixedMask(masks[0])
    method.SetMetricMovingMask(masks[1])
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _sitk_image(pixels: NDArray[np.float32] | NDArray[np.bool_]) -> sitk.Image:
    """Pixels (U, V) as an image with the region's centre at the origin; masks as bytes."""
    stored = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored.T))
    image.SetSpacing((PIXEL_MM, PIXEL_MM))
    image.SetOrigin([-(n // 2) * PIXEL_MM for n in pixels.shape])
    return image
