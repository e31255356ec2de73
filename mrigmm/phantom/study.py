"""One simulated study in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.labels import BACKGROUND_ID, REGION_FILE_IDS, TISSUES
from mrigmm.phantom import tables
from mrigmm.phantom.acquisition import (
    Grid,
    acquire,
    draw_grids,
    draw_heights,
    draw_motion,
    draw_orientation,
    grid_affine,
    to_grid,
)
from mrigmm.phantom.anatomy import Anatomy, Tissue, TissueArray, draw_heart, draw_length
from mrigmm.phantom.appearance import Appearance, draw_appearance, tissue_signals
from mrigmm.phantom.config import REFERENCE_SEQUENCE, SEQUENCES, PhantomConfig
from mrigmm.phantom.fields import multiscale_fields, smooth_field
from mrigmm.phantom.pathology import Infarct, LesionThresholds, draw_infarct, find_thresholds
from mrigmm.phantom.population import CLASSES

FloatArray = NDArray[np.floating[Any]]
ByteArray = NDArray[np.uint8]

_OBSERVER_SCALE_MM = 5.0  # smoothness of a reader's displaced contour
_SUBSLICES = (-0.33, 0.0, 0.33)  # positions in a slice's thickness that it averages over

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


@dataclass(frozen=True)
class TrueMixture:
    """The Gaussians that a study was drawn from, in the scanner units of its images.

    Attributes:
        classes: names of the K classes; a class of weight 0 does not occur in the study.
        sequences: names of the C sequences.
        weights: (K,) shares of the reference label in the left ventricle.
        means: (K, C).
        covariances: (K, C, C).
    """

    classes: tuple[str, ...]
    sequences: tuple[str, ...]
    weights: FloatArray
    means: FloatArray
    covariances: FloatArray


@dataclass(frozen=True)
class SimulatedStudy:
    """Images, reference and truth of one study.

    `label`, `region`, `mvo`, `rv_blood` and `tissue` lie on the grid of LGE.

    Attributes:
        id: name of the study.
        sequences: name -> (X, Y, Z) float32 in scanner units; a missing sequence is absent.
        affines: name -> (4, 4) voxel to RAS world (mm).
        label: (X, Y, Z) uint8, the reader's reference in the ids of `mrigmm.labels`.
        region: (X, Y, Z) uint8 region map that agrees with the label.
        mvo: (X, Y, Z) bool, true no-reflow core.
        rv_blood: (X, Y, Z) bool, true cavity of the right ventricle.
        tissue: (X, Y, Z) uint8, true `Tissue` before the reader's error.
        motion: name -> (Z, 2) true in-plane displacement in mm along the image axes x and y.
        infarct: what was drawn.
        mixture: what the intensities were drawn from.
    """

    id: str
    sequences: dict[str, NDArray[np.float32]]
    affines: dict[str, FloatArray]
    label: ByteArray
    region: ByteArray
    mvo: NDArray[np.bool_]
    rv_blood: NDArray[np.bool_]
    tissue: ByteArray
    motion: dict[str, FloatArray]
    infarct: Infarct
    mixture: TrueMixture


def simulate_study(config: PhantomConfig, *, seed: int, index: int) -> SimulatedStudy:
    """Simulates study number `index` of the cohort `seed`.

    Each part has a random stream of its own: a knob of the acquisition leaves the heart as it is.
    """
    streams = [np.random.default_rng(part) for part in np.random.SeedSequence([seed, index]).spawn(6)]
    shape_rng, lesion_rng, signal_rng, scanner_rng, reader_rng, texture_rng = streams
    length = draw_length(shape_rng)
    heights = draw_heights(config, length_mm=length, rng=shape_rng)
    infarct = draw_infarct(config, length_mm=length, heights_mm=heights, rng=lesion_rng)
    thinning = config.wall_thinning if infarct.kind == "chronic" else 0.0
    heart = draw_heart(length_mm=length, infarct=infarct, thinning=thinning, rng=shape_rng)
    appearance = draw_appearance(config, n_slices=len(heights), rng=signal_rng)
    distance = float(heights[1] - heights[0]) if len(heights) > 1 else config.slice_distance_mm[0]
    grids = draw_grids(config, heights_mm=heights, rng=scanner_rng)
    motion = draw_motion(config, n_slices=len(heights), rng=scanner_rng)
    missing = _draw_missing(config, scanner_rng)
    orientation = draw_orientation(scanner_rng)

    reference = grids[REFERENCE_SEQUENCE]
    thresholds = _true_thresholds(heart, infarct, reference)
    tissue = paint(heart, infarct, thresholds, *reference.points())
    label = read_label(heart, infarct, grid=reference, config=config, rng=reader_rng)
    sigmas = [scale / reference.spacing_mm for scale in tables.FIELD_SCALES_MM]
    noise = np.stack(
        [multiscale_fields(reference.shape, sigmas_px=sigmas, rng=texture_rng) for _ in SEQUENCES], axis=1
    )
    sequences = {}
    for channel, name in enumerate(SEQUENCES):
        rng = np.random.default_rng(scanner_rng.integers(2**63))
        signal = _render(
            heart, infarct, thresholds, appearance, noise, grid=grids[name], reference=reference,
            motion=motion[name], channel=channel, config=config,
        )  # fmt: skip
        signed = config.psir and name == "LGE"
        zero = _null_level(appearance) if signed else tables.ZERO_LEVEL[channel]
        sequences[name] = acquire(
            signal, grid=grids[name], config=config, signed=signed,
            gain=float(appearance.gain[channel]), zero=zero, rng=rng,
        )  # fmt: skip
    kept = [name for name in SEQUENCES if name not in missing]
    return SimulatedStudy(
        id=f"study_{index:03d}",
        sequences={name: sequences[name] for name in kept},
        affines={n: grid_affine(grids[n], orientation, slice_distance_mm=distance) for n in kept},
        label=label,
        region=region_map(label, config),
        mvo=tissue == Tissue.MVO,
        rv_blood=tissue == Tissue.RV_BLOOD,
        tissue=tissue,
        motion={name: motion[name] for name in kept},
        infarct=infarct,
        mixture=_true_mixture(appearance, label, config),
    )


def _draw_missing(config: PhantomConfig, rng: np.random.Generator) -> set[str]:
    chances = rng.random(len(SEQUENCES))
    return {
        name
        for name, chance in zip(SEQUENCES, chances, strict=True)
        if name != REFERENCE_SEQUENCE and chance < config.missing_probability
    }


def _true_thresholds(heart: Anatomy, infarct: Infarct, grid: Grid) -> LesionThresholds:
    x, y, z = grid.points()
    place = heart.locate(x, y, z)
    wall = place.tissue == Tissue.MYOCARDIUM
    scar, risk = infarct.scores(place.angle, place.depth, np.broadcast_to(z, wall.shape))
    return find_thresholds(infarct, scar[wall], risk[wall])


def paint(
    heart: Anatomy,
    infarct: Infarct,
    thresholds: LesionThresholds,
    x: FloatArray,
    y: FloatArray,
    z: FloatArray,
) -> TissueArray:
    """True tissue at points in mm, lesions included."""
    place = heart.locate(x, y, z)
    wall = place.tissue == Tissue.MYOCARDIUM
    scar, risk = infarct.scores(place.angle[wall], place.depth[wall], np.broadcast_to(z, wall.shape)[wall])
    place.tissue[wall] = _lesion_tissue(scar, risk, thresholds)
    return place.tissue


def _lesion_tissue(scar: FloatArray, risk: FloatArray, thresholds: LesionThresholds) -> TissueArray:
    tissue: TissueArray = np.full(scar.shape, Tissue.MYOCARDIUM, dtype=np.uint8)
    tissue[risk > thresholds.risk] = Tissue.EDEMA
    tissue[scar > thresholds.scar] = Tissue.SCAR
    tissue[scar > thresholds.mvo] = Tissue.MVO
    return tissue


def read_label(
    heart: Anatomy, infarct: Infarct, *, grid: Grid, config: PhantomConfig, rng: np.random.Generator
) -> ByteArray:
    """The reference that a human reader would draw: displaced contours, lesions of another extent."""
    x, y, z = grid.points()
    shifts = []
    for size in (config.observer_border_mm, config.observer_lesion_mm):
        sigma = _OBSERVER_SCALE_MM / grid.spacing_mm
        shifts.append([size * smooth_field(grid.shape, sigma_px=sigma, rng=rng) for _ in range(2)])
    contours = heart.locate(x + shifts[0][0], y + shifts[0][1], z)
    lesions = heart.locate(x + shifts[1][0], y + shifts[1][1], z)
    wall = contours.tissue == Tissue.MYOCARDIUM
    extent = np.exp(rng.normal(0, config.observer_extent, 2))
    scores = infarct.scores(lesions.angle[wall], lesions.depth[wall], np.broadcast_to(z, wall.shape)[wall])
    thresholds = find_thresholds(infarct, *scores, extent=(float(extent[0]), float(extent[1])))
    contours.tissue[wall] = _lesion_tissue(*scores, thresholds)
    return _LABEL_OF_TISSUE[contours.tissue]


def region_map(label: ByteArray, config: PhantomConfig) -> ByteArray:
    """Region map that agrees with a label map."""
    outside, first, wall = REGION_FILE_IDS  # the first is the whole ventricle, or the cavity
    inside = label != BACKGROUND_ID
    region = np.where(inside, first, outside)
    if config.region == "cavity-wall":
        region[inside & (label != TISSUES["blood"].id)] = wall
    return region.astype(np.uint8)


def _render(
    heart: Anatomy,
    infarct: Infarct,
    thresholds: LesionThresholds,
    appearance: Appearance,
    noise: FloatArray,
    *,
    grid: Grid,
    reference: Grid,
    motion: FloatArray,
    channel: int,
    config: PhantomConfig,
) -> FloatArray:
    """Signal (X, Y, Z) of one sequence: tissues averaged over the slice thickness, in LV z-score units."""
    signals = tissue_signals(appearance, noise, config=config, channel=channel)
    signals = to_grid(signals, source=reference, target=grid)
    x, y, z = grid.points()
    total = np.zeros(grid.shape, dtype=np.float32)
    for part in _SUBSLICES:
        tissue = paint(
            heart,
            infarct,
            thresholds,
            x - motion[:, 0],
            y - motion[:, 1],
            z + part * config.slice_thickness_mm,
        )
        total += np.take_along_axis(signals, tissue[None], axis=0)[0]
    return total / len(_SUBSLICES)


def _null_level(appearance: Appearance) -> float:
    """Zero of a phase-sensitive image: normal wall is just past its null point."""
    return float(appearance.mean[CLASSES.index("myocardium"), 0]) + 0.2


def _true_mixture(appearance: Appearance, label: ByteArray, config: PhantomConfig) -> TrueMixture:
    counts = np.array([np.count_nonzero(label == TISSUES[name].id) for name in CLASSES], dtype=float)
    zero = np.array(tables.ZERO_LEVEL)
    if config.psir:
        zero[0] = _null_level(appearance)
    gain = appearance.gain
    return TrueMixture(
        classes=CLASSES,
        sequences=SEQUENCES,
        weights=counts / counts.sum(),
        means=(appearance.mean - zero) * gain,
        covariances=appearance.covariance * np.outer(gain, gain),
    )
