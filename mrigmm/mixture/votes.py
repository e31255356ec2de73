"""Agreement of several labellings of the same voxels."""

from __future__ import annotations

from torch import Tensor


def agreement_share(votes: Tensor, labels: Tensor) -> Tensor:
    """Return the share of the votes that are for a label.

    Args:
        votes: ``(J, N)`` labels that J votes give N voxels.
        labels: ``(N,)`` the label whose share is asked for.

    Returns:
        ``(N,)`` float32, 0 to 1.
    """
    return (votes == labels).float().mean(dim=0)
