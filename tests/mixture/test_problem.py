"""What the starts see of a study."""

import torch

from mrigmm.mixture.problem import check


def test_what_was_not_observed_has_the_mean_of_what_was():
    """Of the first sequence one value was observed, of the second two."""
    nan = torch.nan
    problem = check(
        torch.tensor([[4.0, 1.0], [nan, nan], [nan, 2.0]]),
        n_classes=2,
        start=None,
        covariance="full",
        variance_floor=0.0,
        prior=None,
        allowed=None,
        region=None,
        present=None,
        observed=torch.tensor([[True, True], [False, False], [False, True]]),
    )
    assert problem.filled().tolist() == [[4.0, 1.0], [4.0, 1.5], [4.0, 2.0]]
    assert problem.x.tolist() == [[4.0, 1.0], [0.0, 0.0], [0.0, 2.0]]
    assert problem.region_index.tolist() == [0, 0, 0]
    assert problem.allowed.tolist() == [[True, True]]
