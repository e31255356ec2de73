"""One mixture for a cohort, study by study, against EM on all voxels at once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch

from mrigmm.mixture import PARTIAL_SUMS, Mixture, StudyVoxels, classify, fit_gmm, fit_gmm_pooled

K, C = 3, 2
EVERYTHING = torch.ones(1, K, dtype=torch.bool)
# Region 1 allows the first class only, region 2 the two others.
ANATOMY = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 1]], dtype=torch.bool)


def study(seed, n=400, *, lacks=None, holes=False, regions=False):
    generator = torch.Generator().manual_seed(seed)
    region = torch.randint(1, 3, (n,), generator=generator) if regions else torch.zeros(n, dtype=torch.long)
    component = torch.randint(0, K, (n,), generator=generator)
    means = torch.tensor([[2.0, -1.0], [-1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    x = means[component] + 0.8 * torch.randn(n, C, generator=generator, dtype=torch.float64)
    observed = torch.ones(n, C, dtype=torch.bool)
    if lacks is not None:
        observed[:, lacks] = False
    if holes:
        observed[: n // 5, 1] = False
    return StudyVoxels(torch.where(observed, x, 0.0), observed, region)


@pytest.fixture
def start():
    return Mixture(
        torch.tensor([0.4, 0.3, 0.3], dtype=torch.float64),
        torch.tensor([[1.5, -0.5], [-0.5, 0.2], [0.3, 2.0]], dtype=torch.float64),
        torch.eye(C, dtype=torch.float64).repeat(K, 1, 1),
    )


def voxels(studies):
    """Of all studies as one."""
    return (torch.cat([getattr(one, name) for one in studies]) for name in ("x", "observed", "region"))


@pytest.mark.parametrize("covariance", ["full", "diag", "tied"])
@pytest.mark.parametrize(
    ("options", "allowed"),
    [({}, EVERYTHING), ({"holes": True}, EVERYTHING), ({"regions": True}, ANATOMY)],
    ids=["complete", "field of view ends", "regions"],
)
def test_it_is_em_on_all_voxels_at_once(start, options, allowed, covariance):
    studies = [study(seed, 300 + 50 * seed, **options) for seed in range(4)]
    if "holes" in options:
        studies.append(study(9, lacks=0))
    schedule = {"covariance": covariance, "max_iter": 12, "tol": 0.0}
    pooled = fit_gmm_pooled([*enumerate(studies)], start, allowed=allowed, **schedule)
    x, observed, region = voxels(studies)
    whole = fit_gmm(x, start=start, allowed=allowed, region=region, observed=observed, **schedule)
    torch.testing.assert_close(pooled.mixture.means, whole.mixture.means, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(pooled.mixture.covariances, whole.mixture.covariances, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(pooled.mixture.weights, whole.mixture.weights, rtol=1e-9, atol=1e-9)
    assert pooled.lower_bounds == pytest.approx(whole.lower_bounds, rel=1e-9)
    assert (pooled.n_studies, pooled.converged) == (len(studies), False)
    assert pooled.region_counts.tolist() == torch.bincount(region, minlength=len(allowed)).tolist()
    resp, evidence = classify(StudyVoxels(x, observed, region), pooled.mixture, allowed)
    torch.testing.assert_close(resp, whole.resp, rtol=0, atol=1e-8)
    torch.testing.assert_close(evidence, whole.log_likelihood, rtol=0, atol=1e-8)


def shared_out(studies, start, count, **options):
    """The fits of processes that share the studies; here they are threads."""
    barrier, held = Barrier(count), [np.empty(0)] * count

    def work(rank):
        def add_up(values):
            held[rank] = values
            barrier.wait()
            total = np.add.reduce(held[::-1])
            barrier.wait()
            return total

        own = [pair for pair in enumerate(studies) if pair[0] % PARTIAL_SUMS % count == rank]
        return fit_gmm_pooled(own, start, add_up=add_up, **options)

    with ThreadPoolExecutor(count) as pool:
        return [*pool.map(work, range(count))]


@pytest.mark.parametrize("count", [2, 4, 7])
def test_the_same_bits_on_any_number_of_processes(start, count):
    """With a study without voxels, one that lacks a sequence; with 7 processes, one has no study."""
    studies = [study(seed, 200) for seed in range(4)] + [study(5, 0), study(6, lacks=1)]
    options = {"allowed": EVERYTHING, "tol": 1e-6, "max_iter": 200}
    alone = fit_gmm_pooled([*enumerate(studies)], start, **options)
    assert alone.converged
    assert alone.n_studies == 5
    for fit in shared_out(studies, start, count, **options):
        assert fit.lower_bounds == alone.lower_bounds
        for name in ("weights", "means", "covariances"):
            assert torch.equal(getattr(fit.mixture, name), getattr(alone.mixture, name))


def test_the_bound_never_falls_and_the_classes_are_found(start):
    fit = fit_gmm_pooled([(i, study(i)) for i in range(6)], start, allowed=EVERYTHING, tol=1e-8, max_iter=300)
    assert np.diff(fit.lower_bounds).min() > -1e-12
    truth = torch.tensor([[2.0, -1.0], [-1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(fit.mixture.means, truth, rtol=0, atol=0.1)  # 800 voxels per class of SD 0.8


def test_ends_with_the_first_change_below_the_tolerance(start):
    fit = fit_gmm_pooled([(0, study(0))], start, allowed=EVERYTHING, tol=0.01)
    changes = np.abs(np.diff(fit.lower_bounds))
    assert changes[-1] < 0.01 <= changes[:-1].min()
    assert fit.converged
    assert len(fit.lower_bounds) > 3
    endless = fit_gmm_pooled([(0, study(0, 30))], start, allowed=EVERYTHING, tol=0.0)
    assert (len(endless.lower_bounds), endless.converged) == (100, False)


def test_the_variance_floor_is_added(start):
    options = {"allowed": EVERYTHING, "max_iter": 1}
    low, high = (
        fit_gmm_pooled([(0, study(0))], start, variance_floor=floor, **options).mixture.covariances
        for floor in (0.0, 0.5)
    )
    torch.testing.assert_close(high - low, 0.5 * torch.eye(C).double().expand(K, C, C))


def test_of_no_study(start):
    fit = fit_gmm_pooled([], start, allowed=EVERYTHING)
    assert (fit.n_studies, fit.lower_bounds, fit.converged) == (0, [], False)
    assert torch.equal(fit.mixture.means, start.means)
    assert fit.region_counts.tolist() == [0]
