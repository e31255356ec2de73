"""From results per study to means, intervals and comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from mrigmm.evaluation.intervals import Estimate, PairedDifference, estimate_mean, paired_difference
from quality.scoring import Result

BASELINES = ("em-gmm-sklearn", "map-em", "map-em-2step")

# Results of one protocol: name of the row -> training seed (None for what does not train) -> result.
Rows = Mapping[str, Mapping[int | None, Result]]


@dataclass(frozen=True)
class MethodSummary:
    """One row of one protocol.

    Attributes:
        metrics: metric -> estimate over studies (values averaged over training seeds first).
        seed_means: metric -> mean over studies for each training seed; empty for what does not train.
        paired: baseline -> metric -> paired difference, this row minus the baseline.
        failures: study id -> why there is no result.
        seconds_per_study: time of segmentation.
        n_cases: studies, or slices, that were segmented (with one training seed).
    """

    metrics: dict[str, Estimate]
    seed_means: dict[str, list[float]]
    paired: dict[str, dict[str, PairedDifference]]
    failures: dict[str, str]
    seconds_per_study: float
    n_cases: int

    def seed_sd(self, metric: str) -> float:
        """SD over training seeds of the mean over studies; NaN with fewer than two."""
        means = [m for m in self.seed_means.get(metric, ()) if not math.isnan(m)]
        return stdev(means) if len(means) > 1 else math.nan

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        content = asdict(self)
        for metric, estimate in content["metrics"].items():
            if self.seed_means:
                estimate |= {"seed_means": self.seed_means[metric], "seed_sd": self.seed_sd(metric)}
        del content["seed_means"]
        return content


def summarise(rows: Rows, study_ids: Sequence[str]) -> dict[str, MethodSummary]:
    """Summaries of one protocol.

    Args:
        rows: results.
        study_ids: the protocol's studies; those that a method has no result for count as undefined.
    """
    values = {name: study_values(list(by_seed.values()), study_ids) for name, by_seed in rows.items()}
    return {
        name: MethodSummary(
            metrics={metric: estimate_mean(list(v.values())) for metric, v in values[name].items()},
            seed_means=_seed_means(rows[name]),
            paired={
                baseline: {
                    metric: paired_difference(v, values[baseline][metric])
                    for metric, v in values[name].items()
                    if metric in values[baseline]
                }
                for baseline in _baselines(name)
                if baseline in values
            },
            failures={s: why for result in rows[name].values() for s, why in result.failures.items()},
            seconds_per_study=_seconds(list(rows[name].values())),
            n_cases=max(result.n_cases for result in rows[name].values()),
        )
        for name in rows
    }


def study_values(results: Sequence[Result], study_ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """Metric -> study id -> value, averaged over the training seeds where it is defined."""
    metrics = list(dict.fromkeys(key for r in results for row in r.studies.values() for key in row))
    return {
        metric: {s: _mean([r.studies.get(s, {}).get(metric, math.nan) for r in results]) for s in study_ids}
        for metric in metrics
    }


def labelled_studies_worth(supervised: Mapping[int, float], score: float) -> tuple[int | None, int | None]:
    """Between which numbers of labelled studies a supervised network overtakes a score.

    Args:
        supervised: number of labelled studies -> mean score.
        score: of an unsupervised method.

    Returns:
        The largest number up to which every network is not better (None: already the smallest is), and
        the first that is better (None: none is).
    """
    worth = None
    for count in sorted(supervised):
        if supervised[count] > score:
            return worth, count
        worth = count
    return worth, None


def _baselines(name: str) -> tuple[str, ...]:
    """Return the rows to compare with; of baselines those before them, so that no pair stands twice."""
    return BASELINES[: BASELINES.index(name)] if name in BASELINES else BASELINES


def _seed_means(by_seed: Mapping[int | None, Result]) -> dict[str, list[float]]:
    trained = {seed: result for seed, result in by_seed.items() if seed is not None}
    metrics = list(dict.fromkeys(k for r in trained.values() for row in r.studies.values() for k in row))
    return {
        metric: [_mean([row[metric] for row in result.studies.values()]) for result in trained.values()]
        for metric in metrics
    }


def _seconds(results: Sequence[Result]) -> float:
    studies = sum(len(result.studies) for result in results)
    return sum(result.seconds for result in results) / studies if studies else math.nan


def _mean(values: Sequence[float]) -> float:
    defined = [v for v in values if not math.isnan(v)]
    return fmean(defined) if defined else math.nan
