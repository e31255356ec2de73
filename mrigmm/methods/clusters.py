"""Code of methods that find clusters first, and name them afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.methods.base import Task, brightness_order
from mrigmm.mixture import Mixture, match_to_prior


def covered_voxels(study: StudyTensors) -> Tensor:
    """Intensities (N, C') of a region that every sequence covers (`needs.refuse_study`)."""
    return study.present_voxels()[0]


def parts(method: str, study: StudyTensors, task: Task) -> Iterator[tuple[Tensor, Tensor]]:
    """The parts of the region that are clustered by themselves: cavity and wall where told apart.

    Yields:
        (X, Y, Z) bool where the part is, and (k,) indices of the classes that it may hold.

    Raises:
        InputError: a part has fewer voxels than classes.
    """
    for code in study.region[study.region > 0].unique():
        inside, members = study.region == code, task.allowed[code.long()].nonzero()[:, 0].cpu()
        size = int(inside.sum())
        if size < len(members):
            raise InputError(
                f"{method} cannot cluster a part of the region this small",
                study=study.id,
                expected=f"at least {len(members)} voxels",
                got=str(size),
                remedy="use map-em, or correct the region map",
            )
        yield inside, members


def named(
    centres: Tensor, members: Tensor, sequences: tuple[str, ...], task: Task, order_by: tuple[str, ...] | None
) -> list[int]:
    """Return the cluster of each class: the nearest to the prior's means, or by brightness without a prior.

    Args:
        centres: (k, C') mean intensities of the clusters.
        members: (k,) indices of the classes that they are.
        sequences: names of the C' sequences.
        task: gives the prior.
        order_by: sequences whose brightness orders the clusters where there is no prior; then the task's.

    Returns:
        For each of `members` the index of its cluster.
    """
    k, c = centres.shape
    centres = centres.double()
    found = Mixture(centres.new_full((k,), 1 / k), centres, torch.eye(c).double().expand(k, c, c))
    if task.prior is None:
        return brightness_order(found, sequences, order_by or task.order_by)
    names = tuple(task.classes[index] for index in members.tolist())
    return match_to_prior(found, task.prior.select(classes=names, sequences=sequences))


def naming_note(task: Task, order_by: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return what the user should know of how the clusters got their names."""
    if task.prior is not None:
        return ()
    by = ", ".join(order_by or task.order_by or ("all sequences",))
    return (f"no population prior: classes are ordered by brightness in {by}",)
