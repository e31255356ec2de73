"""`cnn-superpixels` and `cnn-continuity`: a small CNN clusters pixels by labels that it gives them itself.

A. Kanezaki, Unsupervised image segmentation by backpropagation, ICASSP 2018; W. Kim, A. Kanezaki and
M. Tanaka, Unsupervised learning of image segmentation based on differentiable feature clustering, IEEE
Trans. Image Process. 29, 8055 (2020). What is not as published stands in docs/method_cnn.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mrigmm.data.maps import NO_CLASS
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import Segmentation, SettableMethod, Task, present_sequences, segmentation_of, unpack
from mrigmm.methods.cluster_crop import Stack
from mrigmm.methods.cluster_network import FittedNetwork, fit_network
from mrigmm.methods.clusters import covered_voxels, named, naming_note, parts
from mrigmm.methods.needs import refuse_study
from mrigmm.methods.registry import METHODS
from mrigmm.methods.settings import CNNClusteringSettings, CNNContinuitySettings, CNNSuperpixelSettings


@dataclass(frozen=True)
class Clusters:
    """A fitted network, and those of its clusters that scribbles gave a name.

    Attributes:
        fit: the network.
        pinned: clusters that are the class of the same place in the part's classes.
    """

    fit: FittedNetwork
    pinned: frozenset[int]


class CNNClustering(SettableMethod[CNNClusteringSettings]):
    """Base of both methods: all but the settings, which say what is expected of neighbours."""

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        super().__init__(task, overrides)
        self.cohort: dict[int, Clusters] = {}  # by region code; scope "cohort" only

    @property
    def wants_cohort(self) -> bool:
        """Whether one network is fitted to all studies."""
        return self.settings.scope == "cohort"

    def fit_cohort(self, studies: Callable[[], Iterator[StudyTensors]]) -> None:
        """Fit one network per part of the region to all studies that have every sequence.

        Raises:
            InputError: there is no such study.
        """
        stacks: dict[int, list[Stack]] = {}
        sizes: dict[int, int] = {}
        usable, reason = 0, None
        for study in studies():
            try:
                self._require_all_sequences(study)
                found = list(parts(self.name, study, self.task))
            except InputError as error:  # told again when the study itself is due
                reason = error
                continue
            usable += 1
            for inside, members in found:
                if len(members) > 1:
                    code = int(study.region[inside][0])
                    sizes[code] = len(members)
                    stacks.setdefault(code, []).append(stack_of(study, inside, members))
        if reason is not None and not usable:
            raise reason
        self.cohort = {code: self._fit(stacks[code], k) for code, k in sizes.items()}

    def segment(self, study: StudyTensors) -> Segmentation:
        """Cluster the study, or take it through the cohort's networks; and name the clusters.

        Raises:
            InputError: a part of the region is too small, or the scope is the cohort and the study lacks a
                sequence.
        """
        x = covered_voxels(study)
        if self.wants_cohort:
            self._require_all_sequences(study)
        resp = torch.zeros((len(x), len(self.task.classes)))
        notes: list[str] = []
        networks: dict[str, Any] = {}
        unpinned = False
        for inside, members in parts(self.name, study, self.task):
            here = inside[study.region > 0]
            if len(members) == 1:
                resp[here, int(members)] = 1
                continue
            clusters = self._clusters(study, inside, members)
            maps = clusters.fit.responsibilities(stack_of(study, inside, members))  # (Z, k, X, Y)
            p = maps.permute(1, 2, 3, 0)[:, inside].T  # (n, k)
            p = p[:, self._names(x[here], p, members, clusters.pinned, study)]
            resp[here.nonzero(), members] = p
            unpinned |= len(clusters.pinned) < len(members)
            empty = set(members.tolist()) - set(members[p.argmax(dim=1)].tolist())
            if empty:
                names = ", ".join(self.task.classes[index] for index in sorted(empty))
                notes.append(f"clusters died out: no voxel is most probably {names}")
            networks[Region(int(study.region[inside][0])).name.lower()] = {
                "iteration": clusters.fit.iteration,
                "loss": round(clusters.fit.loss, 6),
                "clusters_alive": clusters.fit.alive,
            }
        if unpinned:
            notes += naming_note(self.task, self.settings.order_by)
        return segmentation_of(
            study,
            unpack(resp.float(), study.region),
            self.task.classes,
            n_iter=self.settings.iterations,
            warnings=notes,
            details={"networks": networks},
        )

    def _fit(self, stacks: list[Stack], k: int) -> Clusters:
        pinned = torch.cat([stack.scribbles[stack.region].unique() for stack in stacks]).unique()
        fit = fit_network(stacks, k, self.settings, device=self.task.device)
        return Clusters(fit, frozenset(pinned[pinned != NO_CLASS].tolist()))

    def _clusters(self, study: StudyTensors, inside: Tensor, members: Tensor) -> Clusters:
        """Return the clusters of a part of the study: the cohort's, or its own."""
        if not self.wants_cohort:
            return self._fit([stack_of(study, inside, members)], len(members))
        code = int(study.region[inside][0])
        if code not in self.cohort:
            known = [Region(other).name.lower() for other in self.cohort]
            raise InputError(
                f"{self.name} has not learnt from a region like this study's",
                study=study.id,
                expected=" or ".join(known) or "a cohort to learn from",
                got=Region(code).name.lower(),
                remedy="give all studies the same kind of region map, or use scope=study",
            )
        return self.cohort[code]

    def _require_all_sequences(self, study: StudyTensors) -> None:
        """The cohort's network has one input per sequence, and has never seen one missing."""
        missing = [name for name in study.sequences if name not in present_sequences(study)]
        if missing:
            raise InputError(
                f"{self.name} with scope=cohort needs every sequence",
                study=study.id,
                expected=", ".join(study.sequences),
                got=f"no {', no '.join(missing)}",
                remedy="use scope=study for it, or leave the sequence out of the manifest's modality",
            )
        refuse_study(self.name, METHODS[self.name].needs, study, self.task.classes)

    def _names(
        self, x: Tensor, p: Tensor, members: Tensor, pinned: frozenset[int], study: StudyTensors
    ) -> list[int]:
        """Return which cluster each member is: a pinned one itself, the others by prior or brightness."""
        order = list(range(len(members)))
        free = [cluster for cluster in order if cluster not in pinned]
        if free:
            centres = cluster_means(x, p)[free]
            found = named(centres, members[free], present_sequences(study), self.task, self.settings.order_by)
            for place, cluster in zip(free, found, strict=True):
                order[place] = free[cluster]
        return order


class CNNSuperpixels(CNNClustering):
    """Kanezaki 2018: every superpixel takes the majority of its pixels' labels as its target."""

    name = "cnn-superpixels"
    settings_type = CNNSuperpixelSettings


class CNNContinuity(CNNClustering):
    """Kim, Kanezaki and Tanaka 2020: a pixel's own label is its target; neighbours are to respond alike."""

    name = "cnn-continuity"
    settings_type = CNNContinuitySettings


def stack_of(study: StudyTensors, inside: Tensor, members: Tensor) -> Stack:
    """A part (X, Y, Z) of a study's region, its scribbles as places in `members` (k,)."""
    scribbles = None
    if study.scribbles is not None:
        places = torch.full((int(members.max()) + 2,), NO_CLASS)  # the last one is that of NO_CLASS
        places[members] = torch.arange(len(members))
        scribbles = places[torch.where(inside, study.scribbles, NO_CLASS)].permute(2, 0, 1)
    image = study.image[study.present]
    return Stack(image.permute(3, 0, 1, 2), inside.permute(2, 0, 1), study.spacing_mm[:2], scribbles)


def cluster_means(x: Tensor, p: Tensor) -> Tensor:
    """Mean intensities (k, C) of the clusters' voxels (N, C); of one without voxels, weighted by p (N, k)."""
    weight = one_hot(p.argmax(dim=1), p.shape[1]).double()
    weight = torch.where(weight.sum(dim=0) > 0, weight, p.double() + torch.finfo(p.dtype).tiny)
    return (weight / weight.sum(dim=0)).T @ x.double()
