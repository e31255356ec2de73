"""`kmeans`: clusters of intensities by scikit-learn, named by the population prior or by brightness."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn import cluster
from sklearn.exceptions import ConvergenceWarning

from mrigmm.data.study import StudyTensors
from mrigmm.methods.base import Segmentation, Task, present_sequences
from mrigmm.methods.clusters import cluster_segmentation, covered_voxels, named, naming_note, parts
from mrigmm.methods.settings import KMeansSettings, validated_settings

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
        x = covered_voxels(self.name, study)
        resp = torch.zeros((len(x), len(self.task.classes)))
        notes, n_iter = [], 0
        for inside, members in parts(self.name, study, self.task):
            here = inside[study.region > 0]
            fit = self._fit(x[here].double().numpy(), len(members))
            if len(np.unique(fit.labels_)) < len(members):
                notes.append("there are fewer intensities than classes: some classes are empty")
            order = named(
                torch.from_numpy(fit.cluster_centers_),
                members,
                present_sequences(study),
                self.task,
                self.settings.order_by,
            )
            resp[here.nonzero(), members] = (
                torch.from_numpy(fit.labels_)[:, None] == torch.tensor(order)
            ).float()
            n_iter = max(n_iter, fit.n_iter_)
        notes += naming_note(self.task, self.settings.order_by)
        return cluster_segmentation(study, self.task, resp, n_iter=n_iter, warnings=tuple(notes))

    def _fit(self, x: np.ndarray, k: int) -> cluster.KMeans:
        """K clusters of voxels (N, C')."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # empty clusters are told as a note
            return cluster.KMeans(k, n_init=_STARTS, random_state=self.settings.seed).fit(x)
