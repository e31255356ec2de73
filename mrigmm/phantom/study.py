"""One simulated study in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.labels import TISSUES
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
from mrigmm.phantom.appearance import Appearance, draw_appearance, tissue_signals
from mrigmm.phantom.config import REFERENCE_SEQUENCE, SEQUENCES, PhantomConfig
from mrigmm.phantom.fields import multiscale_fields
from mrigmm.phantom.pathology import Infarct, LesionThresholds, draw_infarct
from mrigmm.phantom.population import CLASSES, population
from mrigmm.phantom.reader import paint, read_label, region_map, true_thresholds
from mrigmm.phantom.shape import Anatomy, Tissue, draw_heart, draw_length

FloatArray = NDArray[np.floating[Any]]
ByteArray = NDArray[np.uint8]

_SUBSLICES = (-0.33, 0.0, 0.33)  # positions in a slice's thickness that it averages over


@dataclass(frozen=True)
class TrueMixture:
    """The Gaussians that a study was drawn from, in the scanner units of its images.

    They describe pure tissue: partial volume, shading and the reader's borders come after them.

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


@dataclass(frozen=True)
class Streams:
    """Independent random streams, so that a knob of one part leaves the others as they are."""

    shape: np.random.Generator
    lesion: np.random.Generator
    signal: np.random.Generator
    scanner: np.random.Generator
    reader: np.random.Generator
    texture: np.random.Generator

    @classmethod
    def of(cls, seed: int, index: int) -> Streams:
        """Return the streams of study `index` of the cohort `seed`."""
        return cls(*(np.random.default_rng(part) for part in np.random.SeedSequence([seed, index]).spawn(6)))


def study_name(index: int) -> str:
    """Id of study number `index` of a cohort."""
    return f"study_{index:03d}"


def simulate_study(config: PhantomConfig, *, seed: int, index: int) -> SimulatedStudy:
    """Simulate study number `index` of the cohort `seed`, alone or with others: it is the same."""
    streams = Streams.of(seed, index)
    length = draw_length(streams.shape)
    heights = draw_heights(config, length_mm=length, rng=streams.shape)
    infarct = draw_infarct(config, length_mm=length, heights_mm=heights, rng=streams.lesion, number=index)
    thinning = config.wall_thinning if infarct.kind == "chronic" else 0.0
    heart = draw_heart(
        length_mm=length,
        infarct=infarct,
        thinning=thinning,
        rng=streams.shape,
        radius_factor=config.radius_factor,
        wall_factor=config.wall_factor,
    )
    grids = draw_grids(config, heights_mm=heights, rng=streams.scanner)
    orientation = draw_orientation(streams.scanner)
    distance = float(heights[1] - heights[0]) if len(heights) > 1 else config.slice_distance_mm[0]
    affines = {
        name: grid_affine(grid, orientation, slice_distance_mm=distance) for name, grid in grids.items()
    }
    return image_heart(
        heart, infarct, grids=grids, affines=affines, config=config, streams=streams, name=study_name(index)
    )


def image_heart(
    heart: Anatomy,
    infarct: Infarct,
    *,
    grids: dict[str, Grid],
    affines: dict[str, FloatArray],
    config: PhantomConfig,
    streams: Streams,
    name: str,
) -> SimulatedStudy:
    """Draw the appearance of a heart and take its images; every sequence in `grids` is simulated."""
    reference = grids[REFERENCE_SEQUENCE]
    n_slices = reference.shape[2]
    appearance = draw_appearance(
        config, n_slices=n_slices, chronic=infarct.kind == "chronic", rng=streams.signal
    )
    motion = draw_motion(config, n_slices=n_slices, rng=streams.scanner)
    missing = _draw_missing(config, streams.scanner)
    thresholds = true_thresholds(heart, infarct, reference, mvo_part=population(config.centre).mvo_part)
    x, y, z = reference.points()
    tissue = paint(heart, infarct, thresholds, x=x, y=y, z=z)
    label = read_label(heart, infarct, grid=reference, config=config, rng=streams.reader)
    sigmas = [scale / reference.spacing_mm for scale in tables.FIELD_SCALES_MM]
    noise = np.stack(
        [multiscale_fields(reference.shape, sigmas_px=sigmas, rng=streams.texture) for _ in SEQUENCES], axis=1
    )
    zero = _zero_levels(appearance, config)
    sequences = {}
    for channel, sequence in enumerate(SEQUENCES):
        rng = np.random.default_rng(streams.scanner.integers(2**63))
        if sequence in missing or sequence not in grids:
            continue
        signals = tissue_signals(appearance, noise, config=config, channel=channel)
        signals = to_grid(signals, source=reference, target=grids[sequence])
        signal = _average_tissues(
            heart,
            infarct,
            thresholds,
            signals,
            grid=grids[sequence],
            motion=motion[sequence],
            thickness_mm=config.slice_thickness_mm,
        )
        sequences[sequence] = acquire(
            signal,
            grid=grids[sequence],
            config=config,
            signed=config.psir and sequence == "LGE",
            gain=float(appearance.gain[channel]),
            zero=float(zero[channel]),
            rng=rng,
        )
    return SimulatedStudy(
        id=name,
        sequences=sequences,
        affines={sequence: affines[sequence] for sequence in sequences},
        label=label,
        region=region_map(label, kind=config.region),
        mvo=tissue == Tissue.MVO,
        rv_blood=tissue == Tissue.RV_BLOOD,
        tissue=tissue,
        motion={sequence: motion[sequence] for sequence in sequences},
        infarct=infarct,
        mixture=_true_mixture(appearance, label, zero),
    )


def _draw_missing(config: PhantomConfig, rng: np.random.Generator) -> set[str]:
    chances = rng.random(len(SEQUENCES))
    return {
        name
        for name, chance in zip(SEQUENCES, chances, strict=True)
        if name != REFERENCE_SEQUENCE and chance < config.missing_probability
    }


def _average_tissues(
    heart: Anatomy,
    infarct: Infarct,
    thresholds: LesionThresholds,
    signals: FloatArray,
    *,
    grid: Grid,
    motion: FloatArray,
    thickness_mm: float,
) -> FloatArray:
    """Return signal (X, Y, Z) averaged over the slice thickness, from that of each tissue (T, X, Y, Z)."""
    x, y, z = grid.points()
    total = np.zeros(grid.shape, dtype=np.float32)
    for part in _SUBSLICES:
        tissue = paint(
            heart, infarct, thresholds, x=x - motion[:, 0], y=y - motion[:, 1], z=z + part * thickness_mm
        )
        total += np.take_along_axis(signals, tissue[None], axis=0)[0]
    return total / len(_SUBSLICES)


def _zero_levels(appearance: Appearance, config: PhantomConfig) -> FloatArray:
    """(C,) signal of intensity 0. In a phase-sensitive LGE, normal wall lies just below it."""
    zero = np.array(tables.ZERO_LEVEL)
    if config.psir:
        zero[SEQUENCES.index("LGE")] = appearance.mean[CLASSES.index("myocardium"), 0] + 0.2
    return zero


def _true_mixture(appearance: Appearance, label: ByteArray, zero: FloatArray) -> TrueMixture:
    counts = np.array([np.count_nonzero(label == TISSUES[name].id) for name in CLASSES], dtype=float)
    gain = appearance.gain
    return TrueMixture(
        classes=CLASSES,
        sequences=SEQUENCES,
        weights=counts / counts.sum(),
        means=(appearance.mean - zero) * gain,
        covariances=appearance.covariance * np.outer(gain, gain),
    )
