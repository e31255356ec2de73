"""EM against scikit-learn, against the differentiable functions, and on data that breaks naive code."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture as Reference
from torch import Tensor

from mrigmm.mixture import (
    Mixture,
    fit_gmm,
    fit_svgmm,
    log_gaussian,
    log_likelihood,
    log_map_prior,
    m_step,
    posterior,
    region_log_prior,
    region_log_weights,
    statistics,
)
from mrigmm.mixture.population import MapPrior
from mrigmm.mixture.updates import constrained_weights

K, C = 4, 3
TYPES = ("full", "diag", "tied", "spherical")
CAVITY_WALL = torch.tensor([[True, True, True, True], [True, False, False, False], [False, True, True, True]])


def voxels(n: int = 800, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    means = torch.tensor([[1.1, -0.3, 1.5], [-0.4, 0.5, 0.0], [0.4, 1.2, 0.6], [1.2, 1.1, 0.4]])
    labels = torch.randint(0, K, (n,), generator=generator)
    return (means[labels] + 0.6 * torch.randn(n, C, generator=generator)).double()


def start_mixture() -> Mixture:
    means = torch.tensor([[1.0, -1.0, 1.0], [-0.5, 0.0, -0.5], [0.0, 1.0, 0.0], [1.0, 0.5, -0.5]])
    return Mixture(torch.full((K,), 0.25), means, torch.eye(C).repeat(K, 1, 1)).to(dtype=torch.float64)


def prior(strength: float = 0.05) -> MapPrior:
    start = start_mixture()
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    return MapPrior(start.means, 0.5 * start.covariances, weights, strength, 2 * strength, 3 * strength)


def plain_em(
    x, start, iterations, *, covariance="full", map_prior=None, allowed=None, region=None, floor=1e-3
):
    """EM written with the public functions only: what the fast driver has to equal."""
    if allowed is None:
        allowed, region = (
            torch.ones(1, start.n_classes, dtype=torch.bool),
            torch.zeros(len(x), dtype=torch.long),
        )
    mixture, bounds = start, []
    for _ in range(iterations):
        log_prior = region_log_prior(mixture.weights, allowed, region)
        density = log_gaussian(x, mixture.means, mixture.covariances)
        bound = log_likelihood(log_prior, density).mean()
        if map_prior is not None:
            counts = torch.bincount(region, minlength=len(allowed))
            log_weights = region_log_weights(mixture.weights, counts, allowed)
            n_voxels = torch.tensor(float(len(x))).double()
            bound = bound + log_map_prior(mixture, map_prior, n_voxels, log_weights=log_weights) / len(x)
        bounds.append(float(bound))
        stats = statistics(x, posterior(log_prior, density))
        new = m_step(stats, covariance=covariance, variance_floor=floor, prior=map_prior)
        counts = torch.bincount(region, minlength=len(allowed))
        weights = constrained_weights(stats.n, counts, allowed, prior=map_prior)
        mixture = Mixture(weights, new.means, new.covariances)
    return mixture, bounds


def assert_mixtures_close(one: Mixture, other: Mixture, tolerance: float = 1e-9) -> None:
    for name in ("weights", "means", "covariances"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize("covariance", TYPES)
def test_equals_scikit_learn(covariance):
    x, start = voxels(), start_mixture()
    unit = {
        "full": np.eye(C)[None].repeat(K, 0),
        "diag": np.ones((K, C)),
        "tied": np.eye(C),
        "spherical": np.ones(K),
    }
    reference = Reference(
        K,
        covariance_type=covariance,
        tol=0,
        max_iter=25,
        reg_covar=1e-3,
        weights_init=start.weights.numpy(),
        means_init=start.means.numpy(),
        precisions_init=unit[covariance],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference.fit(x.numpy())
    ours = fit_gmm(x, start=start, covariance=covariance, tol=0, max_iter=25, variance_floor=1e-3)
    expected = torch.from_numpy(reference.covariances_)
    full = {
        "full": lambda: expected,
        "diag": lambda: torch.diag_embed(expected),
        "tied": lambda: expected.expand(K, C, C),
        "spherical": lambda: expected[:, None, None] * torch.eye(C, dtype=torch.float64),
    }[covariance]()
    assert np.abs(reference.means_ - ours.mixture.means.numpy()).max() < 1e-6
    assert np.abs(reference.weights_ - ours.mixture.weights.numpy()).max() < 1e-6
    torch.testing.assert_close(ours.mixture.covariances, full, rtol=0, atol=1e-6)
    assert ours.lower_bounds[-1] == pytest.approx(reference.lower_bound_, abs=1e-6)
    assert ours.log_likelihood.mean().item() == pytest.approx(reference.score(x.numpy()), abs=1e-6)
    np.testing.assert_allclose(ours.resp.numpy(), reference.predict_proba(x.numpy()), atol=1e-6)


def test_float32_stays_within_a_millionth_of_the_likelihood():
    x = voxels(20_000)
    x = x - x.mean(0)
    for covariance in ("diag", "full"):
        options = {"start": start_mixture(), "covariance": covariance, "tol": 0, "max_iter": 15}
        exact, single = fit_gmm(x, **options), fit_gmm(x.float(), **options)
        assert single.resp.dtype == torch.float32
        assert abs(exact.lower_bounds[-1] - single.lower_bounds[-1]) < 1e-6


@pytest.mark.parametrize("covariance", TYPES)
@pytest.mark.parametrize("with_prior", [False, True])
@pytest.mark.parametrize("constraint", ["none", "separate", "overlapping"])
def test_fast_driver_equals_public_functions(covariance, with_prior, constraint):
    x, start = voxels(500), start_mixture()
    allowed = region = None
    if constraint != "none":
        region = torch.randint(1, 3, (len(x),), generator=torch.Generator().manual_seed(1))
        allowed = CAVITY_WALL.clone()
        if constraint == "overlapping":
            allowed[1, 1] = True
    options = {"covariance": covariance, "allowed": allowed, "region": region}
    map_prior = prior() if with_prior else None
    ours = fit_gmm(x, start=start, prior=map_prior, max_iter=6, tol=0, **options)
    expected, bounds = plain_em(x, start, 6, map_prior=map_prior, **options)
    assert_mixtures_close(ours.mixture, expected)
    np.testing.assert_allclose(ours.lower_bounds, bounds, atol=1e-10)
    if constraint == "separate":
        cavity = region == 1
        assert (ours.resp[cavity, 1:] == 0).all()
        assert (ours.resp[~cavity, 0] == 0).all()
        torch.testing.assert_close(ours.mixture.weights[0], cavity.double().mean(), atol=0.05, rtol=0)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    covariance=st.sampled_from(TYPES),
    with_prior=st.booleans(),
    constraint=st.sampled_from(["none", "separate", "overlapping"]),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_bound_never_falls(seed, covariance, with_prior, constraint, scale):
    """Exact M-steps (no variance floor) cannot lower the bound, prior and constraint included."""
    generator = torch.Generator().manual_seed(seed)
    n = int(torch.randint(60, 200, (1,), generator=generator))
    x = scale * torch.randn(n, C, generator=generator).double() ** 3
    allowed = region = None
    if constraint != "none":
        region = torch.randint(1, 3, (n,), generator=generator)
        allowed = CAVITY_WALL.clone()
        allowed[1, 1:3] = constraint == "overlapping"
    start = start_mixture()
    start = Mixture(start.weights, scale * start.means, scale**2 * start.covariances)
    map_prior = None
    if with_prior:
        map_prior = MapPrior(start.means, start.covariances, start.weights, 0.02, 0.1, 0.3)
    # Without a floor a class may collapse on few voxels; ten iterations stay clear of that.
    result = fit_gmm(
        x,
        start=start,
        covariance=covariance,
        prior=map_prior,
        allowed=allowed,
        region=region,
        max_iter=10,
        tol=0,
        variance_floor=0.0 if with_prior else 1e-9 * scale**2,
    )
    steps = np.diff(result.lower_bounds)
    assert steps.min() > -1e-7


def test_several_starts_keep_the_best():
    x = voxels(400)
    bounds = [
        fit_gmm(x, n_classes=K, start="random", seed=seed, max_iter=30, tol=0).lower_bounds[-1]
        for seed in (3,)
    ]
    several = fit_gmm(x, n_classes=K, start="random", seed=3, n_starts=6, max_iter=30, tol=0)
    assert several.lower_bounds[-1] >= bounds[0]
    assert several.lower_bounds[-1] > bounds[0] - 1e-12
    again = fit_gmm(x, n_classes=K, start="random", seed=3, n_starts=6, max_iter=30, tol=0)
    assert_mixtures_close(several.mixture, again.mixture, 0)


def test_kmeans_start_finds_separate_classes():
    centres = 10.0 * torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).double()
    labels = torch.arange(K).repeat_interleave(100)
    x = centres[labels] + 0.1 * torch.randn(400, C, generator=torch.Generator().manual_seed(0))
    fitted = fit_gmm(x, n_classes=K, n_starts=3)
    found = torch.cdist(centres, fitted.mixture.means).min(1)
    assert found.values.max() < 0.05
    assert sorted(found.indices.tolist()) == [0, 1, 2, 3]


def test_says_whether_it_converged():
    result = fit_gmm(voxels(), n_classes=K, max_iter=3, tol=0)
    assert (result.converged, result.n_iter, len(result.lower_bounds)) == (False, 3, 3)
    assert fit_gmm(voxels(), n_classes=1).converged


def test_permuted_start_gives_permuted_result():
    order = [2, 0, 3, 1]
    one = fit_gmm(voxels(), start=start_mixture(), max_iter=8, tol=0)
    other = fit_gmm(voxels(), start=start_mixture().permute(order), max_iter=8, tol=0)
    assert_mixtures_close(one.mixture.permute(order), other.mixture, 1e-10)
    torch.testing.assert_close(one.resp[:, order], other.resp, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_units(scale, dtype):
    """The same voxels in other units, far from zero, give the same classes."""
    x, start = voxels(300), start_mixture()
    offset = 7.0 * scale
    one = fit_gmm(x, start=start, max_iter=10, tol=0, variance_floor=1e-3)
    moved = Mixture(start.weights, scale * start.means + offset, scale**2 * start.covariances)
    other = fit_gmm(
        (scale * x + offset).to(dtype), start=moved, max_iter=10, tol=0, variance_floor=1e-3 * scale**2
    )
    tolerance = 1e-8 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(one.resp, other.resp.double(), rtol=0, atol=tolerance)


ODD = {
    "no voxel": torch.zeros(0, C),
    "one voxel": torch.tensor([[0.3, -1.0, 2.0]]),
    "two voxels, four classes": torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]),
    "identical voxels": torch.full((50, C), 3.0),
    "constant far from zero": torch.full((50, C), 1e6),
    "one constant sequence": torch.cat([voxels(60)[:, :2].float(), torch.ones(60, 1)], 1),
    "duplicated points": torch.tensor([[0.0, 0.0, 0.0], [5.0, 5.0, 5.0]]).repeat(30, 1),
    "collinear": torch.arange(60.0)[:, None].expand(60, C).contiguous(),
    "outlier": torch.cat([voxels(200).float(), torch.full((1, C), 1e6)]),
    "float16": voxels(200).half(),
    "tiny": 1e-12 * voxels(100).float(),
}


@pytest.mark.parametrize("fit", [fit_gmm, fit_svgmm])
@pytest.mark.parametrize("covariance", TYPES)
@pytest.mark.parametrize("with_prior", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_odd_data_stays_finite(fit, covariance, with_prior, name):
    x = ODD[name]
    result = fit(x, n_classes=K, covariance=covariance, prior=prior() if with_prior else None, max_iter=20)
    for value in (result.mixture.weights, result.mixture.means, result.mixture.covariances):
        assert torch.isfinite(value).all()
    assert result.mixture.weights.sum().item() == pytest.approx(1.0)
    assert torch.linalg.eigvalsh(result.mixture.covariances).min() > 0
    assert result.resp.shape == (len(x), K)
    assert np.isfinite(result.lower_bounds).all()
    if len(x):
        torch.testing.assert_close(result.resp.sum(1), torch.ones(len(x)).to(result.resp), atol=1e-5, rtol=0)
        assert torch.isfinite(result.log_likelihood).all()


def test_outlier_keeps_the_others_apart():
    """One voxel at a million does not blur the classes of the rest, in float32."""
    x = voxels(400).float()
    clean = fit_gmm(x, prior=prior(), max_iter=30, tol=0)
    spoilt = fit_gmm(torch.cat([x, torch.full((1, C), 1e6)]), prior=prior(), max_iter=30, tol=0)
    kept = spoilt.mixture.covariances.diagonal(dim1=-2, dim2=-1).amax(-1) < 10
    assert kept.sum() == K - 1
    assert clean.resp.shape[1] == K


def test_empty_class_falls_back():
    far = start_mixture()
    means = far.means.clone()
    means[3] = 1e4
    start = Mixture(far.weights, means, far.covariances)
    x = voxels()
    plain = fit_gmm(x, start=start, max_iter=3, tol=0)
    torch.testing.assert_close(plain.mixture.means[3], x.mean(0), rtol=0, atol=1e-6)
    assert plain.mixture.weights[3] == 0
    guided = fit_gmm(x, start=start, prior=prior(), max_iter=1, tol=0)
    torch.testing.assert_close(guided.mixture.means[3], prior().means[3])


def plain_svgmm(x, start, iterations, *, covariance, map_prior, allowed, region, present):
    """The spatially variant mixture written with the public functions only."""
    mixture, bounds = start, []
    log_pi, counts = region_log_prior(start.weights, allowed, region), torch.bincount(region, minlength=3)
    niw = MapPrior(
        map_prior.means, map_prior.covariances, map_prior.weights, map_prior.kappa, map_prior.nu, 0.0
    )
    for step in range(iterations + 1):
        density = log_gaussian(x, mixture.means, mixture.covariances, present=present)
        evidence = log_likelihood(log_pi, density)
        resp = posterior(log_pi, density)
        if step == iterations:
            return mixture, bounds, resp, evidence
        n_voxels = torch.tensor(float(len(x))).double()
        bounds.append(
            float(evidence.mean() + log_map_prior(mixture, niw, n_voxels, present=present) / len(x))
        )
        log_pi = resp.log()
        stats = statistics(x, resp)
        new = m_step(stats, covariance=covariance, prior=map_prior, present=present)
        weights = constrained_weights(stats.n, counts, allowed, prior=map_prior)
        mixture = Mixture(weights, new.means, new.covariances)
    raise AssertionError


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize("lacks", [None, 1])
def test_spatially_variant_mixture_with_every_option(covariance, lacks):
    x = voxels(150)
    region = torch.randint(1, 3, (len(x),), generator=torch.Generator().manual_seed(1))
    allowed = CAVITY_WALL.clone()
    allowed[1, 1] = True
    present = None if lacks is None else torch.arange(C) != lacks
    options = {"covariance": covariance, "allowed": allowed, "region": region, "present": present}
    ours = fit_svgmm(x, start=start_mixture(), prior=prior(), max_iter=4, tol=0, **options)
    filled = x if lacks is None else torch.where(present, x, 0.0)
    mixture, bounds, resp, evidence = plain_svgmm(filled, start_mixture(), 4, map_prior=prior(), **options)
    assert_mixtures_close(ours.mixture, mixture)
    np.testing.assert_allclose(ours.lower_bounds, bounds, atol=1e-10)
    torch.testing.assert_close(ours.resp, resp)
    torch.testing.assert_close(ours.log_likelihood, evidence)
    assert (ours.n_iter, ours.converged) == (4, False)


@pytest.mark.parametrize("fit", [fit_gmm, fit_svgmm])
@pytest.mark.parametrize("observed", [False, True])
def test_ends_with_the_first_change_below_the_tolerance(fit, observed):
    x = voxels(200)
    options = {"observed": torch.ones_like(x, dtype=torch.bool)} if observed else {}
    found = fit(x, start=start_mixture(), tol=0.01, **options)
    changes = np.abs(np.diff(found.lower_bounds))
    assert changes[-1] < 0.01 <= changes[:-1].min()
    assert (found.n_iter, found.converged) == (len(changes) + 1, True)
    assert found.n_iter > 3


@pytest.mark.parametrize("fit", [fit_gmm, fit_svgmm])
def test_a_hundred_iterations_at_most(fit):
    x = torch.tensor([[0.0], [1.0], [2.0]])
    found = fit(x, n_classes=1, tol=0.0)
    assert (found.n_iter, len(found.lower_bounds), found.converged) == (100, 100, False)


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize(
    ("dtype", "distance"), [(torch.float32, 1e4), (torch.float64, 1e8)], ids=["features", "differences"]
)
def test_an_outlier_is_computed_carefully(dtype, distance, covariance):
    """Beyond what float32's features resolve, then beyond float64's."""
    x = torch.cat([voxels(200), torch.full((1, C), distance).double()]).to(dtype)
    region = torch.randint(1, 3, (len(x),), generator=torch.Generator().manual_seed(1))
    options = {"covariance": covariance, "allowed": CAVITY_WALL, "region": region}
    ours = fit_gmm(x, start=start_mixture(), max_iter=1, tol=0, **options)
    mixture, bounds = plain_em(x.double(), start_mixture(), 1, **options)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-8
    assert ours.lower_bounds == pytest.approx(bounds, rel=1e-6)
    torch.testing.assert_close(ours.mixture.means, mixture.means, rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize("covariance", TYPES)
def test_an_empty_class_is_filled_from_the_whole_mixture(covariance):
    """The last class is out of reach of every voxel."""
    start = start_mixture()
    means = torch.cat([start.means[:3], torch.full((1, C), 1e4).double()])
    start = Mixture(start.weights, means, start.covariances)
    ours = fit_gmm(voxels(50), start=start, max_iter=2, tol=0, covariance=covariance)
    mixture, _ = plain_em(voxels(50), start, 2, covariance=covariance)
    assert_mixtures_close(ours.mixture, mixture)


def test_starts_are_drawn_within_the_region_and_by_the_seed():
    x, region = voxels(120), torch.randint(1, 3, (120,), generator=torch.Generator().manual_seed(2))
    options = {"start": "random", "allowed": CAVITY_WALL, "max_iter": 3, "tol": 0, "region": region}
    one, again, other = (fit_gmm(x, n_starts=2, seed=seed, **options) for seed in (5, 5, 6))
    assert (one.resp[region == 1, 1:] == 0).all()
    assert torch.equal(one.resp, again.resp)
    assert not torch.equal(one.resp, other.resp)


def test_parameters_are_float64_whatever_the_images_are():
    present = torch.tensor([True, False, True])
    found = fit_gmm(voxels(40).float(), start=start_mixture(), present=present, max_iter=2)
    assert {value.dtype for value in vars(found.mixture).values()} == {torch.float64}
    assert (found.resp.dtype, found.log_likelihood.dtype) == (torch.float32, torch.float32)


class TestSpatiallyVariant:
    def naive(self, x, start, iterations):
        """The published recipe in linear space."""
        pi = np.tile(start.weights.numpy(), (len(x), 1))
        means, covariances = start.means.numpy(), start.covariances.numpy()
        history = []
        for _ in range(iterations):
            density = np.stack(
                [
                    np.prod(
                        np.exp(-0.5 * (x - means[k]) ** 2 / np.diag(covariances[k]))
                        / np.sqrt(2 * np.pi * np.diag(covariances[k])),
                        axis=1,
                    )
                    for k in range(K)
                ],
                axis=1,
            )
            mixed = pi * density
            history.append(np.log(mixed.sum(1)).mean())
            pi = mixed / mixed.sum(1, keepdims=True)
            means = pi.T @ x / pi.sum(0)[:, None]
            covariances = np.stack(
                [
                    np.diag((pi[:, k : k + 1] * (x - means[k]) ** 2).sum(0) / pi[:, k].sum() + 1e-3)
                    for k in range(K)
                ]
            )
        return means, history

    def test_equals_published_recipe(self):
        x = voxels(300)
        means, history = self.naive(x.numpy(), start_mixture(), 6)
        ours = fit_svgmm(x, start=start_mixture(), max_iter=6, tol=0, variance_floor=1e-3)
        np.testing.assert_allclose(ours.mixture.means.numpy(), means, atol=1e-8)
        np.testing.assert_allclose(ours.lower_bounds, history, atol=1e-8)

    def test_hardens_and_its_bound_never_falls(self):
        ours = fit_svgmm(voxels(), start=start_mixture(), max_iter=40, tol=0, variance_floor=0)
        assert np.diff(ours.lower_bounds).min() > -1e-9
        plain = fit_gmm(voxels(), start=start_mixture(), covariance="diag", max_iter=40, tol=0)
        assert ours.resp.amax(1).mean() > 0.99 > plain.resp.amax(1).mean()


class TestMissing:
    def test_absent_sequence_is_dropped(self):
        """A fit without a sequence is the fit of the others, whatever stands in its place."""
        x, keep = voxels(), [0, 2]
        present = torch.tensor([True, False, True])
        filled = x.clone()
        filled[:, 1] = torch.nan
        options = {"max_iter": 7, "tol": 0}
        without = fit_gmm(filled, start=start_mixture(), prior=prior(), present=present, **options)
        full = prior()
        sub = MapPrior(
            full.means[:, keep], full.covariances[:, keep][:, :, keep], full.weights, 0.05, 0.1, 0.15
        )
        reduced = fit_gmm(x[:, keep], start=start_mixture().channels(keep), prior=sub, **options)
        assert_mixtures_close(without.mixture.channels(keep), reduced.mixture)
        torch.testing.assert_close(without.resp, reduced.resp)
        torch.testing.assert_close(without.mixture.means[:, 1], full.means[:, 1])
        svgmm = fit_svgmm(filled, start=start_mixture(), present=present, **options)
        assert torch.isfinite(svgmm.resp).all()

    @pytest.mark.parametrize("with_prior", [False, True])
    def test_absent_sequences_come_back_as_the_m_step_fills_them(self, with_prior):
        """Two of three are absent: their block is the prior's or the identity, uncorrelated with the rest."""
        full = prior()
        factor = torch.tensor([[1.0, 0, 0], [0.5, 1, 0], [0.3, 0.2, 1]]).double()
        full = MapPrior(full.means, (factor @ factor.T).expand(K, C, C), full.weights, 0.1, 0.2, 0.3)
        x, present = voxels(100), torch.tensor([False, True, False])
        options = {"present": present, "prior": full if with_prior else None}
        fitted = fit_gmm(x, start=start_mixture(), max_iter=1, tol=0, **options)
        density = log_gaussian(x, start_mixture().means, start_mixture().covariances, present=present)
        expected = m_step(statistics(x, posterior(start_mixture().weights.log(), density)), **options)
        assert_mixtures_close(fitted.mixture, expected)
        assert (fitted.mixture.covariances[:, 1, [0, 2]] == 0).all()

    @pytest.mark.parametrize("lacks", [None, 0])
    @pytest.mark.parametrize("start", [None, "kmeans++", "random"])
    def test_fully_observed_voxels_change_nothing_whatever_the_options(self, lacks, start):
        x = voxels(120)
        region = torch.randint(1, 3, (len(x),), generator=torch.Generator().manual_seed(1))
        options = {"start": start, "prior": prior(), "allowed": CAVITY_WALL, "region": region}
        options |= {"max_iter": 4, "tol": 0, "n_starts": 3, "covariance": "tied", "seed": 2}
        if lacks is not None:
            options["present"] = torch.arange(C) != lacks
        one = fit_gmm(x, **options)
        other = fit_gmm(x, observed=torch.ones_like(x, dtype=torch.bool), **options)
        assert_mixtures_close(one.mixture, other.mixture)
        np.testing.assert_allclose(one.lower_bounds, other.lower_bounds, atol=1e-10)
        torch.testing.assert_close(one.resp, other.resp)
        torch.testing.assert_close(one.log_likelihood, other.log_likelihood)

    @pytest.mark.parametrize("fit", [fit_gmm, fit_svgmm])
    def test_observed_nowhere_is_absent(self, fit):
        x, present = voxels(100), torch.tensor([True, False, True])
        x[:, 1] = torch.nan
        options = {"start": start_mixture(), "prior": prior(), "covariance": "full", "max_iter": 3, "tol": 0}
        one = fit(x, present=present, **options)
        other = fit(x, observed=present.expand(100, C), **options)
        torch.testing.assert_close(other.resp, one.resp)
        np.testing.assert_allclose(other.lower_bounds, one.lower_bounds)

    def test_no_voxel_and_no_observation(self):
        for observed in (None, torch.zeros(0, C, dtype=torch.bool)):
            none = fit_gmm(torch.zeros(0, C), n_classes=2, observed=observed)
            assert (none.resp.shape, none.log_likelihood.shape, none.n_iter) == ((0, 2), (0,), 0)
            assert (none.converged, none.lower_bounds) == (True, [])
            assert none.mixture.weights.tolist() == [0.5, 0.5]
        with pytest.raises(ValueError, match="observed is False everywhere"):
            fit_gmm(torch.zeros(1, C), n_classes=2, observed=torch.zeros(1, C, dtype=torch.bool))

    def test_starts_from_the_mean_where_nothing_was_observed(self):
        """Two places of which one has no second value: k-means sees it at the others' mean, 3."""
        x = torch.tensor([[0.0, 2.0], [0.0, 4.0], [9.0, 77.0]]).repeat(4, 1)
        observed = torch.tensor([[True, True], [True, True], [True, False]]).repeat(4, 1)
        found = fit_gmm(x, n_classes=2, observed=observed, max_iter=1)
        assert sorted(found.mixture.means[:, 0].tolist()) == pytest.approx([0.0, 9.0], abs=1e-6)
        assert found.mixture.means[:, 1].tolist() == pytest.approx([3.0, 3.0], abs=1e-6)

    def test_fully_observed_voxels_change_nothing(self):
        x = voxels(300)
        options = {"start": start_mixture(), "max_iter": 5, "tol": 0}
        one = fit_gmm(x, **options)
        other = fit_gmm(x, observed=torch.ones_like(x, dtype=torch.bool), **options)
        assert_mixtures_close(one.mixture, other.mixture)
        np.testing.assert_allclose(one.lower_bounds, other.lower_bounds, atol=1e-10)

    @pytest.mark.parametrize("with_prior", [False, True])
    def test_bound_of_observed_values_never_falls(self, with_prior):
        x = voxels(400)
        observed = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) > 0.3
        x[~observed] = torch.nan
        result = fit_gmm(
            x,
            start=start_mixture(),
            observed=observed,
            prior=prior() if with_prior else None,
            max_iter=25,
            tol=0,
            variance_floor=0,
        )
        assert np.diff(result.lower_bounds).min() > -1e-9

    def test_conditional_covariance_is_kept(self):
        """Half of a strongly correlated sequence is missing: mean imputation would halve its variance."""
        generator = torch.Generator().manual_seed(0)
        base = torch.randn(4000, 1, generator=generator).double()
        x = torch.cat([base, 0.6 * base + 0.8 * torch.randn(4000, 1, generator=generator)], 1)
        observed = torch.ones_like(x, dtype=torch.bool)
        observed[2000:, 1] = False
        fitted = fit_gmm(x, n_classes=1, observed=observed, tol=1e-10, max_iter=500, variance_floor=0)
        expected = torch.tensor([[1.0, 0.6], [0.6, 1.0]]).double()
        torch.testing.assert_close(fitted.mixture.covariances[0], expected, rtol=0, atol=0.06)


def test_healthy_study_keeps_false_pathology_small():
    """A Gaussian healthy wall: the prior halves the false edema and scar, it does not remove them."""
    generator = torch.Generator().manual_seed(0)
    healthy = torch.tensor([-0.8, 0.2, -0.8]) + 0.55 * torch.randn(5000, C, generator=generator)
    means = torch.tensor([[-0.82, 0.23, -0.77], [-0.05, 1.18, -0.18], [0.70, 0.95, -0.35]])
    covariances = 0.4 * torch.eye(C).repeat(3, 1, 1)
    strong = MapPrior(means, covariances, torch.tensor([0.64, 0.165, 0.195]), 0.3, 0.3, 0.0)
    guided = fit_gmm(healthy, prior=strong)
    free = fit_gmm(healthy, start=strong.mixture())
    false_guided, false_free = (float(fit.resp[:, 1:].sum(1).mean()) for fit in (guided, free))
    assert 0 < false_guided < 0.5 * false_free


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(5)}, "expected x"),
        ({"n_classes": 0, "start": None}, "number of classes, got {'n_classes': 0}"),
        ({"tol": -1.0}, "tol >= 0, got 100, 1, -1.0"),
        ({"n_starts": 0}, "n_starts >= 1"),
        ({"start": start_mixture().channels([0])}, "expected 3 sequences as in x, got 1 in start"),
        ({"region": torch.ones(5)}, "go together"),
        ({"allowed": CAVITY_WALL, "region": torch.ones(4)}, r"expected region \(5,\), got \(4,\)"),
        ({"allowed": CAVITY_WALL, "region": -torch.ones(5)}, r"got -1\.\.-1"),
        ({"present": torch.ones(2, dtype=torch.bool)}, r"expected present \(3,\)"),
        ({"observed": torch.ones(5, 2, dtype=torch.bool)}, r"expected observed \(5, 3\), got \(5, 2\)"),
        ({"x": torch.full((5, C), torch.nan)}, "not finite"),
        ({"n_classes": None, "start": None}, "number of classes"),
        ({"n_classes": 3}, "number of classes, got {'n_classes': 3, 'start': 4}"),
        ({"allowed": CAVITY_WALL[:, :3], "region": torch.ones(5)}, "got {'start': 4, 'allowed': 3}"),
        ({"start": "magic"}, "as start"),
        ({"covariance": "banded"}, "covariance type"),
        ({"max_iter": 0}, "max_iter"),
        ({"variance_floor": -1.0}, "variance_floor"),
        ({"allowed": CAVITY_WALL}, "go together"),
        ({"allowed": CAVITY_WALL, "region": torch.full((5,), 3)}, "region values in 0..2"),
        ({"allowed": CAVITY_WALL & False, "region": torch.ones(5)}, "allow no class"),
        ({"present": torch.zeros(C, dtype=torch.bool)}, "one sequence"),
        ({"observed": torch.zeros(5, C, dtype=torch.bool)}, "False everywhere"),
        (
            {"prior": MapPrior(torch.zeros(K, 2), torch.eye(2).repeat(K, 1, 1), torch.ones(K) / K, 1, 1, 1)},
            "in prior",
        ),
    ],
)
def test_wrong_calls_say_what_was_expected(change, message):
    call = {"x": torch.zeros(5, C), "start": start_mixture()} | change
    with pytest.raises(ValueError, match=message):
        fit_gmm(call.pop("x"), **call)
