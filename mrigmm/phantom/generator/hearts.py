"""Hearts, infarcts and slice positions from wide ranges, and the tissue that slices show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.config_pretrain import GeneratorRanges
from mrigmm.phantom.borders import Borders
from mrigmm.phantom.config import PhantomConfig
from mrigmm.phantom.pathology import Infarct, draw_infarct, find_thresholds
from mrigmm.phantom.shape import ParametricHeart, Tissue, TissueArray, draw_heart, draw_length

FloatArray = NDArray[np.floating[Any]]

_OUTFLOW_ANGLE = np.deg2rad(-150)  # of the outflow tract: between anterior and septal wall
_OUTFLOW_HEIGHT = 0.16  # the wall is open above it, relative to the ventricle's length
ATRIUM_HEIGHT = -0.07  # above it lies the atrium
_APEX_HEIGHT = 1.0
_ATRIUM_WALL = 0.9  # of the atrium's radius is blood


@dataclass(frozen=True)
class DrawnHeart:
    """One heart with its infarct and the places of its slices.

    Attributes:
        heart, infarct: anatomy and pathology of the phantom.
        heights_mm: (Z,) of the slice centres below the base.
        thickness_mm: of a slice.
        outflow: half the opening angle (rad) of the wall at the base; 0: closed.
    """

    heart: ParametricHeart
    infarct: Infarct
    heights_mm: FloatArray
    thickness_mm: float
    outflow: float


def draw_hearts(ranges: GeneratorRanges, rng: np.random.Generator) -> DrawnHeart:
    """Draw a heart: `usual_chance` about the usual size, the others anywhere in the ranges."""
    length = draw_length(rng) * float(rng.uniform(0.85, 1.1))
    heights = _draw_heights(ranges, length, rng)
    infarct = _draw_infarct(ranges, length, heights, rng)
    thinning = float(rng.uniform(0, 0.6)) if infarct.kind == "chronic" else 0.0
    heart = draw_heart(length_mm=length, infarct=infarct, thinning=thinning, rng=rng)
    usual = rng.random() < ranges.usual_chance
    radius = rng.normal(36, 3.5) if usual else rng.uniform(*ranges.epi_radius_mm)
    share = rng.normal(0.33, 0.05) if usual else rng.uniform(*ranges.wall_share)
    radius = float(np.clip(radius, *ranges.epi_radius_mm))
    heart = replace(
        heart,
        epi_radius=radius,
        wall=radius * float(np.clip(share, *ranges.wall_share)),
        rv_radius=radius * float(rng.uniform(0.7, 1.1)),
        rv_offset=(-radius * float(rng.uniform(0.5, 0.8)), -radius * float(rng.uniform(-0.1, 0.35))),
        papillary_angles=tuple(
            float(angle)
            for angle in np.deg2rad(
                [rng.normal(-50, 12), rng.normal(65, 12), *rng.uniform(-180, 180, rng.integers(0, 3))]
            )
        ),  # type: ignore[arg-type]
        papillary_radius=float(rng.uniform(1.5, 6.5)),
        liver_level=radius + float(rng.uniform(2, 12)),
        chest_level=radius + float(rng.uniform(6, 25)),
        chest_angle=float(np.deg2rad(rng.uniform(35, 85))),
        borders=_draw_borders(ranges, rng.spawn(1)[0]),
    )
    outflow = float(np.deg2rad(rng.uniform(20, 65))) if rng.random() < ranges.outflow_chance else 0.0
    thickness = float(rng.uniform(*ranges.slice_thickness_mm))
    return DrawnHeart(heart, infarct, heights, thickness, outflow)


def _draw_borders(ranges: GeneratorRanges, rng: np.random.Generator) -> Borders | None:
    """Draw what hides the borders, or nothing."""
    if rng.random() >= ranges.borders_chance:
        return None
    turns = rng.uniform(0, 2 * np.pi, 9).tolist()
    orders = (rng.integers(6, 12), rng.integers(10, 20), rng.integers(14, 28))
    steps = rng.normal(0, 1, (3, 2))
    steps *= (2 * np.pi / rng.uniform(6, 14, 3) / np.linalg.norm(steps, axis=1))[:, None]
    return Borders(
        fat=float(rng.uniform(*ranges.epicardial_fat_mm)),
        apical_fat=float(rng.uniform(*ranges.apical_fat_mm)),
        fat_waves=tuple(zip(rng.uniform(0, 2.5, 3).tolist(), turns[:3], strict=True)),
        pericardium=float(rng.uniform(*ranges.pericardium_mm)),
        closing=float(rng.uniform(*ranges.closing)),
        trabeculae=float(rng.uniform(*ranges.trabeculae_mm)),
        ridges=tuple((float(n), turn) for n, turn in zip(orders, turns[3:6], strict=True)),
        strands=float(rng.uniform(*ranges.rv_strands)),
        strand_waves=tuple((a, b, turn) for (a, b), turn in zip(steps.tolist(), turns[6:], strict=True)),
    )


def _draw_heights(ranges: GeneratorRanges, length: float, rng: np.random.Generator) -> FloatArray:
    count = int(rng.integers(ranges.slices[0], ranges.slices[1] + 1))
    lowest, highest = (share * length for share in ranges.height_share)
    distance = min(rng.uniform(*ranges.slice_distance_mm), (highest - lowest) / max(count - 1, 1))
    first = lowest + rng.random() * (highest - lowest - distance * (count - 1))
    heights: FloatArray = first + distance * np.arange(count)
    return heights


def _draw_infarct(
    ranges: GeneratorRanges, length: float, heights: FloatArray, rng: np.random.Generator
) -> Infarct:
    ill = 1 - ranges.healthy_chance
    config = PhantomConfig(
        healthy_share=ranges.healthy_chance, chronic_share=ill * ranges.chronic_chance, mvo_share=0.0
    )
    infarct = draw_infarct(config, length_mm=length, heights_mm=heights, rng=rng)
    if infarct.kind == "none":
        return infarct
    changes: dict[str, Any] = {
        "half_arc": float(infarct.half_arc * rng.uniform(0.5, 1.2)),
        "has_mvo": bool(infarct.kind == "acute" and rng.random() < ranges.mvo_chance),
    }
    if rng.random() < 0.5:  # else as tabulated
        low, high = np.log(ranges.scar_share)
        changes["scar_share"] = float(np.exp(rng.uniform(low, high)))
        if infarct.kind == "acute":
            changes["edema_share"] = float(rng.uniform(*ranges.edema_share))
    return replace(infarct, **changes)


@dataclass(frozen=True)
class SlicePoints:
    """Where the pixels of a study's slices lie in the heart's frame: x, y (X, Y, Z) and z (1, 1, Z), mm."""

    x: FloatArray
    y: FloatArray
    z: FloatArray


def subslice_tissues(drawn: DrawnHeart, points: SlicePoints, parts: tuple[float, ...]) -> list[TissueArray]:
    """Tissue at several depths of the slices, by the lesions' thresholds of the first.

    Args:
        drawn: the heart.
        points: of the slices' centres.
        parts: depths relative to the slice thickness; the first is 0, the centre.
    """
    found, thresholds = [], None
    for part in parts:
        z = points.z + np.float32(part * drawn.thickness_mm)
        place = drawn.heart.locate(points.x, points.y, z)
        tissue = place.tissue
        wall = tissue == Tissue.MYOCARDIUM
        if drawn.infarct.kind != "none" and wall.any():
            height = np.broadcast_to(z, wall.shape)[wall]
            scar, risk = drawn.infarct.scores(place.angle[wall], place.depth[wall], height)
            if thresholds is None:
                thresholds = find_thresholds(drawn.infarct, scar, risk)
            lesion = np.full(scar.shape, Tissue.MYOCARDIUM, dtype=np.uint8)
            lesion[risk > thresholds.risk] = Tissue.EDEMA
            lesion[scar > thresholds.scar] = Tissue.SCAR
            lesion[scar > thresholds.mvo] = Tissue.MVO
            tissue[wall] = lesion
        _open_base(drawn, points, tissue, place.angle, z)
        found.append(tissue)
    return found


def _open_base(
    drawn: DrawnHeart, points: SlicePoints, tissue: TissueArray, angle: FloatArray, z: FloatArray
) -> None:
    """Open the wall at the outflow tract, put the atrium above the base, and nothing below the apex."""
    length = drawn.heart.length_mm
    for k, height in enumerate((z / length).ravel()):
        seen = tissue[..., k]
        ventricle = (seen <= Tissue.PAPILLARY) & (seen != Tissue.BLOOD)
        if height > _APEX_HEIGHT:
            seen[ventricle | (seen == Tissue.BLOOD)] = Tissue.FAT
        elif height < ATRIUM_HEIGHT:
            radius = np.hypot(points.x[..., k], points.y[..., k])
            inner = radius < _ATRIUM_WALL * drawn.heart.epi_radius
            seen[ventricle] = np.where(inner, Tissue.RV_BLOOD, Tissue.RV_WALL)[ventricle]
            seen[seen == Tissue.BLOOD] = Tissue.RV_BLOOD  # blood of no ventricle
        elif height < _OUTFLOW_HEIGHT and drawn.outflow > 0:
            reach = drawn.outflow * (1 - height / _OUTFLOW_HEIGHT * 0.6)
            wall = np.nonzero(ventricle & (seen != Tissue.PAPILLARY))
            turn = np.abs(np.angle(np.exp(1j * (angle[..., k][wall] - _OUTFLOW_ANGLE))))
            seen[wall] = np.where(turn < reach, Tissue.RV_WALL, seen[wall])
