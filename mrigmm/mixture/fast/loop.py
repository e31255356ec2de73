"""EM on many mixtures from one start: E-step, bound, M-step, until each has settled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mrigmm.mixture.fast.blocks import workspace
from mrigmm.mixture.fast.e_step import e_step
from mrigmm.mixture.fast.m_step import MStep
from mrigmm.mixture.fast.parameters import Parameters, where
from mrigmm.mixture.fast.voxels import Voxels


class Run:
    """The state of S mixtures.

    Attributes:
        parameters: current ones.
        bounds: S histories of the bound per voxel, before each M-step.
        converged: ``(S,)`` bool.
    """

    def __init__(self, parameters: Parameters, n_mixtures: int) -> None:
        self.parameters = parameters
        self.bounds: list[list[float]] = [[] for _ in range(n_mixtures)]
        self.converged: npt.NDArray[np.bool_] = np.zeros(n_mixtures, dtype=bool)

    def iterate(self, voxels: Voxels, m_step: MStep, max_iter: int, tol: float) -> None:
        """EM until every mixture has converged, or ``max_iter`` M-steps. Converged ones cost nothing."""
        empty = voxels.totals == 0
        if empty.any():
            # Nothing to iterate: the M-step's fallback is the answer.
            self.parameters = where(empty, m_step(voxels.no_sums()), self.parameters)
            self.converged |= empty
        buffers = workspace(voxels)
        size = np.maximum(voxels.totals, 1.0)
        before = np.full(voxels.n_mixtures, -np.inf)
        for _ in range(max_iter):
            active = ~self.converged
            if not active.any():
                return
            sums, log_likelihood = e_step(voxels, self.parameters, buffers, active)
            bound = (log_likelihood + m_step.log_prior(self.parameters)) / size
            self.parameters = where(active, m_step(sums), self.parameters)
            for s in active.nonzero()[0].tolist():
                self.bounds[s].append(float(bound[s]))
            self.converged |= active & (np.abs(bound - before) < tol)
            before = bound

    def better(self, other: Run) -> Run:
        """Each mixture from the run with its higher bound."""
        wins = np.array([b[-1:] > a[-1:] for a, b in zip(self.bounds, other.bounds, strict=True)])
        merged = Run(where(wins, other.parameters, self.parameters), len(wins))
        merged.bounds = [b if win else a for a, b, win in zip(self.bounds, other.bounds, wins, strict=True)]
        merged.converged = np.where(wins, other.converged, self.converged)
        return merged
