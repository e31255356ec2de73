"""`consensus`: what several methods make of a study, averaged or weighed by STAPLE, and where they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own name
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError, near_misses
from mrigmm.labels import class_ids
from mrigmm.methods.base import (
    AGREEMENT,
    CohortMethod,
    Method,
    Segmentation,
    SettableMethod,
    Task,
    segmentation_of,
    unpack,
)
from mrigmm.methods.registry import METHODS, make_method
from mrigmm.methods.settings import ConsensusSettings

_MIN_MEMBERS = 2
# EM of STAPLE ends long before.
_MAX_ITER = 1000


class Consensus(SettableMethod[ConsensusSettings]):
    """Segments by every member and combines the answers; a member that cannot is left out."""

    name = "consensus"
    settings_type = ConsensusSettings

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        super().__init__(task, overrides)
        _check_names(self.settings.members)
        self.members: dict[str, Method] = {}
        self.refused: dict[str, str] = {}  # member -> why it cannot do any study of this task
        for name in self.settings.members:
            knows_seed = "seed" in METHODS[name].fields
            try:
                self.members[name] = make_method(
                    name, task, {"seed": self.settings.seed} if knows_seed else {}
                )
            except InputError as error:
                self.refused[name] = error.problems[0].what
        _require_enough(self.members, self.refused)

    def describe(self) -> dict[str, Any]:
        """Settings as plain values, the members' among them."""
        return {
            **super().describe(),
            "member_settings": {name: method.describe() for name, method in self.members.items()},
        }

    @property
    def wants_cohort(self) -> bool:
        """Whether a member does."""
        return any(True for _ in self._cohort_members())

    def fit_cohort(self, studies: Callable[[], Iterator[StudyTensors]]) -> None:
        """Let the members that learn from the cohort see it."""
        for member in self._cohort_members():
            member.fit_cohort(studies)

    def _cohort_members(self) -> Iterator[CohortMethod]:
        for member in self.members.values():
            if isinstance(member, CohortMethod) and member.wants_cohort:
                yield member

    def segment(self, study: StudyTensors) -> Segmentation:
        """Segment by every member, and combine.

        Raises:
            InputError: fewer than two members could segment the study.
        """
        found: dict[str, Segmentation] = {}
        refused = dict(self.refused)
        for name, member in self.members.items():
            try:
                found[name] = member.segment(study)
            except InputError as error:
                refused[name] = error.problems[0].what
        _require_enough(found, refused, study.id)

        inside = study.region > 0
        codes = study.region[inside].long()
        resp = {name: result.resp[:, inside].T.double() for name, result in found.items()}  # (N, K)
        if self.task.prior is None:
            resp = _matched(resp, codes)
        allowed = self.task.allowed.cpu()[codes]  # (N, K)
        details: dict[str, Any] = {"members": list(found), "left_out": refused}
        if self.settings.rule == "average":
            combined = torch.stack([*resp.values()]).mean(dim=0)
        else:
            labels = {name: r.masked_fill(~allowed, -1).argmax(dim=1) for name, r in resp.items()}
            combined, performance = staple(labels, allowed, self.task.classes)
            details |= performance
        combined = torch.where(allowed, combined, 0.0)
        combined = combined / combined.sum(dim=1, keepdim=True)

        result = segmentation_of(
            study,
            unpack(combined.float(), study.region),
            self.task.classes,
            n_iter=max(r.n_iter for r in found.values()),
            converged=all(r.converged for r in found.values()),
            warnings=(*_left_out(refused), *_gathered(found)),
        )
        agreement = self._agreement(study, resp, result.labels)
        share = agreement[inside]
        details["agreement"] = {"mean": float(share.mean()), "unanimous": float((share == 1).double().mean())}
        return replace(result, details=details, maps={AGREEMENT: agreement})

    def _agreement(self, study: StudyTensors, resp: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """Share (X, Y, Z) of the members whose label is that of the consensus, 0 outside the region."""
        inside = study.region > 0
        ids = torch.tensor([*class_ids(self.task.classes).values()], dtype=torch.uint8)
        votes = torch.stack([ids[r.argmax(dim=1)] for r in resp.values()])
        share = torch.zeros(study.region.shape)
        share[inside] = (votes == labels[inside]).float().mean(dim=0)
        return share


def staple(
    labels: Mapping[str, Tensor], allowed: Tensor, classes: Sequence[str]
) -> tuple[Tensor, dict[str, Any]]:
    """Class probabilities by multi-label STAPLE, and how good each member is thought to be.

    SimpleITK estimates the confusion matrices ``theta_j[l, k] = p(member j says l | true class k)`` by EM;
    with the members' labels ``l_j`` they give the posterior ``p(k) ~ pi_k prod_j theta_j[l_j, k]``. Voxels
    that may be of different classes are estimated by themselves.

    T. Rohlfing, D. B. Russakoff, C. R. Maurer, IEEE Trans. Med. Imaging 23, 983 (2004); S. K. Warfield,
    K. H. Zou, W. M. Wells, ibid. 903.

    Args:
        labels: member -> (N,) class indices.
        allowed: (N, K) classes that each voxel may be.
        classes: K class names.

    Returns:
        (N, K) probabilities, and sensitivity and specificity by member and class; a class that no member
        found has none.
    """
    probabilities = torch.zeros(allowed.shape, dtype=torch.float64)
    sensitivity: dict[str, dict[str, float]] = {name: {} for name in labels}
    specificity: dict[str, dict[str, float]] = {name: {} for name in labels}
    for row in allowed.unique(dim=0):
        here = (allowed == row).all(dim=1)
        votes = torch.stack([member[here] for member in labels.values()]).numpy()  # (J, n)
        found, votes = np.unique(votes, return_inverse=True)
        posterior, confusion = _staple(votes.reshape(len(labels), -1), len(found))
        probabilities[here.nonzero(), torch.from_numpy(found)] = torch.from_numpy(posterior)
        shares = posterior.mean(axis=0)
        for name, theta in zip(labels, confusion, strict=True):
            # Of a class that is nowhere true nothing can be said; of one class alone nothing either.
            for k in np.flatnonzero(theta.sum(axis=0) > 0) if len(found) > 1 else ():
                others = np.delete(np.arange(len(found)), k)
                false = (shares[others] * theta[k, others]).sum() / shares[others].sum()
                sensitivity[name][classes[found[k]]] = float(theta[k, k])
                specificity[name][classes[found[k]]] = float(1 - false)
    return probabilities, {"sensitivity": sensitivity, "specificity": specificity}


def _staple(votes: NDArray[np.integer], k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Posterior (n, k) and confusion matrices (J, k, k) of votes (J, n) in 0..k-1."""
    if k == 1:
        return np.ones((votes.shape[1], 1)), np.ones((len(votes), 1, 1))
    staple_filter = sitk.MultiLabelSTAPLEImageFilter()
    staple_filter.SetMaximumNumberOfIterations(_MAX_ITER)
    # Voxels are independent in the model: a line of them does.
    staple_filter.Execute([sitk.GetImageFromArray(member[None].astype(np.uint8)) for member in votes])
    # The last row is for voxels that a member left undecided: there are none.
    confusion = np.stack(
        [np.reshape(staple_filter.GetConfusionMatrix(j), (k + 1, k))[:k] for j in range(len(votes))]
    )
    # SimpleITK leaves a voxel undecided whose votes it has not seen for any class: a confusion that never
    # occurred counts as one voxel, spread over the labels.
    n_votes = np.bincount(votes.ravel(), minlength=k) / len(votes)  # (k,)
    log_theta = np.log((confusion * n_votes + 1 / k) / (n_votes + 1))
    log_posterior = np.log(n_votes) + sum(
        table[member] for table, member in zip(log_theta, votes, strict=True)
    )
    posterior = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    return posterior / posterior.sum(axis=1, keepdims=True), confusion


def _matched(resp: Mapping[str, Tensor], codes: Tensor) -> dict[str, Tensor]:
    """Members' responsibilities (N, K) with their classes matched to the first member's.

    Without a prior a class is only a rank of brightness, which another clustering may give to another
    cluster: the one-to-one assignment with the largest overlap, in each part of the region, decides.
    """
    first, *others = resp
    matched = {first: resp[first]}
    for name in others:
        permuted = resp[name].clone()
        for code in codes.unique():
            here = codes == code
            overlap = resp[first][here].T @ resp[name][here]  # (class of the first, class of this one)
            _, order = linear_sum_assignment(-overlap.numpy())
            permuted[here] = resp[name][here][:, order]
        matched[name] = permuted
    return matched


def _check_names(members: Sequence[str]) -> None:
    """Refuse members that no consensus can have.

    Raises:
        InputError: unknown, the consensus itself, twice, or fewer than two.
    """
    known = [name for name in METHODS if name != Consensus.name]
    for name in members:
        if name not in known:
            raise InputError(
                f"consensus: '{name}' cannot be a member",
                expected="a method by name; trained runs cannot be members",
                remedy=near_misses(name, known),
            )
    if len(set(members)) < max(len(members), _MIN_MEMBERS):
        raise InputError(
            "a consensus needs different members",
            expected=f"at least {_MIN_MEMBERS}, each once",
            got=", ".join(members) or "none",
        )


def _require_enough(left: Mapping[str, object], refused: Mapping[str, str], study: str | None = None) -> None:
    """Raise InputError when fewer than two members are left."""
    if len(left) < _MIN_MEMBERS:
        raise InputError(
            "fewer than two members of the consensus are left",
            study=study,
            expected=f"at least {_MIN_MEMBERS} that can segment this",
            got="; ".join(_left_out(refused)),
            remedy="name other members, for example --set members=em-gmm,kmeans",
        )


def _left_out(refused: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{name} is left out: {reason}" for name, reason in refused.items())


def _gathered(found: Mapping[str, Segmentation]) -> tuple[str, ...]:
    """The members' warnings, each once, with the names of those who gave it."""
    by_text: dict[str, list[str]] = {}
    for name, result in found.items():
        for text in result.warnings:
            by_text.setdefault(text, []).append(name)
    return tuple(f"{', '.join(names)}: {text}" for text, names in by_text.items())
