"""`kmeans`: clusters of intensities by scikit-learn, named by the population prior or by brightness."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from sklearn import cluster
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import Segmentation, SettableMethod, Task, present_sequences, segmentation_of, unpack
from mrigmm.methods.clusters import covered_voxels, named, naming_note, parts
from mrigmm.methods.settings import KMeansSettings

# Starts by k-means++ of which the best is kept.
_STARTS = 10


class KMeans(SettableMethod[KMeansSettings]):
    """One k-means on the z-scores of all sequences, per study or for all studies of a cohort.

    Cavity and wall are clustered by themselves where told apart.

    S. P. Lloyd, Least squares quantization in PCM, IEEE Trans. Inf. Theory 1982; starts by D. Arthur and
    S. Vassilvitskii, k-means++, SODA 2007; over a cohort D. Sculley, Web-scale k-means clustering, WWW 2010.
    """

    name = "kmeans"
    settings_type = KMeansSettings

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        super().__init__(task, overrides)
        self._learned: dict[int, Tensor] = {}  # region code -> centres (k, C), in the order of its classes
        self._n_learned: int | None = None  # studies; None before `fit_cohort`

    @property
    def wants_cohort(self) -> bool:
        """Whether one clustering is to serve all studies."""
        return self.settings.scope == "cohort"

    def fit_cohort(self, studies: Callable[[], Iterator[StudyTensors]]) -> None:
        """Learn one clustering per region code from all studies, of which one at a time is in memory.

        It starts from the k-means of the first study; then every study, in their order, is
        one mini-batch.
        Studies that lack values, or have a part too small to be clustered, are left out.

        Raises:
            InputError: no study is left.
        """
        fits: dict[int, cluster.MiniBatchKMeans] = {}
        members_of: dict[int, Tensor] = {}
        n_learned = 0
        for study in studies():
            if not bool(study.observed[:, study.region > 0].all()):
                continue
            try:
                whole = list(parts(self.name, study, self.task))
            except InputError:  # told again when the study itself is due
                continue
            n_learned += 1
            for inside, members in whole:
                code = int(study.region[inside][0])
                x = study.voxels[inside[study.region > 0]].double().numpy()
                if code not in fits:
                    start = fit_kmeans(x, len(members), seed=self.settings.seed).cluster_centers_
                    # No centre jumps to a random voxel, however few voxels it has.
                    fits[code] = cluster.MiniBatchKMeans(
                        len(members), init=start, n_init=1, reassignment_ratio=0.0
                    )
                    members_of[code] = members
                fits[code].partial_fit(x)
        if n_learned == 0:
            raise InputError(
                f"{self.name} cannot learn from this cohort",
                expected=f"a study with {', '.join(self.task.sequences)} all over its region",
                got="none",
                remedy="use scope=study, or leave out the sequence that the studies lack",
            )
        for code, fit in fits.items():
            centres = torch.from_numpy(fit.cluster_centers_)
            self._learned[code] = centres[self._named(centres, members_of[code], self.task.sequences)]
        self._n_learned = n_learned

    def segment(self, study: StudyTensors) -> Segmentation:
        """Cluster the study and name the clusters, or assign it to those of the cohort.

        Raises:
            InputError: a part of the region is too small, or the
                cohort that was learned from does not have that part.
        """
        x = covered_voxels(study).double()
        resp = torch.zeros((len(x), len(self.task.classes)))
        notes, n_iter = [], 0
        for inside, members in parts(self.name, study, self.task):
            here = inside[study.region > 0]
            if self.wants_cohort:
                nearest = torch.cdist(x[here], self._centres(study, inside)).argmin(dim=1)
                resp[here.nonzero()[:, 0], members[nearest]] = 1
                continue
            fit = fit_kmeans(x[here].numpy(), len(members), seed=self.settings.seed)
            if len(np.unique(fit.labels_)) < len(members):
                notes.append("there are fewer intensities than classes: some classes are empty")
            order = self._named(torch.from_numpy(fit.cluster_centers_), members, present_sequences(study))
            resp[here.nonzero(), members] = (
                torch.from_numpy(fit.labels_)[:, None] == torch.tensor(order)
            ).float()
            n_iter = max(n_iter, fit.n_iter_)
        notes += naming_note(self.task, self.settings.order_by)
        details = {"cohort_studies": self._n_learned} if self.wants_cohort else {}
        return segmentation_of(
            study,
            unpack(resp.float(), study.region),
            self.task.classes,
            n_iter=n_iter,
            warnings=notes,
            details=details,
        )

    def _named(self, centres: Tensor, members: Tensor, sequences: tuple[str, ...]) -> list[int]:
        return named(centres, members, sequences, self.task, self.settings.order_by)

    def _centres(self, study: StudyTensors, inside: Tensor) -> Tensor:
        """The cohort's centres (k, C') for a part of a study, in the sequences that it has."""
        if self._n_learned is None:
            raise InputError(
                f"{self.name} with scope=cohort has to see the cohort first",
                study=study.id,
                remedy="use mrigmm predict, or scope=study",
            )
        code = int(study.region[inside][0])
        if code not in self._learned:
            raise InputError(
                f"{self.name} has not learned this part of the region from the cohort",
                study=study.id,
                expected=" or ".join(Region(known).name.lower() for known in self._learned),
                got=Region(code).name.lower(),
                remedy="give all studies the same kind of region map, or use scope=study",
            )
        return self._learned[code][:, study.present]


def fit_kmeans(x: np.ndarray, k: int, *, seed: int, weight: np.ndarray | None = None) -> cluster.KMeans:
    """Return k clusters of (N, C) values, each counting (N,) times: the best of ten starts.

    Fewer different values leave clusters empty.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cluster.KMeans(k, n_init=_STARTS, random_state=seed).fit(x, sample_weight=weight)
