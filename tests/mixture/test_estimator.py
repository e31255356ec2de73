"""The scikit-learn-like estimator."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.mixture import GaussianMixture as Reference
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from mrigmm.mixture import ConvergenceWarning, GaussianMixture, MapPrior, Mixture, fit_gmm

TYPES = ("full", "diag", "tied", "spherical")


@pytest.fixture(name="X")
def voxels():
    random = np.random.default_rng(0)
    return np.concatenate([random.standard_normal((200, 2)) * [1.0, 0.5] + [4.0 * k, -k] for k in range(3)])


@pytest.mark.parametrize("covariance", TYPES)
def test_attributes_and_scores_as_in_scikit_learn(X, covariance):
    options = {"covariance_type": covariance, "tol": 1e-9, "reg_covar": 1e-6, "max_iter": 1000, "n_init": 3}
    ours = GaussianMixture(3, **options).fit(X)
    reference = Reference(3, random_state=0, **options)
    reference.fit(X)
    assert ours.covariances_.shape == reference.covariances_.shape
    order, expected_order = ours.means_[:, 0].argsort(), reference.means_[:, 0].argsort()
    np.testing.assert_allclose(ours.means_[order], reference.means_[expected_order], atol=1e-3)
    np.testing.assert_allclose(ours.weights_[order], reference.weights_[expected_order], atol=1e-3)
    assert ours.score(X) == pytest.approx(reference.score(X), abs=1e-5)
    assert ours.bic(X) == pytest.approx(reference.bic(X), abs=1e-2)
    assert ours.aic(X) == pytest.approx(reference.aic(X), abs=1e-2)
    assert ours.converged_
    assert len(ours.lower_bounds_) == ours.n_iter_
    np.testing.assert_array_equal(ours.predict(X), ours.predict_proba(X).argmax(1))


def test_samples_follow_the_mixture(X):
    fitted = GaussianMixture(3, n_init=3).fit(X)
    drawn, labels = fitted.sample(20_000)
    np.testing.assert_allclose(drawn.mean(0), X.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(X.T), atol=0.3)
    np.testing.assert_allclose(np.bincount(labels) / 20_000, fitted.weights_, atol=0.02)
    for k in range(3):
        np.testing.assert_allclose(drawn[labels == k].mean(0), fitted.means_[k], atol=0.1)


def test_draws_are_grouped_by_class_and_reproducible(X):
    fitted = GaussianMixture(3, n_init=3, random_state=4).fit(X)
    drawn, labels = fitted.sample(50)
    assert (drawn.shape, labels.tolist()) == ((50, 2), sorted(labels.tolist()))
    np.testing.assert_array_equal(fitted.sample(50)[0], drawn)
    fitted.random_state = 5
    assert not np.array_equal(fitted.sample(50)[0], drawn)
    assert fitted.sample()[0].shape == (1, 2)


@pytest.mark.parametrize(
    ("covariance", "parameters"), [("full", 3 * 3), ("tied", 3), ("diag", 3 * 2), ("spherical", 3)]
)
def test_information_criteria_by_hand(X, covariance, parameters):
    """Besides the covariances 3 x 2 means and 2 weights."""
    fitted = GaussianMixture(3, n_init=3, covariance_type=covariance, max_iter=500).fit(X)
    twice, p = -2 * fitted.score_samples(X).sum(), parameters + 8
    assert fitted.bic(X) == pytest.approx(twice + p * np.log(600))
    assert fitted.aic(X) == pytest.approx(twice + 2 * p)
    assert fitted.score(X) == pytest.approx(-twice / 1200)


def test_defaults_are_those_of_the_docstring():
    assert GaussianMixture().get_params() == {
        "n_components": 1,
        "covariance_type": "full",
        "tol": 1e-4,
        "reg_covar": 1e-3,
        "max_iter": 100,
        "n_init": 1,
        "init_params": "kmeans++",
        "random_state": 0,
        "prior": None,
    }


def test_unfitted():
    with pytest.raises(ValueError, match="not fitted"):
        GaussianMixture(2).predict([[0.0]])
    with pytest.raises(ValueError, match="covariance type"):
        GaussianMixture(2, covariance_type="banded").fit([[0.0], [1.0]])


CHECKS = {check.func.__name__: check for _, check in estimator_checks_generator(GaussianMixture(), mark=None)}
del CHECKS["check_array_api_input"]  # of SciPy's experimental array API


@pytest.mark.parametrize("name", CHECKS)
def test_conventions_of_scikit_learn(name):
    CHECKS[name](GaussianMixture())


def test_a_clone_has_the_prior_and_no_fit(X):
    prior = MapPrior(torch.zeros(3, 2), torch.eye(2).repeat(3, 1, 1), torch.ones(3) / 3, 0.1, 0.1, 0.1)
    fitted = GaussianMixture(3, prior=prior, random_state=7).fit(X)
    copied = clone(fitted)
    assert copied.random_state == 7
    torch.testing.assert_close(copied.prior.means, prior.means)
    assert not hasattr(copied, "means_")
    assert "n_components=3" in repr(copied)
    np.testing.assert_allclose(copied.fit(X).means_, fitted.means_)


def test_the_number_of_classes_is_found_in_a_search(X):
    shuffled = np.random.default_rng(1).permutation(X)
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(n_init=3))
    search = GridSearchCV(pipeline, {"gaussianmixture__n_components": [1, 2, 3]}, cv=3).fit(shuffled)
    assert search.best_params_ == {"gaussianmixture__n_components": 3}


def test_what_is_no_table_of_numbers_is_refused(X):
    fitted = GaussianMixture(3).fit(X)
    with pytest.raises(ValueError, match="row 1 of X has only NaN"):
        GaussianMixture(2).fit([[0.0], [np.nan], [1.0]])
    with pytest.raises(ValueError, match="column 1 of X has only NaN"):
        GaussianMixture(2).fit([[0.0, np.nan], [1.0, np.nan]])
    with pytest.raises(ValueError, match="infinity"):
        GaussianMixture(2).fit([[0.0], [np.inf]])
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        GaussianMixture().fit([[0.0, 1.0]])
    assert fitted.predict(X[:1]).shape == (1,)
    with pytest.raises(ValueError, match="3 features"):
        fitted.predict(np.zeros((4, 3)))
    assert fitted.score_samples(X.astype(np.float32)).dtype == np.float32
    assert fitted.fit(X[:, :1]).n_features_in_ == 1  # what was fitted before does not bind


def test_nan_is_what_was_not_observed(X):
    """Half of the second column is missing; the marginal of the first alone says how likely a row is."""
    holes = X.copy()
    holes[::2, 1] = np.nan
    fitted = GaussianMixture(3, n_init=3, max_iter=300).fit(holes)
    whole = GaussianMixture(3, n_init=3, max_iter=300).fit(X)
    order, expected = fitted.means_[:, 0].argsort(), whole.means_[:, 0].argsort()
    np.testing.assert_allclose(fitted.means_[order], whole.means_[expected], atol=0.15)
    first = GaussianMixture(3, init_params=fitted.mixture_.channels([0]))
    np.testing.assert_allclose(
        fitted.score_samples([[1.0, np.nan]]), first.score_samples([[1.0]]), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("seed", [None, np.random.RandomState(3), np.int64(3)])
def test_random_states_of_scikit_learn(X, seed):
    fitted = GaussianMixture(3, n_init=3, random_state=seed).fit(X)
    assert fitted.sample(5)[0].shape == (5, 2)
    if seed is not None and not isinstance(seed, np.random.RandomState):
        np.testing.assert_array_equal(
            fitted.means_, GaussianMixture(3, n_init=3, random_state=3).fit(X).means_
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "n_components, a whole number from 1, got 0"),
        ({"n_components": "3"}, "got '3'"),
        ({"n_init": 1.0}, "n_init, a whole number"),
        ({"init_params": "k-means++"}, "init_params out of .* got str k-means"),
        ({"init_params": np.zeros((1, 2))}, "init_params out of .* got ndarray"),
        ({"tol": "a"}, "tol, a number from 0, got 'a'"),
        ({"reg_covar": -1.0}, "reg_covar, a number from 0, got -1.0"),
        ({"prior": "strong"}, r"map_prior\(strength\)\), got str"),
    ],
)
def test_parameters_that_the_model_does_not_know(X, options, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**options).fit(X)


def test_too_few_rows_and_too_few_distinct_ones():
    with pytest.raises(ValueError, match="minimum of 3 is required"):
        GaussianMixture(3).fit([[0.0], [1.0]])
    with pytest.warns(ConvergenceWarning, match="fewer distinct rows than n_components=3"):
        GaussianMixture(3).fit([[0.0], [1.0], [1.0], [0.0]])
    with pytest.warns(ConvergenceWarning, match=r"EM did not converge in 1 iterations \(tolerance 0 on"):
        GaussianMixture(1, max_iter=1, tol=0.0).fit([[0.0], [1.0]])
    alike = np.repeat([[0.0], [1.0]], 1000, axis=0)  # the first thousand rows do not suffice
    GaussianMixture(2).fit(alike)


def test_a_floor_that_swamps_a_column_is_told(X):
    with pytest.warns(UserWarning, match=r"reg_covar=0.001 .* column 1 of X \(1e-06\)"):
        GaussianMixture(1).fit([[0.0, 0.001], [1.0, -0.001]] * 10)
    with pytest.warns(UserWarning, match=r"column 0 of X \(1e-06\)"):  # of the observed values
        GaussianMixture(1).fit([[5.001, 1.0], [4.999, -1.0], [np.nan, 0.0]] * 10)
    GaussianMixture(1, reg_covar=1e-9).fit([[0.0, 0.001], [1.0, -0.001]] * 10)


@pytest.mark.parametrize("covariance", TYPES)
@pytest.mark.parametrize("far", [1e6, 1e12, 1e30])
def test_a_far_outlier_leaves_finite_numbers(X, covariance, far):
    X[0, 0] = far
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = GaussianMixture(4, covariance_type=covariance, n_init=2).fit(X)
    assert np.isfinite([*fitted.weights_, *fitted.means_.ravel(), fitted.score(X)]).all()


def test_an_unfitted_mixture_has_criteria(X):
    start = GaussianMixture(3, n_init=3).fit(X)
    assert GaussianMixture(3, init_params=start.mixture_).bic(X) == pytest.approx(start.bic(X))
    with pytest.raises(ValueError, match="n_samples >= 1, got 0"):
        start.sample(0)


def test_editing_an_attribute_leaves_the_mixture(X):
    fitted = GaussianMixture(3, n_init=3).fit(X)
    before = fitted.score(X)
    fitted.means_ += 1.0
    fitted.covariances_ *= 2.0
    assert fitted.score(X) == before


def test_half_precision_tensors(X):
    fitted = GaussianMixture(3).fit(torch.tensor(X).to(torch.bfloat16))
    assert fitted.n_features_in_ == 2


def test_mixtures_and_priors_of_arrays(X):
    parts = ([0.2, 0.3, 0.5], np.zeros((3, 2)), np.stack([np.eye(2)] * 3))
    mixture = Mixture(*parts)
    assert (mixture.n_classes, mixture.n_sequences) == (3, 2)
    assert all(isinstance(value, torch.Tensor) for value in vars(mixture).values())
    prior = MapPrior(parts[1], parts[2], np.array(parts[0]), 0.1, 0.1, 0.1)
    assert np.isfinite(GaussianMixture(3, prior=prior).fit(X).means_).all()
    with pytest.raises(TypeError, match=r"torch\.Tensor, got ndarray"):
        fit_gmm(X, n_classes=2)
