"""The inner loop of EM for many mixtures at once: two matrix products per iteration.

The log density of a Gaussian is linear in the features ``f(x) = [1, x, x x^T]`` and the sufficient statistics
are their responsibility-weighted sums. An E-step over packed voxels is therefore ``softmax(W f)`` and
``resp f^T``, in the images' precision on their device; the few parameters live in NumPy float64, where small
operations cost least. Same mathematics as ``log_gaussian``, ``statistics`` and ``m_step``, and tested equal.

To read in this order: ``loop`` (EM), ``e_step`` and ``m_step`` (its halves), ``densities`` (parameters to W),
``blocks`` (the matrix products), ``parameters`` and ``voxels`` (what they work on).
"""

from mrigmm.mixture.fast.e_step import evaluate, feature_sums
from mrigmm.mixture.fast.loop import Run
from mrigmm.mixture.fast.m_step import MStep
from mrigmm.mixture.fast.parameters import from_mixture, to_mixture
from mrigmm.mixture.fast.voxels import prepare

__all__ = ["MStep", "Run", "evaluate", "feature_sums", "from_mixture", "prepare", "to_mixture"]
