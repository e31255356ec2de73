"""Two sets of predictions of the same studies, compared study by study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mrigmm.evaluation.intervals import PairedDifference, paired_difference
from mrigmm.evaluation.scores import Scores, by_metric

# What is compared; each is a family of tests of its own.
COMPARED = ("dice", "hd95_mm", "volume_error_ml")


@dataclass(frozen=True)
class Comparison:
    """One metric of one class in two sets of predictions.

    Attributes:
        first_mean, second_mean: over the studies where both have a value.
        difference: first minus second on the same studies.
        p_holm: the difference's p-value, corrected for the classes that the metric was tested in.
        pairs: study id -> both values, where both have one.
    """

    first_mean: float
    second_mean: float
    difference: PairedDifference
    p_holm: float
    pairs: dict[str, tuple[float, float]]


def compare_scores(
    first: Mapping[str, Mapping[str, Scores]], second: Mapping[str, Mapping[str, Scores]]
) -> dict[str, dict[str, Comparison]]:
    """Return the paired comparison of every metric in `COMPARED` and every class that both have.

    Args:
        first: study id -> class -> scores.
        second: likewise.

    Returns:
        Metric -> class -> comparison.
    """
    names = [name for name in _classes(first) if name in _classes(second)]
    found: dict[str, dict[str, Comparison]] = {}
    for metric in COMPARED:
        a = {name: by_metric(first, name)[metric] for name in names}
        b = {name: by_metric(second, name)[metric] for name in names}
        differences = {name: paired_difference(a[name], b[name]) for name in names}
        corrected = holm({name: difference.p_value for name, difference in differences.items()})
        found[metric] = {
            name: _comparison(a[name], b[name], differences[name], corrected[name]) for name in names
        }
    return found


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for their number, step by step from the smallest.

    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6, 65 (1979).

    Args:
        p_values: by name; NaN is no test, and stays.
    """
    tests = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    corrected, largest = dict(p_values), 0.0
    for done, (p, name) in enumerate(tests):
        largest = max(largest, min(1.0, p * (len(tests) - done)))
        corrected[name] = largest
    return corrected


def _comparison(
    a: Mapping[str, float], b: Mapping[str, float], difference: PairedDifference, p_holm: float
) -> Comparison:
    pairs = {
        study: (value, b[study])
        for study, value in a.items()
        if study in b and not (math.isnan(value) or math.isnan(b[study]))
    }
    means = np.mean([*pairs.values()], axis=0) if pairs else (math.nan, math.nan)
    return Comparison(float(means[0]), float(means[1]), difference, p_holm, pairs)


def _classes(studies: Mapping[str, Mapping[str, Scores]]) -> list[str]:
    return list(dict.fromkeys(name for scores in studies.values() for name in scores))
