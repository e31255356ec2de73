"""Findings about the region map, alone and together with the images under it.

All arrays have their slices along the last axis, as in `StudyTensors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from mrigmm.data.limits import (
    MISPLACED_BY_LGE,
    MISPLACED_CONTRAST,
    SATURATED_PEAK,
    SATURATED_SHARE,
    SWAPPED_CONTRAST,
)
from mrigmm.errors import Problem
from mrigmm.labels import Region


def touches_border(region: NDArray[np.uint8]) -> Problem | None:
    """The region reaches the edge of the image in plane: part of the ventricle is cut off."""
    inside = region > 0
    edge = inside[[0, -1]].any(axis=(0, 1)) | inside[:, [0, -1]].any(axis=(0, 1))
    if not edge.any():
        return None
    return Problem(
        "the region touches the border of the image",
        expected="the whole ventricle inside the field of view",
        got=f"{int(edge.sum())} of {int(inside.any(axis=(0, 1)).sum())} slices",
        remedy="check that the map lies where the heart is; otherwise none: the part outside is not counted",
        severity="warning",
    )


# Where the cavity is brighter (+1) or darker (-1) than the wall. In LGE a large scar is as bright as blood,
# so that it is asked about the place of a region only where it is alone.
CAVITY_SIGN: Mapping[str, int] = {"LGE": +1, "T2": -1, "bSSFP": +1}
_ELSEWHERE = "the region map does not seem to lie on the heart"
_EVERY_PATIENT = ("T2", "bSSFP")
# Of the largest distance to the outline, in a region that does not tell cavity from wall.
_INNER, _OUTER = 0.6, 0.3


def cavity_contrast(
    values: NDArray[np.float32],
    region: NDArray[np.uint8],
    observed: NDArray[np.bool_],
    spacing_mm: Sequence[float],
) -> float | None:
    """Return how much brighter cavity than wall is, in SD of the region.

    Where the map does not tell them apart, the innermost part of each slice stands for the cavity and
    the outermost for the wall.

    Args:
        values: (X, Y, Z) intensities of one sequence.
        region: (X, Y, Z) `labels.Region` codes.
        observed: (X, Y, Z), where the sequence was acquired.
        spacing_mm: (3,).

    Returns:
        None where there is no cavity, no wall or no variation to compare.
    """
    if (region == Region.LV).any():
        depth = np.stack([_depth(slice_, spacing_mm) for slice_ in np.moveaxis(region, -1, 0)], axis=-1)
        inner, outer = depth > _INNER, (depth > 0) & (depth < _OUTER)
    else:
        inner, outer = region == Region.CAVITY, region == Region.WALL
    inner, outer = inner & observed, outer & observed
    spread = float(values[(region > 0) & observed].std()) if inner.any() and outer.any() else 0.0
    return float(values[inner].mean() - values[outer].mean()) / spread if spread > 0 else None


def _depth(slice_: NDArray[np.uint8], spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Distance to the outline (X, Y), relative to the largest one of the slice; 0 outside."""
    distance = distance_transform_edt(np.pad(slice_ > 0, 1), sampling=spacing_mm[:2])[1:-1, 1:-1]
    return np.asarray(distance / max(float(distance.max()), 1e-9))


def swapped(contrasts: Mapping[str, float]) -> Iterator[Problem]:
    """Sequences whose cavity is darker than the wall where it must be brighter, or the reverse.

    Args:
        contrasts: sequence -> `cavity_contrast`.
    """
    for name, sign in CAVITY_SIGN.items():
        if sign * contrasts.get(name, sign) < SWAPPED_CONTRAST:
            expected, found = ("brighter", "darker") if sign > 0 else ("darker", "brighter")
            yield Problem(
                _unlike(name),
                expected=f"a cavity {expected} than the wall",
                got=f"{found} by {abs(contrasts[name]):.1f} SD of the region",
                remedy="check that the sequences are not swapped and that the region map lies on the heart; "
                "in bright-blood T2 and dark-blood LGE this is right, but prior and networks do not fit them",
                severity="warning",
            )


def _unlike(name: str) -> str:
    return f"{name} does not look like {name}"


def looks_swapped(findings: Iterable[Problem]) -> bool:
    """Return whether `swapped` or `misplaced` is among the findings about a study."""
    return any(problem.what in (*map(_unlike, CAVITY_SIGN), _ELSEWHERE) for problem in findings)


def misplaced(contrasts: Mapping[str, float]) -> Problem | None:
    """No sequence shows a cavity in the middle of the region: a map of another patient or place.

    Args:
        contrasts: sequence -> `cavity_contrast`.
    """
    towards = {name: CAVITY_SIGN[name] * contrasts[name] for name in _EVERY_PATIENT if name in contrasts}
    least = MISPLACED_CONTRAST
    if not towards and "LGE" in contrasts:
        towards, least = {"LGE": contrasts["LGE"]}, MISPLACED_BY_LGE
    if not towards or not SWAPPED_CONTRAST <= max(towards.values()) < least:
        return None
    if min(towards.values()) < SWAPPED_CONTRAST:
        return None  # `swapped` says so
    return Problem(
        _ELSEWHERE,
        expected=f"a cavity that differs from the wall by {least:g} SD of the region or more",
        got=", ".join(f"{name} {abs(contrasts[name]):.1f} SD" for name in towards),
        remedy="look at the map over the images: it may be another patient's, or shifted",
        severity="warning",
    )


def saturated(name: str, values: NDArray[np.float32]) -> Problem | None:
    """Many voxels have the maximum: the scale was cut off, and what lies above it is lost.

    Args:
        name: of the sequence.
        values: (N,) intensities inside the region.
    """
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) < 3 or counts[-1] < max(SATURATED_SHARE * values.size, SATURATED_PEAK * counts[-2]):
        return None
    return Problem(
        f"{name} is saturated",
        expected=f"less than {100 * SATURATED_SHARE:g} % of the region at the maximum",
        got=f"{100 * counts[-1] / values.size:.1f} % at {levels[-1]:g}",
        remedy="convert the file again without a display window or a cut at 255 or 4095",
        severity="warning",
    )


def negative(name: str, values: NDArray[np.float32]) -> Problem | None:
    """Negative intensities, which are right in phase-sensitive LGE and unusual elsewhere.

    Args:
        name: of the sequence.
        values: (N,) intensities inside the region.
    """
    share = float((values < 0).mean())
    if share == 0:
        return None
    usual = "phase-sensitive LGE" if name == "LGE" else "an image that was standardised already"
    return Problem(
        f"{name} has negative intensities",
        got=f"{100 * share:.1f} % of the region; usual in {usual}, and used as they are",
        remedy="none needed if that is what it is",
        severity="note",
    )
