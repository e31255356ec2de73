"""True tissue of a heart with an infarct, and the reference that a human reader would draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.labels import BACKGROUND_ID, REGION_FILE_IDS, TISSUES
from mrigmm.phantom.acquisition import Grid
from mrigmm.phantom.config import PhantomConfig, RegionKind
from mrigmm.phantom.fields import smooth_field
from mrigmm.phantom.pathology import Infarct, LesionThresholds, find_thresholds
from mrigmm.phantom.population import population
from mrigmm.phantom.shape import Anatomy, Tissue, TissueArray

FloatArray = NDArray[np.floating[Any]]
ByteArray = NDArray[np.uint8]

_OBSERVER_SCALE_MM = 5.0  # smoothness of a reader's displaced contour

_LABEL_OF_TISSUE = np.full(len(Tissue), BACKGROUND_ID, dtype=np.uint8)
for _tissue, _name in (
    (Tissue.BLOOD, "blood"),
    (Tissue.PAPILLARY, "blood"),  # readers include the papillary muscles in the cavity
    (Tissue.MYOCARDIUM, "myocardium"),
    (Tissue.EDEMA, "edema"),
    (Tissue.SCAR, "scar"),
    (Tissue.MVO, "scar"),  # no-reflow counts as infarct
):
    _LABEL_OF_TISSUE[_tissue] = TISSUES[_name].id


def true_thresholds(heart: Anatomy, infarct: Infarct, grid: Grid, *, mvo_part: float) -> LesionThresholds:
    """Return thresholds that give the lesions their drawn shares of the wall in the grid's slices."""
    x, y, z = grid.points()
    place = heart.locate(x, y, z)
    wall = place.tissue == Tissue.MYOCARDIUM
    height = np.broadcast_to(z, wall.shape)[wall]
    scores = infarct.scores(place.angle[wall], place.depth[wall], height)
    return find_thresholds(infarct, *scores, mvo_part=mvo_part)


def paint(
    heart: Anatomy,
    infarct: Infarct,
    thresholds: LesionThresholds,
    *,
    x: FloatArray,
    y: FloatArray,
    z: FloatArray,
) -> TissueArray:
    """True tissue at points in mm, lesions included."""
    place = heart.locate(x, y, z)
    wall = place.tissue == Tissue.MYOCARDIUM
    height = np.broadcast_to(z, wall.shape)[wall]
    scores = infarct.scores(place.angle[wall], place.depth[wall], height)
    place.tissue[wall] = _lesion_tissue(*scores, thresholds)
    return place.tissue


def read_label(
    heart: Anatomy, infarct: Infarct, *, grid: Grid, config: PhantomConfig, rng: np.random.Generator
) -> ByteArray:
    """Return the reference that a human reader would draw: displaced contours, lesions of another extent.

    Returns:
        (X, Y, Z) label map in the ids of `mrigmm.labels`.
    """
    x, y, z = grid.points()
    sigma = _OBSERVER_SCALE_MM / grid.spacing_mm
    border, lesion = (
        [size * smooth_field(grid.shape, sigma_px=sigma, rng=rng) for _ in range(2)]
        for size in (config.observer_border_mm, config.observer_lesion_mm)
    )
    contours = heart.locate(x + border[0], y + border[1], z)
    lesions = heart.locate(x + lesion[0], y + lesion[1], z)
    wall = contours.tissue == Tissue.MYOCARDIUM
    extent = np.exp(rng.normal(0, config.observer_extent, 2))
    height = np.broadcast_to(z, wall.shape)[wall]
    scores = infarct.scores(lesions.angle[wall], lesions.depth[wall], height)
    thresholds = find_thresholds(
        infarct,
        *scores,
        mvo_part=population(config.centre).mvo_part,
        extent=(float(extent[0]), float(extent[1])),
    )
    contours.tissue[wall] = _lesion_tissue(*scores, thresholds)
    return _LABEL_OF_TISSUE[contours.tissue]


def region_map(label: ByteArray, *, kind: RegionKind) -> ByteArray:
    """Return a region map (X, Y, Z) that agrees with a label map."""
    outside, first, wall = REGION_FILE_IDS  # the first is the whole ventricle, or the cavity
    inside = label != BACKGROUND_ID
    region = np.where(inside, first, outside)
    if kind == "cavity-wall":
        region[inside & (label != TISSUES["blood"].id)] = wall
    return region.astype(np.uint8)


def _lesion_tissue(scar: FloatArray, risk: FloatArray, thresholds: LesionThresholds) -> TissueArray:
    tissue: TissueArray = np.full(scar.shape, Tissue.MYOCARDIUM, dtype=np.uint8)
    tissue[risk > thresholds.risk] = Tissue.EDEMA
    tissue[scar > thresholds.scar] = Tissue.SCAR
    tissue[scar > thresholds.mvo] = Tissue.MVO
    return tissue
