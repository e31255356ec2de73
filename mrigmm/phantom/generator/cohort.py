"""Hearts and scanner of an unlabelled cohort, in the terms of the generator.

Simulated studies whose knobs are known are described by the same figures as the cohort's studies, with the
probabilities of the same networks. A ridge regression from figures to knobs then says what a study of the
cohort was made with, and how surely; what the figures do not tell keeps the simulator's own spread. Whether,
where and how much a study is infarcted is no knob: the simulator's shares stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from mrigmm.config_pretrain import GeneratorRanges
from mrigmm.labels import SEGMENTER_CLASSES
from mrigmm.phantom.config import SEQUENCES
from mrigmm.phantom.generator.contrast import draw_class_figures
from mrigmm.phantom.population import CLASSES

FloatArray = NDArray[np.floating[Any]]

# Ranges of which a study has one value; positive ones are drawn and estimated as logarithms.
_LOGS = ("epi_radius_mm", "wall_share", "point_spread_mm")
_PLAIN = ("inhomogeneity",)
_TABLE = (2, len(CLASSES), len(SEQUENCES))  # class means, and logarithms of their SDs
KNOBS = (
    *_LOGS,
    *_PLAIN,
    *(f"{kind} {k} {c}" for kind in ("mean", "log SD") for k in CLASSES for c in SEQUENCES),
)

_PARTS = tuple(
    [SEGMENTER_CLASSES.index(name) for name in names]
    for names in (("blood",), ("myocardium",), ("edema",), ("scar", "mvo"))
)
_BLOOD, _MYO = CLASSES.index("blood"), CLASSES.index("myocardium")
_FEW = 60.0  # pixels: a class of fewer is described by the whole wall rather than by itself
_LAGS = (1, 2, 4)  # pixels
_FAR = 3.0  # SDs of the pool beyond which figures say no more
_ALPHAS = np.geomspace(0.1, 1000, 9)

# Of the variance that the simulator gives a knob: what cohorts differ by, and the studies of one at least.
_BETWEEN, _WITHIN_LEAST = 0.5, 0.1


def draw_knobs(ranges: GeneratorRanges, rng: np.random.Generator) -> FloatArray:
    """Draw the knobs (Q,) of one study from all that the ranges allow."""
    shape = [rng.uniform(*np.log(getattr(ranges, name))) for name in _LOGS]
    shape += [rng.uniform(*getattr(ranges, name)) for name in _PLAIN]
    mean, width = draw_class_figures(ranges, rng)
    # Images are standardised: only what is left of the tables after that can be seen.
    centre = (mean[_BLOOD] + mean[_MYO]) / 2
    scale = np.sqrt((mean[_BLOOD] - centre) ** 2 + (width[_BLOOD] ** 2 + width[_MYO] ** 2) / 2)
    return np.concatenate([shape, ((mean - centre) / scale).ravel(), np.log(width / scale).ravel()])


def with_knobs(ranges: GeneratorRanges, knobs: FloatArray) -> GeneratorRanges:
    """The ranges of one study with these knobs (Q,); everything else stays a range."""
    names, n = (*_LOGS, *_PLAIN), len(_LOGS)
    values = [*np.exp(knobs[:n]), *knobs[n : len(names)]]
    changes: dict[str, Any] = {"usual_chance": 0.0}
    for name, value in zip(names, values, strict=True):
        kept = float(np.clip(value, *getattr(ranges, name)))
        changes[name] = (kept, kept)
    mean, log_width = knobs[len(names) :].reshape(_TABLE)
    changes["class_mean"] = tuple(map(tuple, mean.tolist()))
    changes["class_width"] = tuple(map(tuple, np.exp(log_width).tolist()))
    return ranges.model_copy(update=changes)


def study_figures(image: FloatArray, probability: FloatArray, sequences: Sequence[int]) -> FloatArray:
    """Describe a study as a network sees it.

    Args:
        image: (Z, C, A, A), pixels of 1 mm.
        probability: (Z, K, A, A) of `labels.SEGMENTER_CLASSES`.
        sequences: channels that the study has.

    Returns:
        (F,): logarithms of the ventricle's radius (mm) and of the wall's share of it; then of each sequence,
        in z over the ventricle, class means and log-SDs, log mean squared differences of neighbours at three
        distances, and SDs over slices of blood and wall.
    """
    p = np.stack([probability[:, part].sum(axis=1) for part in _PARTS])  # (4, Z, A, A)
    outer, inner = (np.sqrt((m.sum(axis=(1, 2)) + 1) / np.pi) for m in (p.sum(axis=0), p[0]))
    large = outer >= 0.7 * outer.max()  # not the apex
    shape = [np.log(np.quantile(outer, 0.9)), np.log(np.median(1 - 0.98 * inner[large] / outer[large]))]
    return np.concatenate([shape, *(_sequence_figures(image[:, c], p, large) for c in sequences)])


def _sequence_figures(x: FloatArray, p: FloatArray, large: NDArray[np.bool_]) -> FloatArray:
    """Figures of images (Z, A, A) and probabilities (4, Z, A, A); `large` (Z,) slices tell of the drift."""
    ventricle = p.sum(axis=0)
    inside = ventricle >= min(0.5, float(np.quantile(ventricle, 0.97)))
    x = (x - x[inside].mean()) / (x[inside].std() + 1e-6)
    over = (1, 2, 3)
    wall = p[1:].sum(axis=0)
    usual = float((wall * x).sum() / (wall.sum() + 1))
    mass = p.sum(axis=over) + _FEW
    mean = ((p * x).sum(axis=over) + _FEW * usual) / mass
    away = (x - mean[:, None, None, None]) ** 2
    variance = ((p * away).sum(axis=over) + _FEW * 0.3) / mass
    residual = (x - np.tensordot(mean, p, axes=1) / np.maximum(ventricle, 1e-3)) * inside
    steps = []
    for lag in _LAGS:
        both = inside[:, lag:] & inside[:, :-lag]
        step = (residual[:, lag:] - residual[:, :-lag])[both]
        steps.append(np.log((step**2).sum() / max(step.size, 1) + 1e-4))
    by_slice = (p * x).sum(axis=(2, 3))[:2] / (p.sum(axis=(2, 3))[:2] + 5)  # blood, wall (2, Z)
    return np.array([*mean, *np.log(variance) / 2, *steps, *by_slice[:, large].std(axis=1)])


@dataclass(frozen=True)
class CohortKnobs:
    """How a cohort's knobs are spread, and how the simulator's are.

    Attributes:
        pool: (M, Q) knobs of simulated studies.
        mean, sd: (Q,) of the cohort.
        known: (Q,) share of a knob's variance that the figures of a study tell.
    """

    pool: FloatArray
    mean: FloatArray
    sd: FloatArray
    known: FloatArray

    def draw(self, rng: np.random.Generator) -> FloatArray:
        """Draw the knobs (Q,) of a study: one of the pool, moved and narrowed, never beyond the pool."""
        usual, spread = self.pool.mean(axis=0), self.pool.std(axis=0)
        one = self.pool[rng.integers(len(self.pool))]
        moved = self.mean + (one - usual) * self.sd / spread
        return np.clip(moved, self.pool.min(axis=0), self.pool.max(axis=0))

    def table(self) -> dict[str, dict[str, float]]:
        """Knob -> mean and SD in the simulator and in the cohort, and how well it is known."""
        rows = zip(
            KNOBS, self.pool.mean(axis=0), self.pool.std(axis=0), self.mean, self.sd, self.known, strict=True
        )
        names = ("simulator_mean", "simulator_sd", "cohort_mean", "cohort_sd", "known")
        return {knob: dict(zip(names, np.round(values, 3).tolist(), strict=True)) for knob, *values in rows}


def cohort_knobs(pool: FloatArray, pool_figures: FloatArray, figures: FloatArray) -> CohortKnobs:
    """Estimate how the knobs of a cohort's studies are spread.

    A regression pulls every study towards the pool's mean; of a cohort's mean that is undone as far as the
    number of its studies allows.

    Args:
        pool: (M, Q) knobs of simulated studies.
        pool_figures: (M, F) of these.
        figures: (N, F) of the cohort's studies.
    """
    usual, total = pool.mean(axis=0), pool.var(axis=0)
    centre, scale = pool_figures.mean(axis=0), pool_figures.std(axis=0) + 1e-6
    x, seen = ((f - centre) / scale for f in (pool_figures, np.asarray(figures)))
    model = RidgeCV(alphas=_ALPHAS, alpha_per_target=True, store_cv_results=True).fit(x, pool)
    left = model.cv_results_.mean(axis=0).min(axis=1)  # (Q,) squared errors of studies left out
    known = np.clip(1 - left / total, 0.01, 0.99)
    found = model.predict(np.clip(seen, -_FAR, _FAR))  # (N, Q)
    n = len(found)
    noise = total * (1 - known) / known  # of one study, after the pull is undone
    weight = _BETWEEN * total / (_BETWEEN * total + noise / n)
    mean = usual + weight * (found.mean(axis=0) - usual) / known
    spread = found.var(axis=0, ddof=1) / known**2 - noise if n > 1 else np.zeros_like(total)
    within = known * np.clip(spread, _WITHIN_LEAST * total, _BETWEEN * total) + (1 - known) * _BETWEEN * total
    variance = within + (1 - weight) * _BETWEEN * total
    bounded = np.clip(mean, np.quantile(pool, 0.02, axis=0), np.quantile(pool, 0.98, axis=0))
    return CohortKnobs(pool, bounded, np.sqrt(np.minimum(variance, total)), known)
