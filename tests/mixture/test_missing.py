"""Values that were not observed, by hand."""

from __future__ import annotations

import math

import torch

from mrigmm.mixture import expected_statistics, log_gaussian_observed

MEANS = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
COVARIANCES = torch.tensor([[[4.0, 2.0], [2.0, 3.0]]], dtype=torch.float64)
X = torch.tensor([[3.0, torch.nan], [99.0, 99.0], [5.0, 7.0], [3.0, 5.0]], dtype=torch.float64)
OBSERVED = torch.tensor([[True, False], [False, False], [True, True], [False, True]])


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_expectations():
    """Seen (3, ?): E = 2 + 2/4 (3 - 1) = 3, variance 3 - 2 x 2 / 4 = 2. Seen (?, 5): E = 1 + 2/3 x 3 = 3,
    variance 4 - 4/3. Seen nothing: the class itself.
    """
    resp = torch.tensor([[0.5], [0.25], [1.0], [0.75]], dtype=torch.float64)
    stats = expected_statistics(X, resp, MEANS, COVARIANCES, OBSERVED)
    torch.testing.assert_close(stats.n, matrix(2.5))
    torch.testing.assert_close(
        stats.sum_x[0], 0.5 * matrix(3, 3) + 0.25 * matrix(1, 2) + matrix(5, 7) + 0.75 * matrix(3, 5)
    )
    seconds = (
        0.5 * matrix([9, 9], [9, 9 + 2]),
        0.25 * matrix([1 + 4, 2 + 2], [2 + 2, 4 + 3]),
        matrix([25, 35], [35, 49]),
        0.75 * matrix([9 + 4 - 4 / 3, 15], [15, 25]),
    )
    torch.testing.assert_close(stats.sum_xx[0], sum(seconds))


def test_densities_of_what_was_seen():
    """One of variance 4 at distance 2, nothing, both, and one of variance 3 at distance 3."""
    found = log_gaussian_observed(X, MEANS, COVARIANCES, OBSERVED)[:, 0]
    offset = matrix(4, 5)
    both = -math.log(2 * math.pi) - 0.5 * math.log(8) - 0.5 * offset @ COVARIANCES[0].inverse() @ offset
    expected = [
        -0.5 * math.log(2 * math.pi * 4) - 0.5 * 4 / 4,
        0.0,
        both.item(),
        -0.5 * math.log(2 * math.pi * 3) - 0.5 * 9 / 3,
    ]
    torch.testing.assert_close(found, matrix(*expected))
    same = OBSERVED[:1].expand(2, 2)  # one pattern only
    torch.testing.assert_close(
        log_gaussian_observed(X[[0, 3]], MEANS, COVARIANCES, same)[:, 0], matrix(expected[0], expected[0])
    )
