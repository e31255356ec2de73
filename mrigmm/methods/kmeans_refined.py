"""`kmeans-refined`: k-means on intensities and another method's responsibilities, from its class means.

The refinement of GMM and CNN segmentations by k-means, as students have tried it on natural images. There it
made both worse; nothing here is tuned against that.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from sklearn import cluster
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.methods.base import CohortMethod, Segmentation, SettableMethod, Task, segmentation_of, unpack
from mrigmm.methods.clusters import covered_voxels, parts
from mrigmm.methods.registry import make_method
from mrigmm.methods.settings import KMeansRefinedSettings


class KMeansRefined(SettableMethod[KMeansRefinedSettings]):
    """Lloyd's iterations on `[x, weight * r]`, r the responsibilities of the method `start`.

    Every cluster starts at its class's mean and keeps its name; cavity and wall by themselves where told
    apart.
    """

    name = "kmeans-refined"
    settings_type = KMeansRefinedSettings

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        super().__init__(task, overrides)
        if self.settings.start == self.name:
            raise InputError(
                f"{self.name} cannot refine itself",
                expected="another method for 'start'",
                got=self.name,
                remedy="--set start=em-gmm",
            )
        self.start = make_method(self.settings.start, task, {})

    def describe(self) -> dict[str, Any]:
        """Settings as plain values, those of the method that is refined included."""
        return {**super().describe(), "start_settings": self.start.describe()}

    @property
    def wants_cohort(self) -> bool:
        """Whether the method that is refined does."""
        return isinstance(self.start, CohortMethod) and self.start.wants_cohort

    def fit_cohort(self, studies: Callable[[], Iterator[StudyTensors]]) -> None:
        """Let the method that is refined learn from the cohort."""
        assert isinstance(self.start, CohortMethod)
        self.start.fit_cohort(studies)

    def segment(self, study: StudyTensors) -> Segmentation:
        """Segment by the method `start`, then cluster again.

        Raises:
            InputError: what `start` refuses; or a part of the region is too small.
        """
        x = covered_voxels(study)
        first = self.start.segment(study)
        given = first.resp[:, study.region > 0].T  # (N, K)
        resp = torch.zeros_like(given)
        lost: list[str] = []
        n_iter = 0
        for inside, members in parts(self.name, study, self.task):
            here = inside[study.region > 0].nonzero()  # (n, 1)
            r = given[here, members].double()
            if not (r > 0).any():
                names = " or ".join(self.task.classes[k] for k in members)
                raise InputError(
                    f"{self.name} has nothing to start from in a part of the region",
                    study=study.id,
                    expected=f"{self.settings.start} to find {names}",
                    got="other classes",
                    remedy="give a population prior (--prior), or another method for 'start'",
                )
            features = torch.cat([x[here[:, 0]].double(), self.settings.weight * r], dim=1)
            labels, n = _refine(features, r)
            resp[here, members] = torch.nn.functional.one_hot(labels, len(members)).to(resp.dtype)
            n_iter = max(n_iter, n)
            kept = labels.unique().tolist()
            lost += [self.task.classes[k] for i, k in enumerate(members.tolist()) if i not in kept]
        notes = (f"classes without a voxel: {', '.join(lost)}",) if lost else ()
        return segmentation_of(
            study,
            unpack(resp.float(), study.region),
            self.task.classes,
            n_iter=n_iter,
            warnings=(*first.warnings, *notes),
        )


def _refine(features: Tensor, r: Tensor) -> tuple[Tensor, int]:
    """Cluster (n,) of features (n, C) from the means that responsibilities (n, k) give; and the iterations.

    A class without weight, or to whose mean no voxel is nearest, stays empty: k-means would put its centre
    elsewhere, where the class's name no longer holds.
    """
    kept = (r.sum(dim=0) > 0).nonzero()[:, 0]
    while True:
        centres = (r[:, kept].T @ features) / r[:, kept].sum(dim=0)[:, None]
        used = torch.cdist(features, centres).argmin(dim=1).unique()
        if len(used) == len(kept):
            break
        kept = kept[used]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal centres: told as classes without a voxel
        fit = cluster.KMeans(len(kept), init=centres.numpy(), n_init=1).fit(features.numpy())
    return kept[torch.from_numpy(fit.labels_.astype(np.int64))], int(fit.n_iter_)
