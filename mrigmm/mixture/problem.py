"""One study's voxels and everything that stays fixed while EM runs, checked once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrigmm.mixture.gaussian import COVARIANCES, Covariance, Mixture, parameter_dtype, voxel_dtype
from mrigmm.mixture.initial import Start, kmeans_responsibilities, random_responsibilities
from mrigmm.mixture.population import MapPrior


def occurring(region: Tensor) -> list[int]:
    """Return the values of a region map (any shape, integers from 0) that occur: counting beats sorting."""
    return torch.bincount(region.flatten()).nonzero()[:, 0].tolist()


@dataclass(frozen=True)
class Schedule:
    """Iterations and starts of EM.

    Attributes:
        max_iter: M-steps at most.
        tol: on the change of the bound per voxel.
        n_starts: random starts, of which the best is kept.
        seed: of the random starts.
    """

    max_iter: int
    tol: float
    n_starts: int
    seed: int

    def __post_init__(self) -> None:
        if self.max_iter < 1 or self.n_starts < 1 or self.tol < 0:
            raise ValueError(
                "expected max_iter >= 1, n_starts >= 1, tol >= 0, "
                f"got {self.max_iter}, {self.n_starts}, {self.tol}"
            )

    def repeats(self, start: Mixture | Start) -> range:
        """Return the starts: one, where the start is a mixture."""
        return range(1 if isinstance(start, Mixture) else self.n_starts)


@dataclass(frozen=True)
class Problem:
    """The voxels to fit, and all that stays fixed meanwhile.

    Attributes:
        x: ``(N, C)`` float32 or float64, 0 where not observed.
        n_classes: K.
        covariance: type.
        variance_floor: added to every variance.
        prior: maximum a posteriori when given.
        allowed: ``(R, K)`` bool.
        region: ``(N,)`` long; None: all 0.
        present: ``(C,)`` bool; None: all.
        observed: ``(N, C)`` bool; None: all.
    """

    x: Tensor
    n_classes: int
    covariance: Covariance
    variance_floor: float
    prior: MapPrior | None
    allowed: Tensor
    region: Tensor | None
    present: Tensor | None
    observed: Tensor | None

    @property
    def region_index(self) -> Tensor:
        """``(N,)`` long."""
        if self.region is not None:
            return self.region
        return torch.zeros(len(self.x), dtype=torch.long, device=self.x.device)

    def first_responsibilities(self, start: Start, generator: torch.Generator) -> Tensor:
        """``(N, K)`` float64 responsibilities to start from."""
        allowed = self.allowed[self.region_index]
        if start == "random":
            return random_responsibilities(allowed, generator)
        x = self.filled()
        return kmeans_responsibilities(x if self.present is None else x[:, self.present], allowed, generator)

    def filled(self) -> Tensor:
        """Return voxels with a sequence's observed mean where it was not observed."""
        if self.observed is None:
            return self.x
        mean = self.x.sum(0) / self.observed.sum(0).clamp_min(1)
        return torch.where(self.observed, self.x, mean)


@dataclass(frozen=True)
class EMResult:
    """The result of EM on one study.

    Attributes:
        mixture: the fitted mixture, float64.
        resp: ``(N, K)`` posterior class probabilities under it.
        lower_bounds: mean log likelihood per voxel (with a prior: plus log prior / N) before each M-step.
        converged: whether the bound settled within the tolerance.
        n_iter: M-steps taken.
        log_likelihood: ``(N,)`` log likelihood of each voxel.
    """

    mixture: Mixture
    resp: Tensor
    lower_bounds: list[float]
    converged: bool
    n_iter: int
    log_likelihood: Tensor


def first_mixture(start: Mixture | Start | None, problem: Problem) -> Mixture | Start:
    """Return the start that was asked for, or the default: the prior's mode, else k-means++."""
    if start is None:
        start = "kmeans++" if problem.prior is None else problem.prior.mixture()
    if isinstance(start, Mixture):
        return start.detach().to(dtype=parameter_dtype(problem.x.device), device=problem.x.device)
    return start


def check(
    x: Tensor,
    *,
    n_classes: int | None,
    start: Mixture | Start | None,
    covariance: Covariance,
    variance_floor: float,
    prior: MapPrior | None,
    allowed: Tensor | None,
    region: Tensor | None,
    present: Tensor | None,
    observed: Tensor | None,
) -> Problem:
    """Return the problem, after every check that a wrong call needs.

    Raises:
        TypeError, ValueError: what was expected, and what was got.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"expected x to be a torch.Tensor, got {type(x).__name__}: torch.as_tensor(x) makes one"
        )
    if x.dim() != 2 or x.shape[1] == 0:
        raise ValueError(f"expected x (N, C) with at least one sequence, got {tuple(x.shape)}")
    if covariance not in COVARIANCES:
        raise ValueError(f"expected a covariance type out of {COVARIANCES}, got {covariance!r}")
    if variance_floor < 0:
        raise ValueError(f"expected variance_floor >= 0, got {variance_floor}")
    if not (start is None or isinstance(start, Mixture) or start in ("kmeans++", "random")):
        raise ValueError(f"expected a Mixture, 'kmeans++' or 'random' as start, got {start!r}")
    N, C = x.shape
    K = _n_classes(n_classes, start, prior, allowed)
    for name, size in (
        ("start", start.n_sequences if isinstance(start, Mixture) else C),
        ("prior", C if prior is None else prior.means.shape[1]),
    ):
        if size != C:
            raise ValueError(f"expected {C} sequences as in x, got {size} in {name}")
    x = x.detach().to(voxel_dtype(x))
    if present is not None and (present.shape != (C,) or not bool(present.any())):
        raise ValueError(f"expected present ({C},) bool with one sequence at least, got {present.tolist()}")
    if observed is not None:
        observed, present = _observation(observed.to(x.device), present, N, C)
        x = torch.where(observed, x, 0.0)
    if present is not None:
        present = None if bool(present.all()) else present.to(x.device)
    if present is not None:
        x = torch.where(present, x, 0.0)
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x holds values that are not finite; say with observed or present which to ignore")
    if (allowed is None) != (region is None):
        raise ValueError("allowed and region go together")
    if allowed is None or region is None:
        allowed = torch.ones(1, K, dtype=torch.bool, device=x.device)
    else:
        allowed, region = allowed.to(x.device).bool(), region.to(x.device).long()
        _check_region(allowed, region, N)
    if prior is not None:
        prior = prior.to(dtype=parameter_dtype(x.device), device=x.device)
    return Problem(x, K, covariance, variance_floor, prior, allowed, region, present, observed)


def _n_classes(
    n_classes: int | None, start: Mixture | Start | None, prior: MapPrior | None, allowed: Tensor | None
) -> int:
    sizes = {
        "n_classes": n_classes,
        "start": start.n_classes if isinstance(start, Mixture) else None,
        "prior": None if prior is None else prior.means.shape[0],
        "allowed": None if allowed is None else allowed.shape[-1],
    }
    given = {name: size for name, size in sizes.items() if size is not None}
    if len(set(given.values())) != 1 or min(given.values()) < 1:
        raise ValueError(f"expected one number of classes, got {given or 'none (give n_classes)'}")
    return next(iter(given.values()))


def _observation(observed: Tensor, present: Tensor | None, N: int, C: int) -> tuple[Tensor, Tensor]:
    """Return where each sequence was observed ``(N, C)``, and which were anywhere ``(C,)``."""
    if observed.shape != (N, C):
        raise ValueError(f"expected observed {(N, C)}, got {tuple(observed.shape)}")
    observed = observed.bool()
    if present is not None:
        observed = observed & present.to(observed.device)
    if N == 0:
        return observed, torch.ones(C, dtype=torch.bool) if present is None else present
    anywhere = observed.any(0)
    if not bool(anywhere.any()):
        raise ValueError("observed is False everywhere")
    return observed, anywhere


def _check_region(allowed: Tensor, region: Tensor, N: int) -> None:
    if region.shape != (N,):
        raise ValueError(f"expected region ({N},), got {tuple(region.shape)}")
    if N == 0:
        return
    low, high = int(region.min()), int(region.max())
    if low < 0 or high >= len(allowed):
        raise ValueError(f"expected region values in 0..{len(allowed) - 1}, got {low}..{high}")
    barren = [value for value in occurring(region) if not bool(allowed[value].any())]
    if barren:
        raise ValueError(f"region values {barren} occur but allow no class")
