"""A generative head: every class is a mixture of Gaussians in feature space.

After C. Liang, W. Wang, J. Miao, Y. Yang, GMMSeg: Gaussian mixture based generative semantic segmentation
models, NeurIPS 2022. Changed: the posterior is Bayes' rule with component weights and class shares that are
estimated, with one learned temperature, and no normalisation over the classes, which would take away the
absolute level that tells the unusual; Sinkhorn's marginals are the estimated weights, so that components may
differ in size; every labelled pixel may be remembered, not only those that are called right; variances are
taken about the means that score.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, normalize

MOMENTUM = 0.95  # of means and weights per step
VARIANCE_FLOOR = 1e-3
SLOTS = 256  # remembered features per component
NEW_SLOTS = 32  # of them, replaced at most per class and step
SINKHORN_STEPS = 5
SINKHORN_TEMPERATURE = 1.0  # nats of log density


def sinkhorn(scores: Tensor, weights: Tensor, *, n_steps: int = SINKHORN_STEPS) -> Tensor:
    """Assignments (N, M) of points to components whose column means are `weights`.

    Args:
        scores: (N, M) log densities.
        weights: (M,) share of the points that each component is to get, sum 1.
        n_steps: alternations between rows and columns.

    Returns:
        Soft assignments; rows sum to 1.
    """
    log_q = scores / SINKHORN_TEMPERATURE
    goal = (weights.clamp_min(1e-6) * len(scores)).log()
    for _ in range(n_steps):
        log_q = log_q - log_q.logsumexp(dim=0, keepdim=True) + goal
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True)
    return log_q.exp()


class GMMHead(nn.Module):
    """Log p(class, features) of pixels; means, variances and weights follow the labelled features.

    Args:
        n_features: channels of the features.
        n_classes: K.
        n_components: M per class.
        n_dims: D of the space of the mixtures.
    """

    means: Tensor  # (K, M, D), of length 1
    variances: Tensor  # (K, M, D)
    weights: Tensor  # (K, M), sum 1 per class
    shares: Tensor  # (K,) of the classes, sum 1
    memory: Tensor  # (K, M, SLOTS, D)
    filled: Tensor  # (K, M) slots in use
    cursor: Tensor  # (K, M) next slot

    def __init__(self, n_features: int, n_classes: int, *, n_components: int = 3, n_dims: int = 16) -> None:
        super().__init__()
        self.embed = nn.Conv2d(n_features, n_dims, kernel_size=1)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(2.0)))
        shape = (n_classes, n_components)
        self.register_buffer("means", normalize(torch.randn(*shape, n_dims), dim=-1))
        self.register_buffer("variances", torch.full((*shape, n_dims), 1 / n_dims))
        self.register_buffer("weights", torch.full(shape, 1 / n_components))
        self.register_buffer("shares", torch.full((n_classes,), 1 / n_classes))
        self.register_buffer("memory", torch.zeros(*shape, SLOTS, n_dims))
        self.register_buffer("filled", torch.zeros(shape, dtype=torch.long))
        self.register_buffer("cursor", torch.zeros(shape, dtype=torch.long))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, K, A, A): log of class share times class density, over the temperature."""
        density = self.class_log_density(self.embedded(features))  # (B, A, A, K)
        logits = (density + self.shares.clamp_min(1e-6).log()) / self.log_temperature.exp()
        return logits.movedim(-1, 1)

    def log_density(self, features: Tensor) -> Tensor:
        """Return highest log density of a class (B, A, A): low where the network has seen nothing like it."""
        return self.class_log_density(self.embedded(features)).amax(dim=-1)

    def embedded(self, features: Tensor) -> Tensor:
        """Unit vectors (B, A, A, D) of features (B, F, A, A)."""
        x = self.embed(features).movedim(1, -1)
        return normalize(layer_norm(x, x.shape[-1:]), dim=-1)

    def component_log_density(self, x: Tensor) -> Tensor:
        """Return log N(x | k, m) (..., K, M) of unit vectors (..., D), by diagonal Gaussians."""
        precision = 1 / self.variances  # (K, M, D)
        # Expanded squares: no (..., K, M, D) is ever held.
        distance = (
            torch.einsum("...d,kmd->...km", x.square(), precision)
            - 2 * torch.einsum("...d,kmd->...km", x, precision * self.means)
            + (precision * self.means.square()).sum(dim=-1)
        )
        log_det = self.variances.log().sum(dim=-1)
        return -0.5 * (distance + log_det + x.shape[-1] * math.log(2 * math.pi))

    def class_log_density(self, x: Tensor) -> Tensor:
        """Return log p(x | k) (..., K)."""
        return (self.component_log_density(x) + self.weights.clamp_min(1e-6).log()).logsumexp(dim=-1)

    @torch.no_grad()
    def learn(self, features: Tensor, anatomy: Tensor, generator: torch.Generator) -> None:
        """One step of Sinkhorn EM with the labelled pixels of a batch.

        Args:
            features: (B, F, A, A).
            anatomy: (B, K, A, A) class probabilities; pixels that no class owns by 0.9 are left out.
            generator: chooses the pixels to remember.
        """
        x = self.embedded(features).flatten(0, 2)  # (N, D)
        owner = anatomy.movedim(1, -1).flatten(0, 2)  # (N, K)
        share = owner.mean(dim=0)
        self.shares.lerp_(share / share.sum(), 1 - MOMENTUM)
        for k in range(len(self.means)):
            mine = (owner[:, k] > 0.9).nonzero()[:, 0]
            if len(mine) < NEW_SLOTS:
                continue
            chosen = mine[torch.randperm(len(mine), generator=generator)[: 8 * NEW_SLOTS].to(mine.device)]
            self._learn_class(k, x[chosen])

    def _learn_class(self, k: int, x: Tensor) -> None:
        """Assign features (n, D) of class k to its components, remember some, and follow the memory."""
        q = sinkhorn(self.component_log_density(x)[:, k], self.weights[k])  # (n, M)
        self.weights[k].lerp_(q.mean(dim=0), 1 - MOMENTUM)
        self.weights[k] /= self.weights[k].sum()
        component = q.argmax(dim=1)
        for m in range(q.shape[1]):
            new = x[component == m][:NEW_SLOTS]
            slots = (self.cursor[k, m] + torch.arange(len(new), device=x.device)) % SLOTS
            self.memory[k, m, slots] = new
            self.cursor[k, m] = (self.cursor[k, m] + len(new)) % SLOTS
            self.filled[k, m] = (self.filled[k, m] + len(new)).clamp_max(SLOTS)
            known = self.memory[k, m, : int(self.filled[k, m])]
            if len(known) < 2:
                continue
            self.means[k, m] = normalize(self.means[k, m].lerp(known.mean(dim=0), 1 - MOMENTUM), dim=-1)
            self.variances[k, m] = (known - self.means[k, m]).square().mean(dim=0) + VARIANCE_FLOOR
