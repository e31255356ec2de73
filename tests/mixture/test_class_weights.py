"""Class weights under constraints, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from mrigmm.mixture import MapPrior, constrained_weights, region_log_weights
from mrigmm.mixture.updates import class_fractions, weights_are_fractions


def regions(*rows):
    return torch.tensor(rows, dtype=torch.bool)


def prior(a):
    weights = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    return MapPrior(torch.zeros(3, 1), torch.ones(3, 1, 1), weights, 0.0, 0.0, a)


def test_fractions_with_and_without_a_prior():
    """60 of 100 and a quarter of the prior: (60 + 25 x 0.5) / 125. Of no voxel, the prior or equal shares."""
    n = torch.tensor([[60.0, 40.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert class_fractions(n, None).tolist() == [[0.6, 0.4, 0.0], [pytest.approx(1 / 3)] * 3]
    found = class_fractions(n, prior(0.25))
    assert found[0].tolist() == pytest.approx([72.5 / 125, 46.25 / 125, 6.25 / 125])
    assert found[1].tolist() == [0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("counts", "allowed", "fractions"),
    [
        ((5, 5), regions([1, 0, 0], [0, 1, 1]), True),  # nothing shared
        ((5, 5), regions([1, 1, 0], [0, 1, 1]), False),
        ((5, 0), regions([1, 1, 0], [0, 1, 1]), True),  # the second does not occur
        ((5, 5), regions([1, 1, 0], [1, 1, 0]), True),  # alike
        ((5, 5, 1), regions([1, 1, 0], [1, 1, 0], [0, 0, 1]), False),  # neither alike nor apart
    ],
)
def test_when_they_are_plain_fractions(counts, allowed, fractions):
    assert weights_are_fractions(torch.tensor(counts), allowed) is fractions
    assert weights_are_fractions(torch.tensor([counts, [0] * len(counts)]), allowed) is fractions


def test_overlapping_regions_in_closed_form():
    """Region 0 has 40 voxels of classes 0 (30) and 1 (10), region 1 has 60 of 1 (20) and 2 (40): with odds
    w0 / w1 = u and w2 / w1 = v, the derivatives 30/u = 40/(1 + u) and 40/v = 60/(1 + v) give 3 and 2.
    """
    allowed = regions([1, 1, 0], [0, 1, 1])
    n, counts = torch.tensor([30.0, 30.0, 40.0], dtype=torch.float64), torch.tensor([40, 60])
    weights = constrained_weights(n, counts, allowed)
    assert weights.tolist() == pytest.approx([3 / 6, 1 / 6, 2 / 6], abs=1e-9)
    batch = constrained_weights(torch.stack([n, 2 * n]), torch.stack([counts, 2 * counts]), allowed)
    assert batch[1].tolist() == pytest.approx([3 / 6, 1 / 6, 2 / 6], abs=1e-9)


def test_a_class_that_is_nowhere_keeps_the_share_of_the_prior():
    """60 voxels of class 0 in the only region, which allows 0 and 1; the prior's 60 say 2 : 1 : 1."""
    allowed, n = regions([1, 1, 0], [0, 1, 1]), torch.tensor([40.0, 20.0, 0.0], dtype=torch.float64)
    found = constrained_weights(n, torch.tensor([60, 0]), allowed, prior=prior(1.0))
    assert found.tolist() == pytest.approx([70 / 120, 35 / 120, 15 / 120])


def test_mean_log_weights_over_the_voxels_that_may_be_the_class():
    """10 voxels may be class 0 or 1, 30 class 1 or 2; the last class, of weight 0, may be nowhere."""
    weights = torch.tensor([0.4, 0.3, 0.3, 0.0], dtype=torch.float64)
    allowed = regions([1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1])
    found = region_log_weights(weights, torch.tensor([10, 30, 0]), allowed)
    expected = [
        math.log(0.4 / 0.7),
        (10 * math.log(0.3 / 0.7) + 30 * math.log(0.3 / 0.6)) / 40,
        math.log(0.3 / 0.6),
        0.0,
    ]
    assert found.tolist() == pytest.approx(expected)
