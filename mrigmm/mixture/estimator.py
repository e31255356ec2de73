"""The mixture behind scikit-learn's interface, for arrays instead of studies."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import validate_data
from torch import Tensor

from mrigmm.mixture.em import fit_gmm
from mrigmm.mixture.gaussian import COVARIANCES, Covariance, Mixture, cholesky, log_gaussian, safe_log
from mrigmm.mixture.initial import Start
from mrigmm.mixture.missing import log_gaussian_observed
from mrigmm.mixture.objectives import log_likelihood, posterior
from mrigmm.mixture.population import MapPrior
from mrigmm.mixture.tables import (
    ArrayLike,
    ConvergenceWarning,
    as_array,
    require_columns,
    warn_of_table,
    without_nan,
)
from mrigmm.mixture.updates import VARIANCE_FLOOR

FloatArray = npt.NDArray[np.floating]


class GaussianMixture(DensityMixin, BaseEstimator):
    """Gaussian mixture as a scikit-learn estimator: its methods, attribute names, ``clone`` and pipelines.

    What differs from scikit-learn's: ``reg_covar`` is meant for z-scores and is 1e-3 (there 1e-6), ``tol``
    1e-4 (1e-3); NaN means "not observed" and is integrated out; ``init_params`` is spelled ``"kmeans++"`` and
    takes a mixture; there is a ``prior``. There are no ``precisions_``, ``means_init`` and ``warm_start``.

    Examples:
        >>> found = GaussianMixture(2).fit([[0.0], [0.1], [5.0], [5.2]])
        >>> sorted(found.means_[:, 0].round(2).tolist())
        [0.05, 5.1]

    Args:
        n_components: K.
        covariance_type: ``full``, ``diag``, ``tied`` or ``spherical``.
        tol: on the change of the mean log likelihood.
        reg_covar: added to every variance, in squared units of X.
        max_iter: EM iterations at most.
        n_init: starts, of which the best is kept.
        init_params: ``"kmeans++"``, ``"random"``, or a mixture to start from.
        random_state: seed of the starts and of ``sample``: whatever scikit-learn takes.
        prior: maximum a posteriori when given, as ``PopulationPrior.map_prior`` makes one.

    Attributes:
        weights_: ``(K,)``.
        means_: ``(K, C)``.
        covariances_: ``(K, C, C)``, for diag ``(K, C)``, tied ``(C, C)``, spherical ``(K,)``.
        converged_: whether EM settled.
        n_iter_: EM iterations of the best start.
        lower_bound_: bound of the last E-step before the last M-step.
        lower_bounds_: the bound of every iteration.
        mixture_: the same as a ``Mixture``.
        n_features_in_: C.
    """

    weights_: FloatArray
    means_: FloatArray
    covariances_: FloatArray
    converged_: bool
    n_iter_: int
    lower_bound_: float
    lower_bounds_: list[float]
    mixture_: Mixture
    n_features_in_: int

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: Covariance = "full",
        tol: float = 1e-4,
        reg_covar: float = VARIANCE_FLOOR,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: Start | Mixture = "kmeans++",
        random_state: int | np.random.RandomState | None = 0,
        prior: MapPrior | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.prior = prior

    def fit(self, X: ArrayLike, y: None = None) -> GaussianMixture:
        """Fit to ``(N, C)`` and return self.

        Args:
            X: intensities of N voxels in C sequences, or any other features; NaN where not observed.
            y: ignored; pipelines of scikit-learn pass it.

        Warns:
            ConvergenceWarning: ``max_iter`` was not enough, or X has fewer distinct rows than K.
            UserWarning: ``reg_covar`` swamps the variance of a column.

        Raises:
            ValueError: X is no table of numbers, has infinite ones, a row without any or, where it has to
                start by itself, fewer than K rows; or a parameter is none that the model knows.
        """
        self._check_parameters()
        starts_itself = not isinstance(self.init_params, Mixture)
        x, observed = self._table(
            X, reset=True, ensure_min_samples=max(2, self.n_components) if starts_itself else 2
        )
        if starts_itself and self.prior is None and observed is not None:
            require_columns(observed)
        warn_of_table(x, observed, self.n_components if starts_itself else 1, self.reg_covar)
        result = fit_gmm(
            x,
            observed=observed,
            n_classes=self.n_components,
            start=self.init_params,
            covariance=self.covariance_type,
            prior=self.prior,
            max_iter=self.max_iter,
            tol=self.tol,
            n_starts=self.n_init,
            seed=self._seed(),
            variance_floor=self.reg_covar,
        )
        if not result.converged:
            warnings.warn(
                f"EM did not converge in {self.max_iter} iterations (tolerance {self.tol:g} on the mean log "
                "likelihood): raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        self._take(result.mixture, result.lower_bounds, result.converged)
        return self

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Return posterior class probabilities ``(N, K)``."""
        return posterior(*self._log_terms(X)).numpy()

    def predict(self, X: ArrayLike) -> npt.NDArray[np.int64]:
        """Return the most probable class of each voxel, ``(N,)``."""
        labels: npt.NDArray[np.int64] = posterior(*self._log_terms(X)).argmax(-1).numpy()
        return labels

    def score_samples(self, X: ArrayLike) -> FloatArray:
        """Return the log likelihood of each voxel, ``(N,)``."""
        return log_likelihood(*self._log_terms(X)).numpy()

    def fit_predict(self, X: ArrayLike, y: None = None) -> npt.NDArray[np.int64]:
        """Fit, and the most probable class of each voxel, ``(N,)``."""
        return self.fit(X).predict(X)

    def score(self, X: ArrayLike, y: None = None) -> float:
        """Return the mean log likelihood per voxel."""
        return float(self.score_samples(X).mean(dtype=np.float64))

    def bic(self, X: ArrayLike) -> float:
        """Return the Bayesian information criterion ``-2 log L + p log N``; lower is better."""
        scores = self.score_samples(X)
        return -2.0 * float(scores.sum(dtype=np.float64)) + self._n_parameters() * math.log(len(scores))

    def aic(self, X: ArrayLike) -> float:
        """Return the Akaike information criterion ``-2 log L + 2 p``; lower is better."""
        log_likelihood = float(self.score_samples(X).sum(dtype=np.float64))
        return -2.0 * log_likelihood + 2.0 * self._n_parameters()

    def sample(self, n_samples: int = 1) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Draw voxels: intensities ``(N, C)`` and their class ``(N,)``, grouped by class."""
        mixture = self._current()
        if n_samples < 1:
            raise ValueError(f"expected n_samples >= 1, got {n_samples}")
        generator = torch.Generator().manual_seed(self._seed())
        drawn = torch.multinomial(mixture.weights, n_samples, replacement=True, generator=generator)
        labels = drawn.sort().values
        noise = torch.randn(n_samples, mixture.n_sequences, 1, generator=generator, dtype=mixture.means.dtype)
        x = mixture.means[labels] + (cholesky(mixture.covariances)[labels] @ noise)[..., 0]
        return x.numpy(), labels.numpy()

    def _current(self) -> Mixture:
        if hasattr(self, "mixture_"):
            return self.mixture_
        if isinstance(self.init_params, Mixture):
            return self.init_params.to(dtype=torch.float64)
        raise NotFittedError("this mixture is not fitted yet: call fit, or give a mixture as init_params")

    def _log_terms(self, X: ArrayLike) -> tuple[Tensor, Tensor]:
        mixture = self._current()
        x, observed = self._table(X)
        if observed is None:
            log_density = log_gaussian(x, mixture.means, mixture.covariances)
        else:
            log_density = log_gaussian_observed(x, mixture.means, mixture.covariances, observed)
        return safe_log(mixture.weights).to(log_density.dtype), log_density

    def _take(self, mixture: Mixture, bounds: list[float], converged: bool) -> None:
        self.mixture_ = mixture = mixture.to(device="cpu")
        self.n_features_in_ = mixture.n_sequences
        # Copies: who edits an array does not change the mixture.
        self.weights_, self.means_ = mixture.weights.numpy().copy(), mixture.means.numpy().copy()
        variances = mixture.covariances.diagonal(dim1=-2, dim2=-1)
        self.covariances_ = (
            {
                "full": mixture.covariances,
                "tied": mixture.covariances[0],
                "diag": variances,
                "spherical": variances[:, 0],
            }[self.covariance_type]
            .numpy()
            .copy()
        )
        self.lower_bounds_, self.lower_bound_ = bounds, bounds[-1] if bounds else -math.inf
        self.n_iter_, self.converged_ = len(bounds), converged

    def _n_parameters(self) -> int:
        """Free parameters: means, covariances of this type, and K - 1 weights."""
        mixture = self._current()
        K, C = mixture.n_classes, mixture.n_sequences
        pairs = C * (C + 1) // 2
        covariance = {"full": K * pairs, "tied": pairs, "diag": K * C, "spherical": K}[self.covariance_type]
        return K * C + covariance + K - 1

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _check_parameters(self) -> None:
        if self.covariance_type not in COVARIANCES:
            raise ValueError(f"expected a covariance type out of {COVARIANCES}, got {self.covariance_type!r}")
        for name in ("n_components", "max_iter", "n_init"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < 1:
                raise ValueError(f"expected {name}, a whole number from 1, got {value!r}")
        for name in ("tol", "reg_covar"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Real) or value < 0:
                raise ValueError(f"expected {name}, a number from 0, got {value!r}")
        named = isinstance(self.init_params, str) and self.init_params in get_args(Start)
        if not isinstance(self.init_params, Mixture) and not named:
            raise ValueError(
                f"expected init_params out of {get_args(Start)}, or a Mixture (a prior's mixture()), "
                f"got {type(self.init_params).__name__} {self.init_params!s:.40}"
            )
        if not isinstance(self.prior, MapPrior | None):
            raise ValueError(
                "expected prior to be a MapPrior (a PopulationPrior's map_prior(strength)), "
                f"got {type(self.prior).__name__}"
            )

    def _table(
        self, X: ArrayLike, *, reset: bool = False, ensure_min_samples: int = 1
    ) -> tuple[Tensor, Tensor | None]:
        """Return values ``(N, C)``, and where they were observed ``(N, C)`` or None; see ``without_nan``."""
        checked = validate_data(
            self,
            as_array(X),
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_min_samples=ensure_min_samples,
            ensure_all_finite="allow-nan",
        )
        return without_nan(torch.tensor(checked))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
