"""Tables that users give to the estimator: what is missing in them, and what makes a fit meaningless."""

from __future__ import annotations

import warnings

import numpy.typing as npt
import torch
from torch import Tensor

ArrayLike = npt.ArrayLike | Tensor

# Rows that are searched for K distinct ones before all are.
_ENOUGH_ROWS = 1000
# A variance below so many floors is mostly the floor's.
_SWAMPED = 10.0


class ConvergenceWarning(UserWarning):
    """`GaussianMixture` stopped at its iteration limit before the bound settled, or has too few rows."""


def as_array(X: ArrayLike) -> npt.ArrayLike:
    """Return a tensor as an array of float32 or float64; anything else as it is."""
    if not isinstance(X, Tensor):
        return X
    X = X.detach().cpu()
    array: npt.ArrayLike = (X if X.dtype in (torch.float32, torch.float64) else X.double()).numpy()
    return array


def without_nan(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return values ``(N, C)`` with 0 in place of NaN, and where there was none ``(N, C)`` bool.

    The second is None when every value was observed.

    Raises:
        ValueError: a row has only NaN.
    """
    observed = ~x.isnan()
    if bool(observed.all()):
        return x, None
    empty = ~observed.any(1)
    if bool(empty.any()):
        row = int(empty.nonzero()[0, 0])
        raise ValueError(f"row {row} of X has only NaN: leave out what was not observed at all")
    return torch.where(observed, x, 0.0), observed


def require_columns(observed: Tensor) -> None:
    """Refuse a column of ``(N, C)`` that was never observed: nothing would say what it is like."""
    empty = (~observed.any(0)).nonzero()[:, 0].tolist()
    if empty:
        raise ValueError(f"column {empty[0]} of X has only NaN: leave it out, or give a prior that knows it")


def warn_of_table(x: Tensor, observed: Tensor | None, n_classes: int, floor: float) -> None:
    """Say what makes a fit meaningless that is possible all the same.

    Args:
        x: ``(N, C)``, 0 where not observed.
        observed: ``(N, C)`` bool; None: everywhere.
        n_classes: K, of which each wants a distinct row.
        floor: what is added to every variance.

    Warns:
        ConvergenceWarning: there are fewer distinct rows.
        UserWarning: the variance of a column is not far above the floor.
    """
    # Nearly always the first rows suffice, and sorting all of them is slow.
    if len(x[:_ENOUGH_ROWS].unique(dim=0)) < n_classes and len(x.unique(dim=0)) < n_classes:
        warnings.warn(
            f"X has fewer distinct rows than n_components={n_classes}", ConvergenceWarning, stacklevel=3
        )
    variances = x.var(0, correction=0) if observed is None else _variances(x, observed)
    swamped = [c for c, v in enumerate(variances.tolist()) if 0 < v < _SWAMPED * floor]
    if swamped:
        warnings.warn(
            f"reg_covar={floor:g} is added to every variance and swamps that of column {swamped[0]} of X "
            f"({variances[swamped[0]]:.2g}): standardise X, or choose a smaller reg_covar",
            stacklevel=3,
        )


def _variances(x: Tensor, observed: Tensor) -> Tensor:
    """Return the variance ``(C,)`` of the observed values of ``(N, C)``."""
    n = observed.sum(0).clamp_min(1)
    mean = x.sum(0) / n
    return (torch.where(observed, x - mean, 0.0) ** 2).sum(0) / n
