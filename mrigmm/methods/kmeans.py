"""`kmeans`: clusters of intensities by scikit-learn, named by the population prior or by brightness."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn import cluster
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from mrigmm.data.study import StudyTensors
from mrigmm.errors import InputError
from mrigmm.methods.base import (
    Segmentation,
    Task,
    brightness_order,
    hard_labels,
    one_mixture,
    present_sequences,
    unpack,
)
from mrigmm.methods.settings import KMeansSettings, validated_settings
from mrigmm.mixture import Mixture, PopulationPrior, match_to_prior

# Starts by k-means++ of which the best is kept.
_STARTS = 10


class KMeans:
    """One k-means per study on the z-scores of all sequences; cavity and wall by themselves where told apart.

    S. P. Lloyd, Least squares quantization in PCM, IEEE Trans. Inf. Theory 1982; starts by D. Arthur and
    S. Vassilvitskii, k-means++, SODA 2007.
    """

    name = "kmeans"

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        self.settings = validated_settings(self.name, KMeansSettings, overrides)
        self.task = task

    def describe(self) -> dict[str, Any]:
        """Settings as plain values."""
        return self.settings.model_dump(mode="json")

    def segment(self, study: StudyTensors) -> Segmentation:
        """Cluster the study, and name the clusters.

        Raises:
            InputError: a sequence ends inside the region, or a part of the region is too small.
        """
        x, observed = study.present_voxels()
        if observed is not None:
            raise InputError(
                f"{self.name} cannot leave out single voxels",
                study=study.id,
                expected="sequences that cover the whole region",
                got=f"{int((~observed).sum())} values outside a field of view",
                remedy="use map-em, or leave the short sequence out (null)",
            )
        codes = study.region[study.region > 0].long()
        resp = torch.zeros((len(x), len(self.task.classes)))
        notes, n_iter = [], 0
        for code in codes.unique():
            inside, members = codes == code, self.task.allowed[code].nonzero()[:, 0].cpu()
            fit = self._fit(x[inside].double().numpy(), len(members), study.id)
            if len(np.unique(fit.labels_)) < len(members):
                notes.append("there are fewer intensities than classes: some classes are empty")
            order = self._named(fit.cluster_centers_, members, study)
            resp[inside.nonzero(), members] = (
                torch.from_numpy(fit.labels_)[:, None] == torch.tensor(order)
            ).float()
            n_iter = max(n_iter, fit.n_iter_)
        if self.task.prior is None:
            by = self.settings.order_by or self.task.order_by
            notes.append(
                f"no population prior: classes are ordered by brightness in "
                f"{', '.join(by) if by else 'all sequences'}"
            )
        maps = unpack(resp, study.region)
        mixture, density = one_mixture(study, study.region, maps, self.task.classes)
        return Segmentation(
            resp=maps,
            labels=hard_labels(maps, study.region, self.task.classes),
            mixture=mixture,
            sequences=present_sequences(study),
            log_likelihood=density,
            n_iter=n_iter,
            converged=True,
            warnings=tuple(notes),
        )

    def _fit(self, x: np.ndarray, k: int, study: str) -> cluster.KMeans:
        """K clusters of voxels (N, C')."""
        if len(x) < k:
            raise InputError(
                f"{self.name} cannot cluster a part of the region this small",
                study=study,
                expected=f"at least {k} voxels",
                got=str(len(x)),
                remedy="use map-em, or correct the region map",
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # empty clusters are told as a note
            return cluster.KMeans(k, n_init=_STARTS, random_state=self.settings.seed).fit(x)

    def _named(self, centres: np.ndarray, members: Tensor, study: StudyTensors) -> list[int]:
        """Which cluster is each of the classes `members` (indices), from the centres (K, C')."""
        sequences = present_sequences(study)
        means = torch.from_numpy(centres)
        k, c = means.shape
        found = Mixture(torch.full((k,), 1 / k), means, torch.eye(c).expand(k, c, c))
        prior: PopulationPrior | None = self.task.prior
        if prior is None:
            return brightness_order(found, sequences, self.settings.order_by or self.task.order_by)
        names = tuple(self.task.classes[index] for index in members.tolist())
        return match_to_prior(found, prior.select(classes=names, sequences=sequences))
