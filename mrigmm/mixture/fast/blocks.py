"""The two matrix products of an E-step, over blocks of voxels that fit into the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrigmm.mixture.fast.voxels import CHUNK, Array, Voxels

Values = npt.NDArray[Any]  # in the voxels' precision


class Block(Protocol):
    """Neighbouring segments that share the operations in which voxels do not meet."""

    def run(self, table: Array, used: list[int]) -> Array:
        """Fill the used segments' feature sums; returns each segment's log likelihood.

        Args:
            table: ``(S * R, K, D)`` coefficients.
            used: numbers of segments within the block.
        """
        ...


@dataclass(frozen=True)
class TorchBlock:
    """On any device.

    Attributes:
        table: mixture * R + region value of each segment.
        starts: of each segment within the block.
        features: ``(D, m)`` of each segment of m voxels.
        logits: ``(K, width)``, buffer of the block.
        resp: ``(K, width)``, buffer of the block.
        sums: ``(segments, K, D)``, where the result goes.
    """

    table: list[int]
    starts: npt.NDArray[np.intp]
    features: list[Tensor]
    logits: Tensor
    resp: Tensor
    sums: Tensor

    def run(self, table: Array, used: list[int]) -> Array:
        """As ``Block.run``."""
        coefficients = torch.from_numpy(table).to(self.logits)
        spans = [slice(a, b) for a, b in pairwise([*self.starts.tolist(), self.logits.shape[1]])]
        for i in used:
            torch.mm(coefficients[self.table[i]], self.features[i], out=self.logits[:, spans[i]])
        torch.softmax(self.logits, 0, out=self.resp)
        for i in used:
            torch.mm(self.resp[:, spans[i]], self.features[i].mT, out=self.sums[i])
        evidence = log_evidence(self.logits, self.resp)
        return np.array([float(evidence[span].sum(dtype=torch.float64)) for span in spans])


class NumpyBlock:
    """On the CPU, where NumPy's smaller overhead and faster exponential halve the time."""

    def __init__(self, block: TorchBlock) -> None:
        """Views of the same memory, made once."""
        self.table, self.starts = block.table, block.starts
        self.features = [chunk.numpy() for chunk in block.features]
        self.features_t = [chunk.T for chunk in self.features]
        self.logits: Values = block.logits.numpy()
        self.resp: Values = block.resp.numpy()
        self.logits_parts = np.split(self.logits, self.starts[1:], axis=1)
        self.resp_parts = np.split(self.resp, self.starts[1:], axis=1)
        self.sums: list[Values] = list(block.sums.numpy())

    def run(self, table: Array, used: list[int]) -> Array:
        """As ``Block.run``."""
        logits, resp = self.logits, self.resp
        coefficients = table.astype(logits.dtype)
        for i in used:
            np.matmul(coefficients[self.table[i]], self.features[i], out=self.logits_parts[i])
        evidence = logits.max(0)
        np.subtract(logits, evidence, out=logits)
        np.exp(logits, out=resp)
        total = resp.sum(0)
        np.divide(resp, total, out=resp)
        for i in used:
            np.matmul(self.resp_parts[i], self.features_t[i], out=self.sums[i])
        np.log(total, out=total)
        evidence += total
        if len(self.features) == 1:
            return evidence.sum(dtype=np.float64, keepdims=True)
        per_segment: Array = np.add.reduceat(evidence, self.starts, dtype=np.float64)
        return per_segment


@dataclass(frozen=True)
class Workspace:
    """Blocks and buffers, kept between iterations.

    Attributes:
        blocks: each with the numbers of its segments.
        mixture: of each segment.
        sums: ``(segments, K, D)``.
        log_likelihood: ``(segments,)``.
    """

    blocks: Sequence[tuple[range, Block]]
    mixture: list[int]
    sums: Tensor
    log_likelihood: Array


def workspace(voxels: Voxels) -> Workspace:
    """Group the segments into blocks of at most ``CHUNK`` voxels and lay out the buffers."""
    K, D, R = voxels.allowed.shape[1], len(voxels.features), len(voxels.allowed)
    spans = _spans([segment.size for segment in voxels.segments])
    widths = [sum(voxels.segments[i].size for i in span) for span in spans]
    zeros, widest = voxels.features.new_zeros, max(widths, default=0)
    # One block is worked on at a time: they share logits and responsibilities.
    logits, resp = zeros(K, widest), zeros(K, widest)
    sums = zeros(len(voxels.segments), K, D)
    blocks: list[tuple[range, Block]] = []
    for span, width in zip(spans, widths, strict=True):
        members = voxels.segments[span.start : span.stop]
        block = TorchBlock(
            [segment.mixture * R + segment.region for segment in members],
            np.cumsum([0, *[segment.size for segment in members[:-1]]]),
            [voxels.features[:, segment.voxels] for segment in members],
            logits[:, :width],
            resp[:, :width],
            sums[span.start : span.stop],
        )
        blocks.append((span, NumpyBlock(block) if numpy_can(voxels.features) else block))
    mixture = [segment.mixture for segment in voxels.segments]
    return Workspace(blocks, mixture, sums, np.zeros(len(mixture)))


def numpy_can(features: Tensor) -> bool:
    """Whether NumPy can work on these features."""
    return features.device.type == "cpu"


def _spans(sizes: list[int]) -> list[range]:
    """Neighbouring segments whose sizes add up to ``CHUNK`` at most."""
    spans: list[range] = []
    filled = CHUNK
    for i, size in enumerate(sizes):
        if filled + size > CHUNK:
            spans.append(range(i, i))
            filled = 0
        spans[-1] = range(spans[-1].start, i + 1)
        filled += size
    return spans


def log_evidence(logits: Tensor, resp: Tensor) -> Tensor:
    """``logsumexp_k logits`` of each voxel as ``max logit - log max resp``: no second exponential.

    The largest responsibility is 1 / K at least, so that its logarithm is accurate.
    """
    return logits.amax(0) - resp.amax(0).log()
