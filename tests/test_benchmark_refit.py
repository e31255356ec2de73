import math

import pytest
import torch
from quality.refit import refit_nll
from sklearn.mixture import GaussianMixture

from mrigmm.mixture import VARIANCE_FLOOR


def two_groups(n=400):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    x[n // 2 :] += 4
    resp = torch.zeros(n, 2, dtype=torch.float64)
    resp[: n // 2, 0] = resp[n // 2 :, 1] = 1
    return x, resp


def test_one_class_is_the_entropy_of_a_gaussian():
    """Values -1 and 1: variance 1 (plus the floor), NLL = (log 2 pi v + 1 / v) / 2."""
    x = torch.tensor([[-1.0], [1.0]]).repeat(50, 1)
    variance = 1 + VARIANCE_FLOOR
    expected = 0.5 * (math.log(2 * math.pi * variance) + 1 / variance)
    assert refit_nll(x, torch.ones(100, 1)) == pytest.approx(expected)


def test_equal_to_scikit_learn_at_its_own_solution():
    x, _ = two_groups()
    model = GaussianMixture(2, random_state=0, tol=1e-10, max_iter=500, reg_covar=VARIANCE_FLOOR).fit(
        x.numpy()
    )
    resp = torch.from_numpy(model.predict_proba(x.numpy()))
    assert refit_nll(x, resp) == pytest.approx(-model.score(x.numpy()), abs=1e-6)


def test_better_labels_have_the_smaller_nll():
    x, resp = two_groups()
    wrong = resp[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))]
    assert refit_nll(x, resp) < refit_nll(x, wrong) - 0.3


def test_an_empty_class_changes_nothing():
    x, resp = two_groups()
    with_empty = torch.cat([resp, torch.zeros(len(x), 1, dtype=resp.dtype)], dim=1)
    assert refit_nll(x, with_empty) == pytest.approx(refit_nll(x, resp))


def test_refuses_what_are_no_responsibilities():
    x, resp = two_groups()
    with pytest.raises(ValueError, match=r"^the responsibilities of a voxel must sum to 1$"):
        refit_nll(x, 2 * resp)
    with pytest.raises(ValueError, match="sum to 1"):
        refit_nll(x, 1.002 * resp)
    assert math.isfinite(refit_nll(x, 1.0005 * resp))  # rounded, as in a file
    with pytest.raises(ValueError, match="400 voxels but responsibilities of 399"):
        refit_nll(x, resp[1:])
