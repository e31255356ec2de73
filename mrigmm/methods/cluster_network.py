"""Fitting of a clustering network by its own labels, the part that both CNN methods share."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from torch.nn.functional import log_softmax, nll_loss, one_hot

from mrigmm.data.maps import NO_CLASS
from mrigmm.errors import InputError
from mrigmm.methods.cluster_crop import Crop, Stack, crop, joined, uncrop
from mrigmm.methods.settings import CNNClusteringSettings, CNNContinuitySettings
from mrigmm.mixture.threads import all_threads
from mrigmm.networks.cluster_cnn import ClusterCNN

# Updates between two looks at the network in evaluation mode.
_LOOK_EVERY = 5
# Stacks that make one update, where there are several.
_STACKS_PER_UPDATE = 4
# Updates whose targets are the labels of k-means, where the fit starts from them.
_START_UPDATES = 10
# Pixels that k-means is fitted to, at most; all are labelled.
_START_PIXELS = 20_000
# Below it, a cluster's share pulls no stronger.
_LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class FittedNetwork:
    """The best network of a fit.

    Attributes:
        network: in evaluation mode.
        settings: that it was fitted with.
        iteration: update that it was best after, from 1.
        loss: its mean loss over the stacks, in evaluation mode.
        alive: clusters that hold pixels.
    """

    network: ClusterCNN
    settings: CNNClusteringSettings
    iteration: int
    loss: float
    alive: int

    @all_threads()
    def responsibilities(self, stack: Stack) -> Tensor:
        """(Z, K, X, Y) of a stack's slices, sum 1 inside the region and 0 outside."""
        device = next(self.network.parameters()).device
        seen = crop(stack, self.settings).to(device)
        with torch.no_grad():
            responses = self.network(seen.image, seen.region)
        return uncrop(responses.softmax(dim=1).cpu(), stack, self.settings)


def fit_network(
    stacks: Sequence[Stack], k: int, settings: CNNClusteringSettings, device: torch.device | None = None
) -> FittedNetwork:
    """Fit one network to stacks of slices, by the labels that it gives them itself.

    Of the iterates that were looked at, the best is kept: the one with most clusters alive, and of those
    the one with the lowest loss in evaluation mode. Collapse alone would have the lowest loss of all.

    Args:
        stacks: one study's, or one per study; all with the same C channels.
        k: clusters.
        settings: of the method.
        device: default CPU.

    Raises:
        InputError: the fit diverged.
    """
    device = device or torch.device("cpu")
    crops = [crop(stack, settings) for stack in stacks]
    starts: list[Tensor | None] = [None] * len(crops)
    if settings.start == "kmeans":
        starts = [start.to(device) for start in kmeans_labels(crops, k, settings.seed)]
    crops = [one.to(device) for one in crops]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        network = ClusterCNN(
            crops[0].image.shape[1], k, channels=settings.channels, layers=settings.layers
        ).to(device)
        return _fit(network, crops, starts, k, settings)


@all_threads()
def _fit(
    network: ClusterCNN,
    crops: Sequence[Crop],
    starts: Sequence[Tensor | None],
    k: int,
    settings: CNNClusteringSettings,
) -> FittedNetwork:
    optimiser = torch.optim.SGD(network.parameters(), lr=settings.learning_rate, momentum=settings.momentum)
    best = (k + 1, math.inf)  # clusters that died, loss
    state, at = network.state_dict(), 0
    queue: list[int] = []
    look_every = max(_LOOK_EVERY, math.ceil(len(crops) / _STACKS_PER_UPDATE))
    for iteration in range(1, settings.iterations + 1):
        network.train()
        if len(queue) == 0:
            queue = torch.randperm(len(crops)).tolist()
        chosen, queue = queue[:_STACKS_PER_UPDATE], queue[_STACKS_PER_UPDATE:]
        batch = joined([crops[i] for i in chosen])
        given = [start for i in chosen if (start := starts[i]) is not None]
        targets = torch.cat(given) if given and iteration <= _START_UPDATES else None
        loss = clustering_loss(network(batch.image, batch.region), batch, settings, targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if iteration % look_every == 0 or iteration == settings.iterations:
            seen = _look(network, crops, k, settings)
            if math.isfinite(seen[1]) and seen < best:
                best, state, at = seen, copy.deepcopy(network.state_dict()), iteration
    if at == 0:
        raise InputError("the fit diverged", got="a loss that is not finite", remedy="lower learning_rate")
    network.load_state_dict(state)
    return FittedNetwork(network.eval(), settings, at, best[1], k - best[0])


def _look(
    network: ClusterCNN, crops: Sequence[Crop], k: int, settings: CNNClusteringSettings
) -> tuple[int, float]:
    """Clusters that hold no pixel of any crop, and the mean loss, in evaluation mode."""
    network.eval()
    used = torch.zeros(k, dtype=torch.bool)
    total = 0.0
    with torch.no_grad():
        for one in crops:
            responses = network(one.image, one.region)
            total += float(clustering_loss(responses, one, settings))
            used[responses.argmax(dim=1)[one.region].unique().cpu()] = True
    return int((~used).sum()), total / len(crops)


def clustering_loss(
    responses: Tensor, crop: Crop, settings: CNNClusteringSettings, targets: Tensor | None = None
) -> Tensor:
    """``CE(r, own) + s CE(r, scribbles) + mu sum_pairs w |r_i - r_j| / sum_pairs w + b max(0, e ln K - H)``.

    Own labels are the argmax, or its majority in the superpixel; ``H`` is the entropy of the clusters'
    shares by argmax, with the gradient of the shares by softmax ``p``. A pixel counts in one of the
    cross-entropies, each a mean over its pixels; the difference of a pair is a mean over the clusters.

    Args:
        responses: (B, K, A, D).
        crop: where they belong.
        settings: weights of the terms.
        targets: (N,) labels of the region's pixels that stand in for the argmax as targets.
    """
    inside = responses.permute(0, 2, 3, 1)[crop.region]  # (N, K)
    log_p = log_softmax(inside, dim=1)
    own = inside.detach().argmax(dim=1)
    labels = own if targets is None else targets
    if crop.superpixels is not None:
        labels = majority(labels, crop.superpixels[crop.region], inside.shape[1])
    loss = settings.balance * _lacking_entropy(own, log_p.exp(), settings.entropy_share)
    scribbles = crop.scribbles[crop.region]
    named = scribbles != NO_CLASS
    if not named.all():
        loss = loss + nll_loss(log_p[~named], labels[~named])
    if named.any():
        loss = loss + settings.scribble_weight * nll_loss(log_p[named], scribbles[named])
    if crop.pairs is not None:
        assert isinstance(settings, CNNContinuitySettings)
        down, across = crop.pairs
        steps = (responses.diff(dim=2).abs().mean(dim=1) * down).sum()
        steps = steps + (responses.diff(dim=3).abs().mean(dim=1) * across).sum()
        weights = down.sum() + across.sum()
        if weights > 0:
            loss = loss + settings.continuity * steps / weights
    return loss


def kmeans_labels(crops: Sequence[Crop], k: int, seed: int) -> list[Tensor]:
    """Labels (N,) of each crop's pixels by one k-means of all; scribbles say which cluster is which.

    Args:
        crops: on the CPU.
        k: clusters.
        seed: of the choice of pixels and of the starts.
    """
    pixels = [one.image.permute(0, 2, 3, 1)[one.region].double().numpy() for one in crops]
    every = np.concatenate(pixels)
    if len(every) > _START_PIXELS:
        every = np.random.default_rng(seed).choice(every, _START_PIXELS, replace=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer intensities than clusters
        fit = KMeans(k, n_init=10, random_state=seed).fit(every)
    labels = [fit.predict(part) for part in pixels]
    together = np.zeros((k, k), dtype=np.int64)  # of the scribbled pixels: (k-means cluster, named cluster)
    for one, found in zip(crops, labels, strict=True):
        named = one.scribbles[one.region].numpy()
        np.add.at(together, (found[named != NO_CLASS], named[named != NO_CLASS]), 1)
    _, order = linear_sum_assignment(-together)
    return [torch.from_numpy(order[found]) for found in labels]


def _lacking_entropy(own: Tensor, p: Tensor, share: float) -> Tensor:
    """Return how far the entropy of the clusters' shares falls below `share` of its maximum, or 0.

    Of labels and not of p: responses that are nearly alike have the largest entropy in p although one label
    wins everywhere. The gradient takes p for the labels (a straight-through estimate).
    """
    labels = one_hot(own, p.shape[1]).to(p)
    shares = (labels + p - p.detach()).mean(dim=0)
    entropy = -(shares * shares.clamp_min(_LEAST_SHARE).log()).sum()
    return (share * math.log(len(shares)) - entropy).clamp_min(0)


def majority(labels: Tensor, superpixels: Tensor, k: int) -> Tensor:
    """The most frequent of K labels (N,) of each pixel's superpixel (N,); of two the lower one."""
    n = int(superpixels.max()) + 1
    votes = torch.bincount(superpixels * k + labels, minlength=n * k).reshape(n, k)
    return votes.argmax(dim=1)[superpixels]
