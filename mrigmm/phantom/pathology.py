"""Infarct and edema: where they lie in the wall, as functions of angle, depth and height."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrigmm.phantom.config import PhantomConfig
from mrigmm.phantom.population import MVO_PART, population

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

InfarctKind = Literal["none", "acute", "chronic"]

# Coronary territories: name, share of infarcts, angle of the middle in degrees. Angle 0 is the lateral
# wall (away from the right ventricle), -90 anterior, 180 septal, 90 inferior.
TERRITORIES = (("LAD", 0.5, -115.0), ("RCA", 0.3, 105.0), ("LCX", 0.2, 5.0))

# Preference for a depth, epicardium (0) to endocardium (1): the wavefront starts at the endocardium,
# readers draw scar a little inside of it, and edema fills what scar leaves.
DEPTH_KNOTS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
SCAR_DEPTH = (-1.2, -0.75, -0.15, 0.05, 0.0, -0.2, -0.35)
RISK_DEPTH = (-0.8, -0.6, -0.25, -0.05, 0.05, 0.15, 0.2)

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_SMALLEST_SHARE, _LARGEST_FACTOR = 0.5, 1.25  # of the 5 % and of the 95 % quantile
_WAVES = 6


@dataclass(frozen=True)
class Ripples:
    """Irregularity of a lesion's border: a random Fourier series over angle, height and depth."""

    amplitude: FloatArray  # (W,)
    phase: FloatArray  # (W,) rad
    climb: FloatArray  # (W,) rad per mm of height
    depth: FloatArray  # (W,) rad per unit of depth

    def __call__(self, angle: FloatArray, depth: FloatArray, height: FloatArray) -> FloatArray:
        """Value at wall coordinates (rad, 0 to 1, mm), broadcast against each other."""
        total = np.zeros(np.broadcast_shapes(angle.shape, depth.shape, height.shape), dtype=np.float32)
        for order, (size, phase, climb, slope) in enumerate(
            zip(self.amplitude, self.phase, self.climb, self.depth, strict=True), start=1
        ):
            total += size * np.cos(order * angle + phase + climb * height + slope * depth)
        return total


@dataclass(frozen=True)
class Infarct:
    """One infarct. Angles in rad, heights and lengths in mm; shares refer to the whole wall.

    `risk_drift` turns the area at risk against the scar: edema is wider on one of its sides.
    """

    kind: InfarctKind
    territory: str
    angle: float
    half_arc: float
    height: float
    half_length: float
    scar_share: float
    edema_share: float
    has_mvo: bool
    risk_drift: float
    ripples: tuple[Ripples, Ripples]

    def distance(self, angle: FloatArray, height: FloatArray, *, turned: float = 0.0) -> FloatArray:
        """Distance from the middle of the territory, or `turned` (rad) from it: 1 about at the border."""
        turn = np.angle(np.exp(1j * (angle - self.angle - turned))).astype(np.float32)
        away: FloatArray = np.hypot(turn / self.half_arc, (height - self.height) / self.half_length)
        return away

    def scores(
        self, angle: FloatArray, depth: FloatArray, height: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return scores of the wall's voxels: how early each becomes scar, and how early area at risk."""
        away = self.distance(angle, height)
        from_risk = self.distance(angle, height, turned=self.risk_drift)
        shared = self.ripples[0](angle, depth, height)
        own = self.ripples[1](angle, depth, height)
        scar = shared - away + np.interp(depth, DEPTH_KNOTS, SCAR_DEPTH)
        risk = shared + own - from_risk + np.interp(depth, DEPTH_KNOTS, RISK_DEPTH)
        return scar.astype(np.float32), risk.astype(np.float32)


@dataclass(frozen=True)
class LesionThresholds:
    """Scores above which a place is no-reflow core, scar, area at risk."""

    mvo: float
    scar: float
    risk: float


def draw_infarct(
    config: PhantomConfig,
    *,
    length_mm: float,
    heights_mm: FloatArray,
    rng: np.random.Generator,
    number: int = 0,
) -> Infarct:
    """Draw kind, territory and extent.

    Args:
        config: shares of the kinds, and whose figures.
        length_mm: of the ventricle.
        heights_mm: slice positions (Z,), so that one is hit.
        rng: draws everything.
        number: of the study in its cohort, from 0, where the kinds are dealt.
    """
    figures = population(config.centre)
    drawn = _kind(rng.random(), config)
    kind = _dealt_kind(number, config) if config.dealt else drawn
    name, _, middle = TERRITORIES[rng.choice(len(TERRITORIES), p=[share for _, share, _ in TERRITORIES])]
    scar, edema = (_draw_share(table, rng) for table in (figures.scar_share, figures.edema_share))
    hit = rng.choice(heights_mm) + rng.normal(0, 0.08) * length_mm
    half_arc = np.deg2rad(rng.uniform(45, 70))
    return Infarct(
        kind=kind,
        territory=name if kind != "none" else "none",
        angle=float(np.deg2rad(middle + rng.normal(0, 15))),
        half_arc=float(half_arc),
        height=float(hit),
        half_length=float(length_mm * rng.uniform(0.22, 0.4)),
        scar_share=scar if kind != "none" else 0.0,
        edema_share=edema if kind == "acute" else 0.0,
        has_mvo=bool(kind == "acute" and scar > 0.15 and rng.random() < config.mvo_share),
        risk_drift=float(0.4 * half_arc * rng.standard_normal()),
        ripples=(_draw_ripples(0.25, rng), _draw_ripples(0.1, rng)),
    )


def _kind(chance: float, config: PhantomConfig) -> InfarctKind:
    """Return the kind that a number drawn from 0 to 1 stands for."""
    if chance < config.healthy_share:
        return "none"
    return "chronic" if chance < config.healthy_share + config.chronic_share else "acute"


def _dealt_kind(number: int, config: PhantomConfig) -> InfarctKind:
    """Return the kind of study `number`: of the first N, N times the share (rounded down) have it."""
    healthy_before, healthy = (int(n * config.healthy_share + 1e-9) for n in (number, number + 1))
    if healthy > healthy_before:
        return "none"
    sick = number - healthy_before
    share = config.chronic_share / (1 - config.healthy_share)
    return "chronic" if int((sick + 1) * share + 1e-9) > int(sick * share + 1e-9) else "acute"


def _draw_share(quantiles: FloatArray, rng: np.random.Generator) -> float:
    values = [quantiles[0] * _SMALLEST_SHARE, *quantiles, quantiles[-1] * _LARGEST_FACTOR]
    return float(np.interp(rng.random(), _QUANTILES, values))


def _draw_ripples(size: float, rng: np.random.Generator) -> Ripples:
    orders = np.arange(1, _WAVES + 1)
    return Ripples(
        amplitude=size * rng.normal(size=_WAVES) / np.sqrt(orders),
        phase=rng.uniform(0, 2 * np.pi, _WAVES),
        climb=rng.normal(0, 0.05, _WAVES),
        depth=rng.normal(0, 1.5, _WAVES),
    )


def find_thresholds(
    infarct: Infarct,
    scar_scores: FloatArray,
    risk_scores: FloatArray,
    *,
    mvo_part: float = MVO_PART,
    extent: tuple[float, float] = (1.0, 1.0),
) -> LesionThresholds:
    """Return thresholds that give scar and edema their share of the wall.

    Args:
        infarct: the infarct.
        scar_scores: (N,) at the wall's voxels.
        risk_scores: (N,) likewise.
        mvo_part: share of the infarct that a no-reflow core takes, where it has one.
        extent: factors on the shares of scar and of edema (a reader's generosity).
    """
    if infarct.kind == "none" or scar_scores.size == 0:
        return LesionThresholds(np.inf, np.inf, np.inf)
    scar_share = min(infarct.scar_share * extent[0], 0.9)
    scar = float(np.quantile(scar_scores, 1 - scar_share))
    core = float(np.quantile(scar_scores, 1 - mvo_part * scar_share)) if infarct.has_mvo else np.inf
    rest = risk_scores[scar_scores <= scar]
    edema_share = min(infarct.edema_share * extent[1] * scar_scores.size / max(rest.size, 1), 0.9)
    risk = float(np.quantile(rest, 1 - edema_share)) if edema_share > 0 else np.inf
    return LesionThresholds(core, scar, risk)
