"""Population prior: what labelled studies say about the mixture of the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mrigmm.mixture.gaussian import Mixture
from mrigmm.mixture.map_prior import MapPrior

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
