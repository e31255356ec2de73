"""Population prior: what labelled studies say about the mixture of the next one; and its MAP form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrigmm.mixture.gaussian import Mixture, cholesky, safe_log, take_arrays, without_missing


@dataclass(frozen=True)
class MapPrior:
    """Normal-inverse-Wishart and Dirichlet prior over one mixture, stated by its mode.

    The strengths are shares of the region's voxel count N: ``kappa = 0.05`` weighs as much as 5 % of
    the study's own voxels, whatever its size. That *tempers* the prior against strongly correlated
    voxels. It is not the spread between studies and cannot be read off a cohort.

    Attributes:
        means: ``(K, C)`` prior means m.
        covariances: ``(K, C, C)`` prior covariances ``Sigma_0``.
        weights: ``(K,)`` prior weights ``pi_0``, sum 1.
        kappa: strength of the means.
        nu: strength of the covariances.
        a: strength of the weights.
    """

    means: Tensor
    covariances: Tensor
    weights: Tensor
    kappa: float
    nu: float
    a: float

    def __post_init__(self) -> None:
        take_arrays(self, "means", "covariances", "weights")
        K, C = self.means.shape
        if self.covariances.shape != (K, C, C) or self.weights.shape != (K,):
            raise ValueError(
                f"expected covariances {(K, C, C)} and weights {(K,)} for means {(K, C)}, "
                f"got {tuple(self.covariances.shape)} and {tuple(self.weights.shape)}"
            )
        if min(self.kappa, self.nu, self.a) < 0:
            raise ValueError(f"strengths cannot be negative, got {self.kappa}, {self.nu}, {self.a}")

    def mixture(self) -> Mixture:
        """Return the prior's mode, as a start for EM."""
        return Mixture(self.weights, self.means, self.covariances)

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> MapPrior:
        """Return the same prior in another dtype or on another device."""
        return MapPrior(
            self.means.to(dtype=dtype, device=device),
            self.covariances.to(dtype=dtype, device=device),
            self.weights.to(dtype=dtype, device=device),
            self.kappa,
            self.nu,
            self.a,
        )


def log_map_prior(
    mixture: Mixture,
    prior: MapPrior,
    n_voxels: Tensor,
    *,
    present: Tensor | None = None,
    log_weights: Tensor | None = None,
) -> Tensor:
    r"""Log prior density of a mixture up to a constant, ``(...)``: what MAP adds to the log likelihood.

    ``sum_k -((nu + C + 2)(log|Sigma_k| + tr(Sigma_k^-1 Sigma_0k)) + kappa |mu_k - m_k|^2_Sigma_k) / 2``
    ``+ a sum_k pi_0k log pi_k``, strengths in voxels (the shares times ``n_voxels``).

    Args:
        mixture: one per leading batch entry.
        prior: the prior that the mixture was fitted with.
        n_voxels: ``(...)`` voxels of the region.
        present: ``(..., C)`` bool, as in ``m_step``.
        log_weights: ``(..., K)`` from ``region_log_weights`` where the region constrains the classes;
            ``log pi`` when None.
    """
    means, covariances, mode_weights = (
        value.to(mixture.means) for value in (prior.means, prior.covariances, prior.weights)
    )
    shift, fitted, mode = mixture.means - means, mixture.covariances, covariances
    n_present: Tensor | int = mixture.n_sequences
    if present is not None:
        fitted, shift = without_missing(fitted, present), torch.where(present[..., None, :], shift, 0.0)
        both = (present[..., :, None] & present[..., None, :])[..., None, :, :]
        mode, n_present = torch.where(both, mode, 0.0), present.sum(-1)
    factor = cholesky(fitted)
    log_det = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    trace = torch.cholesky_solve(mode.expand_as(factor), factor).diagonal(dim1=-2, dim2=-1).sum(-1)
    distance = torch.linalg.solve_triangular(factor, shift[..., None], upper=False).square().sum((-2, -1))
    pseudo = prior.nu * n_voxels + n_present + 2
    log_niw = -0.5 * (pseudo[..., None] * (log_det + trace) + prior.kappa * n_voxels[..., None] * distance)
    if prior.a == 0:
        return log_niw.sum(-1)
    log_weights = safe_log(mixture.weights) if log_weights is None else log_weights
    log_weights = torch.where(mode_weights > 0, mode_weights * log_weights, 0.0)
    return log_niw.sum(-1) + prior.a * n_voxels * log_weights.sum(-1)


PRIOR_VERSION = 1

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PopulationPrior:
    """Mean mixture of a population, with the names and the units that it is stated in.

    Attributes:
        classes: K names.
        sequences: C names, in the order of the columns.
        means: ``(K, C)`` class means, averaged over studies, in units of ``standardisation``.
        covariances: ``(K, C, C)`` covariances within a study, averaged over studies.
        weights: ``(K,)`` class fractions, sum 1.
        standardisation: name of the intensity standardisation; a study standardised otherwise must not
            be fitted with this prior.
        provenance: where the numbers come from, for instance ``{"source": ..., "study_ids": [...]}``.
        version: of the file format.

    Raises:
        ValueError: shapes or values that cannot be a prior.
    """

    classes: tuple[str, ...]
    sequences: tuple[str, ...]
    means: Array
    covariances: Array
    weights: Array
    standardisation: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    version: int = PRIOR_VERSION

    def __post_init__(self) -> None:
        K, C = len(self.classes), len(self.sequences)
        for name, shape in (("means", (K, C)), ("covariances", (K, C, C)), ("weights", (K,))):
            values = np.array(getattr(self, name), dtype=np.float64)
            if values.shape != shape:
                raise ValueError(
                    f"{name}: expected shape {shape} for {K} classes and {C} sequences, got {values.shape}"
                )
            if not np.isfinite(values).all():
                raise ValueError(f"{name}: expected finite numbers, got {values.tolist()}")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        if K == 0 or C == 0 or len(set(self.classes)) < K or len(set(self.sequences)) < C:
            raise ValueError(
                f"expected distinct classes and sequences, got {self.classes} and {self.sequences}"
            )
        if (self.weights < 0).any() or not np.isclose(self.weights.sum(), 1.0, atol=1e-6):
            raise ValueError(f"weights: expected a distribution, got {self.weights.tolist()}")
        symmetric = np.allclose(self.covariances, self.covariances.swapaxes(-1, -2))
        if not symmetric or np.linalg.eigvalsh(self.covariances).min() <= 0:
            raise ValueError("covariances: expected symmetric positive definite matrices")

    def select(
        self, classes: Sequence[str] | None = None, sequences: Sequence[str] | None = None
    ) -> PopulationPrior:
        """Return the prior of some classes and sequences, in the order given.

        Weights are renormalised; dropping sequences is the exact marginal.

        Raises:
            ValueError: a name that the prior does not have.
        """
        rows = _positions("class", classes, self.classes)
        columns = _positions("sequence", sequences, self.sequences)
        weights = self.weights[rows]
        if weights.sum() <= 0:
            raise ValueError(f"the classes {list(classes or ())} have weight 0 in this prior")
        return PopulationPrior(
            tuple(self.classes[i] for i in rows),
            tuple(self.sequences[i] for i in columns),
            self.means[np.ix_(rows, columns)],
            self.covariances[np.ix_(rows, columns, columns)],
            weights / weights.sum(),
            self.standardisation,
            self.provenance,
            self.version,
        )

    def map_prior(
        self,
        strength: float | None = None,
        *,
        kappa: float | None = None,
        nu: float | None = None,
        a: float | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> MapPrior:
        """Return the prior as MAP-EM takes it.

        Args:
            strength: of means, covariances and weights alike, as a share of the study's voxels.
            kappa: strength of the means instead of ``strength``.
            nu: strength of the covariances instead of ``strength``.
            a: strength of the weights instead of ``strength``.
            dtype: of the tensors.
            device: of the tensors.

        Raises:
            ValueError: a strength is neither given nor covered by ``strength``.
        """
        strengths = [strength if value is None else value for value in (kappa, nu, a)]
        if any(value is None for value in strengths):
            raise ValueError("give strength, or all of kappa, nu and a")
        kappa, nu, a = (float(value) for value in strengths if value is not None)
        mixture = self.mixture(dtype, device)
        return MapPrior(mixture.means, mixture.covariances, mixture.weights, kappa, nu, a)

    def mixture(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> Mixture:
        """Return the population's mean mixture, as a start for EM."""
        weights, means, covariances = (
            torch.tensor(values, dtype=dtype, device=device)
            for values in (self.weights, self.means, self.covariances)
        )
        return Mixture(weights, means, covariances)

    def require_standardisation(self, name: str) -> None:
        """Refuse a study standardised in other units than the prior.

        Raises:
            ValueError: ``name`` is not this prior's standardisation.
        """
        if name != self.standardisation:
            raise ValueError(
                f"the prior is stated for intensities standardised by {self.standardisation!r}, "
                f"got {name!r}: its means would be in the wrong units"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for JSON."""
        return {
            "version": self.version,
            "classes": list(self.classes),
            "sequences": list(self.sequences),
            "standardisation": self.standardisation,
            "means": self.means.tolist(),
            "covariances": self.covariances.tolist(),
            "weights": self.weights.tolist(),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PopulationPrior:
        """Return the prior that ``to_dict`` wrote.

        Raises:
            ValueError: another version, missing or unknown keys, or values that are no prior.
        """
        version = values.get("version")
        if version != PRIOR_VERSION:
            raise ValueError(f"population prior: expected version {PRIOR_VERSION}, got {version!r}")
        expected = {
            "version",
            "classes",
            "sequences",
            "standardisation",
            "means",
            "covariances",
            "weights",
            "provenance",
        }
        if set(values) != expected:
            raise ValueError(f"population prior: expected the keys {sorted(expected)}, got {sorted(values)}")
        try:
            means, covariances, weights = (
                np.array(values[name], dtype=np.float64) for name in ("means", "covariances", "weights")
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"population prior: expected means, covariances and weights as lists of numbers ({error})"
            ) from error
        return cls(
            tuple(values["classes"]),
            tuple(values["sequences"]),
            means,
            covariances,
            weights,
            values["standardisation"],
            dict(values["provenance"]),
        )


def _positions(kind: str, wanted: Sequence[str] | None, known: tuple[str, ...]) -> list[int]:
    if wanted is None:
        return list(range(len(known)))
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ValueError(f"expected {kind} names out of {list(known)}, got {list(wanted)}")
    return [known.index(name) for name in wanted]
