"""`em-gmm-sklearn`: the EM-GMM baseline fitted by scikit-learn, the reference for our own."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from mrigmm.errors import InputError
from mrigmm.methods.em_gmm import EMGMM
from mrigmm.methods.em_start import Voxels
from mrigmm.methods.settings import StudyEMSettings
from mrigmm.mixture import EMResult, Mixture, PopulationPrior


class EMGMMSklearn(EMGMM):
    """scikit-learn's GaussianMixture with the start, tolerance and variance floor of `em-gmm`.

    Classes that a region code does not allow cannot be expressed there. Cavity and wall allow
    disjoint classes, so that fitting them one after the other is the same model.
    """

    name = "em-gmm-sklearn"
    settings_type = StudyEMSettings

    def fit(self, voxels: Voxels, start: Mixture, prior: PopulationPrior | None) -> EMResult:
        """Fit one mixture, region code by region code."""
        data = voxels.x.cpu().numpy()
        codes = voxels.region.cpu().numpy()
        (n, c), k = data.shape, len(self.task.classes)
        resp, log_likelihood = np.zeros((n, k)), np.zeros(n)
        weights, means, covariances = np.zeros(k), np.zeros((k, c)), np.tile(np.eye(c), (k, 1, 1))
        n_iter, converged, bound = 0, True, 0.0
        for code in np.unique(codes):
            inside = codes == code
            members = np.flatnonzero(self.task.allowed[int(code)].cpu().numpy())
            gmm = self._fit_members(data[inside], start, members)
            share = float(inside.mean())
            resp[np.ix_(inside, members)] = gmm.predict_proba(data[inside])
            log_likelihood[inside] = gmm.score_samples(data[inside])
            weights[members] += share * gmm.weights_
            means[members] = gmm.means_
            covariances[members] = _as_full(gmm)
            n_iter, converged = max(n_iter, gmm.n_iter_), converged and gmm.converged_
            bound += share * float(gmm.lower_bound_)
        mixture = Mixture(*(torch.from_numpy(part) for part in (weights, means, covariances)))
        return EMResult(
            mixture=mixture,
            resp=torch.from_numpy(resp),
            lower_bounds=[bound],
            converged=converged,
            n_iter=n_iter,
            log_likelihood=torch.from_numpy(log_likelihood),
        )

    def _fit_members(self, x: np.ndarray, start: Mixture, members: np.ndarray) -> GaussianMixture:
        """One scikit-learn fit for the allowed classes."""
        weights, means, covariances = (
            part.cpu().double().numpy()[members] for part in (start.weights, start.means, start.covariances)
        )
        weights = np.maximum(weights, 1e-12)
        gmm = GaussianMixture(
            len(members),
            covariance_type=self.settings.covariance,
            reg_covar=self.settings.variance_floor,
            tol=self.settings.tolerance,
            max_iter=self.settings.max_iter,
            weights_init=weights / weights.sum(),
            means_init=means,
            precisions_init=_precisions(covariances, self.settings.covariance),
        )
        if len(x) < max(2, len(members)):
            raise InputError(
                f"{self.name} cannot fit a part of the region this small",
                expected=f"at least {max(2, len(members))} voxels in cavity and in wall",
                got=str(len(x)),
                remedy="use em-gmm, or correct the region map",
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told as `converged`
            return gmm.fit(x)


def _precisions(covariances: np.ndarray, kind: str) -> np.ndarray:
    """Precisions of covariances (K, C, C) of a type, in the shape that scikit-learn wants for it."""
    precisions = np.linalg.inv(covariances)
    if kind == "full":
        return precisions
    if kind == "tied":
        return precisions[0]
    variances = np.diagonal(precisions, axis1=1, axis2=2)
    return variances if kind == "diag" else variances[:, 0]


def _as_full(gmm: GaussianMixture) -> np.ndarray:
    """Covariances (K, C, C) of a fitted mixture of any type."""
    k, c = gmm.means_.shape
    if gmm.covariance_type == "full":
        return np.asarray(gmm.covariances_)
    if gmm.covariance_type == "diag":
        return np.stack([np.diag(variances) for variances in gmm.covariances_])
    if gmm.covariance_type == "spherical":
        return np.stack([variance * np.eye(c) for variance in gmm.covariances_])
    return np.tile(gmm.covariances_, (k, 1, 1))
