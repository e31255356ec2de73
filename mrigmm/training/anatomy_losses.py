"""Terms of the anatomy stage's objective: supervised, consistency, entropy, mutual information.

Mutual information after J. Peng, M. Pedersoli, C. Desrosiers, Boosting semi-supervised image segmentation
with global and local mutual information regularization, MELBA 2021:009, with three changes: the joint of the
global term is a running mean over steps (ten slices are too few for their clusters), every displacement is
normalised by the pixels that it really pairs, and pixels far from the ventricle count little.
"""

from __future__ import annotations

import torch
from monai.losses import DiceCELoss
from torch import Tensor

from mrigmm.networks.anatomy_net import neighbourhood

_EPS = 1e-8
# What pixels far from the ventricle count in the local term: early in training nobody knows where it is.
_FAR = 0.05

# Of logits (B, 3, A, A) and probabilities of outside, cavity, wall: Dice of the two, and cross-entropy.
supervised = DiceCELoss(softmax=True, include_background=False, batch=True)


def consistency(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return the mean squared difference of probabilities.

    Args:
        logits: (B, 3, A, A) of the moved slices.
        target: (B, 3, A, A) probabilities of the slices, moved.
        valid: (B, 1, A, A) 1 where the moved slice shows something.
    """
    squared = (logits.softmax(dim=1) - target).square().sum(dim=1, keepdim=True)
    return (squared * valid).sum() / valid.sum().clamp_min(1)


def entropy(logits: Tensor, near: Tensor) -> Tensor:
    """Return the mean entropy of the class in nats, weighted by `near` (B, 1, A, A)."""
    log_p = logits.log_softmax(dim=1)
    each = -(log_p.exp() * log_p).sum(dim=1, keepdim=True)
    return (each * near).sum() / near.sum().clamp_min(1)


def near_ventricle(logits: Tensor, spacing_mm: float) -> Tensor:
    """Return weights (B, 1, A, A): 1 near what is called ventricle, little elsewhere."""
    ventricle = 1 - logits.detach().softmax(dim=1)[:, :1]
    return neighbourhood(ventricle, spacing_mm).clamp_min(_FAR)


def mutual_information(joint: Tensor) -> Tensor:
    """Mutual information in nats of joint distributions (..., S, S) that are made symmetric first."""
    joint = (joint + joint.mT) / 2
    joint = joint / joint.sum(dim=(-2, -1), keepdim=True)
    margin = joint.sum(dim=-1)
    independent = margin[..., :, None] * margin[..., None, :]
    return (joint * ((joint + _EPS).log() - (independent + _EPS).log())).sum(dim=(-2, -1))


def joint_of_slices(first: Tensor, second: Tensor) -> Tensor:
    """Joint (H, S, S) of the clusters of two views of slices, each (B, H, S), for H heads."""
    return torch.einsum("bhi,bhj->hij", first, second) / len(first)


def joint_of_neighbours(first: Tensor, second: Tensor, weight: Tensor, step: int) -> Tensor:
    """Joints (9, H, S, S) of the clusters of pixels of one view and of their neighbours in the other.

    Args:
        first: (B, H, S, A, A) cluster probabilities.
        second: (B, H, S, A, A) of the other view, at the same places.
        weight: (B, 1, A, A) of pixels; a pair counts by the product of its two.
        step: pixels between a pixel and its neighbours (8 of them, and itself).
    """
    size = first.shape[-1]
    joints = []
    for down in (-step, 0, step):
        for right in (-step, 0, step):
            here = (slice(max(down, 0), size + min(down, 0)), slice(max(right, 0), size + min(right, 0)))
            there = (slice(max(-down, 0), size + min(-down, 0)), slice(max(-right, 0), size + min(-right, 0)))
            pair = weight[:, 0, *here] * weight[:, 0, *there]  # (B, a, a)
            p = first[..., *here] * pair[:, None, None]
            joint = torch.einsum("bhixy,bhjxy->hij", p, second[..., *there])
            joints.append(joint / pair.sum().clamp_min(_EPS))
    return torch.stack(joints)
