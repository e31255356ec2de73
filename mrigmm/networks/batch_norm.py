"""Batch normalisation over a batch that several processes share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable


class SharedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics in training are those of all processes' slices together.

    As `nn.SyncBatchNorm`, and also on the CPU. A process may have no slices. Parameters and buffers are those
    of the layer that it replaces.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return images (B, C, X, Y), normalised."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        values = x.float()
        count = values.new_tensor([x.numel() / x.shape[1]])
        total, n = _SumOverProcesses.apply(torch.cat([values.sum(dim=(0, 2, 3)), count])).split(
            [x.shape[1], 1]
        )
        centred = values - (total / n)[:, None, None]
        # In two passes: the mean of squares would cancel.
        variance = _SumOverProcesses.apply(centred.square().sum(dim=(0, 2, 3))) / n  # (C,)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(total / n, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def share_batch_norm(network: nn.Module) -> None:
    """Replace each `nn.BatchNorm2d` of a network, for training on several processes."""
    for name, layer in list(network.named_modules()):
        if type(layer) is not nn.BatchNorm2d:
            continue
        shared = SharedBatchNorm2d(layer.num_features, eps=layer.eps, momentum=layer.momentum)
        shared.load_state_dict(layer.state_dict())
        network.set_submodule(name, shared)


class _SumOverProcesses(torch.autograd.Function):
    """Sum of each process's tensor; so is the gradient's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total
