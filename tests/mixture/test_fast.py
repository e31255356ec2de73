"""Parts of the inner loop by hand; that the whole equals the public functions stands in test_em."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mrigmm.mixture import Mixture, fast, log_gaussian, log_likelihood, posterior, region_log_prior
from mrigmm.mixture.fast import Segment, evaluate, expand_voxels
from mrigmm.mixture.parameters import Parameters, densities, whiten

ONE_CLASS = torch.ones(1, 1, dtype=torch.bool)


def test_blocks_hold_neighbouring_segments_up_to_their_size(monkeypatch):
    monkeypatch.setattr(fast, "CHUNK", 10)
    assert fast._spans([4, 6, 1, 10, 3, 3]) == [range(2), range(2, 3), range(3, 4), range(4, 6)]


def test_voxels_are_cut_into_segments_of_one_region(monkeypatch):
    monkeypatch.setattr(fast, "CHUNK", 10)
    found = expand_voxels(torch.zeros(28, 1), 3, torch.tensor([0] * 25 + [2] * 3), "full")
    assert found.order is None
    assert found.region_counts.tolist() == [25, 0, 3]
    runs = ((0, 0, 10), (0, 10, 20), (0, 20, 25), (2, 25, 28))
    assert found.segments == tuple(Segment(r, slice(first, last)) for r, first, last in runs)
    assert [segment.size for segment in found.segments] == [10, 10, 5, 3]


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_voxels_are_sorted_centred_and_expanded(covariance):
    """Regions 1, 0, 1; mean (3, 4), so that 2 and 4 are furthest from it."""
    x = torch.tensor([[1.0, 0.0], [5.0, 4.0], [3.0, 8.0]])
    found = expand_voxels(x, 2, torch.tensor([1, 0, 1]), covariance)
    assert found.order.tolist() == [1, 0, 2]
    assert (found.region_counts.tolist(), found.centre.tolist(), found.reach) == ([1, 2], [3, 4], 4 + 16)
    columns = [[1, 2, 0, 4, 0, 0], [1, -2, -4, 4, 8, 16], [1, 0, 4, 0, 0, 16]]  # 1, x, y, xx, xy, yy
    if covariance in ("diag", "spherical"):
        columns = [[*column[:4], column[5]] for column in columns]
    assert found.values.T.tolist() == columns
    assert found.in_float64(slice(1, 3)).T.tolist() == columns[1:]
    resp = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])  # in the order given
    expected = resp[found.order].T.double() @ torch.tensor(columns).double()
    assert found.sums(resp).tolist() == expected.tolist()


def test_whitening_by_hand():
    """Variances 4 and 9; and a matrix that rounding made singular, for which the diagonal is raised."""
    variances = np.array([[4.0, 9.0]])
    for diagonal in (True, False):
        spread = variances if diagonal else variances[..., None] * np.eye(2)
        whitener, log_det = whiten(spread, diagonal)
        own = whitener if diagonal else whitener.diagonal(0, -2, -1)
        np.testing.assert_allclose(own, [[1 / 2, 1 / 3]])
        np.testing.assert_allclose(log_det, [math.log(36)])
    singular = np.array([[[1.0, 1.0], [1.0, 1.0 - 1e-12]]])
    whitener, log_det = whiten(singular, False)
    # 1e-7 of the diagonal more: the determinant is 2e-7, whatever the rounding.
    np.testing.assert_allclose(log_det, [math.log(2e-7)], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.inv(whitener[0].T @ whitener[0]), singular[0], atol=2e-7)


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_log_density_as_coefficients_of_the_features(covariance):
    """Voxels at -1 and 1, one class of variance 1/4 at 3: log N = log(2) - log(2 pi) / 2 - 2 (x - 3)^2."""
    found = expand_voxels(torch.tensor([[9.0], [11.0]]), 1, None, covariance)
    assert found.centre.tolist() == [10]
    spread = np.full((1, 1, 1) if covariance == "full" else (1, 1), 0.25)
    given = densities(Parameters(np.ones(1), np.full((1, 1), 3.0), spread), ONE_CLASS, found.reach)
    constant = math.log(2) - 0.5 * math.log(2 * math.pi)
    assert given.constant[0, 0] == pytest.approx(constant)
    assert given.coefficients[0, 0].tolist() == pytest.approx([constant - 18, 12, -2])
    assert given.whitener.ravel().tolist() == [2]
    # (|x| + |mu|)^2 / variance at most (3 + 3)^2 x 4: the class lies further out than the voxels.
    assert given.reach == 144


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize(
    ("dtype", "distance", "tolerance"), [(torch.float32, 1e4, 1e-4), (torch.float64, 1e8, 1e-9)]
)
def test_an_outlier_does_not_blur_the_others(dtype, distance, tolerance, covariance):
    """Beyond what float32's features resolve, then beyond float64's; two regions, shuffled.

    What float32 has lost is the third of 1e4 / 60 that was subtracted: it resolves 3e-5 there.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=generator, dtype=dtype)
    x[7] = distance
    region = torch.randint(0, 2, (60,), generator=generator)
    allowed = torch.tensor([[True, True, False], [False, True, True]])
    means = torch.tensor([[0.0, 1.0], [0.5, 0.0], [-1.0, 0.5]], dtype=torch.float64)
    covariances = torch.tensor([[1.0, 0.4], [0.4, 0.5]]).double().repeat(3, 1, 1)
    if covariance == "diag":
        covariances = torch.diag_embed(covariances.diagonal(dim1=-2, dim2=-1))
    mixture = Mixture(torch.tensor([0.5, 0.3, 0.2]).double(), means, covariances)
    found = expand_voxels(x, 2, region, covariance)
    parameters = Parameters.of(mixture, found.centre, diagonal=covariance == "diag")
    resp, evidence = evaluate(found, densities(parameters, allowed, found.reach))
    log_prior = region_log_prior(mixture.weights, allowed, region)
    density = log_gaussian(x.double(), means, covariances)
    assert (resp.dtype, evidence.dtype) == (dtype, dtype)
    torch.testing.assert_close(resp.double(), posterior(log_prior, density), rtol=0, atol=tolerance)
    torch.testing.assert_close(
        evidence.double(), log_likelihood(log_prior, density), rtol=1e-6, atol=10 * tolerance
    )


@pytest.mark.parametrize(("dtype", "distance"), [(torch.float32, 20.0), (torch.float64, 60.0)])
def test_a_voxel_far_from_all_classes_has_its_share_and_its_density(dtype, distance):
    """Two classes of weight 1/2 and variance 1 at 0 and 1: exp of minus half the squared distance is 0 in
    this precision; the log density is not, and the voxel belongs to the nearer class."""
    x = torch.tensor([[0.0], [1.0], [distance]], dtype=dtype)
    mixture = Mixture(torch.ones(2) / 2, torch.tensor([[0.0], [1.0]]), torch.ones(2, 1, 1))
    allowed = torch.ones(1, 2, dtype=torch.bool)
    found = expand_voxels(x, 1, None, "full")
    given = densities(Parameters.of(mixture, found.centre, diagonal=False), allowed, found.reach)
    sums, evidence = fast.e_step(found, given, fast._blocks(found, 2))
    near = 1 / (1 + math.exp(-0.5))  # of a voxel on a class
    heads = 2 * math.log((1 + math.exp(-0.5)) / 2) - 0.5 * (distance - 1) ** 2 - math.log(2)
    assert evidence == pytest.approx(heads - 1.5 * math.log(2 * math.pi), rel=1e-5)
    np.testing.assert_allclose(sums[:, 0], [1.0, 2.0], atol=1e-6)  # near + (1 - near), and 1 of the far one
    assert sums[0, 1] + found.centre[0] * 1.0 == pytest.approx(1 - near, rel=1e-3)  # sum of x of the first
