"""Refusals of what a method cannot do with what it was given, for all methods, before they segment.

What a sequence cannot show, whatever the method, is a warning of `data.study.load_study`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from mrigmm.data.priors.choice import no_prior
from mrigmm.data.study_tensors import StudyTensors, packed
from mrigmm.errors import InputError
from mrigmm.labels import CAVITY_CLASSES, Region, wall_classes
from mrigmm.methods.base import Method, Segmentation, Task, present_sequences
from mrigmm.methods.entry import MethodEntry, Needs

_INSTEAD = "use map-em-2step"


AnyMethod = TypeVar("AnyMethod", bound=Method)
NO_NEEDS = Needs()


def before_segmenting(
    method: AnyMethod, classes: Sequence[str], *, needs: Needs = NO_NEEDS, by_intensity: bool = True
) -> AnyMethod:
    """Let a method refuse what it cannot do before it segments a study, and say what it can only guess.

    Args:
        method: changed in place.
        classes: that it tells apart.
        needs: what it cannot do without.
        by_intensity: whether it goes by intensities alone.
    """
    segment = method.segment

    def checked(study: StudyTensors) -> Segmentation:
        refuse_study(method.name, needs, study, classes)
        found = segment(study)
        doubts = intensity_doubts(study, classes) if by_intensity else ()
        return replace(found, warnings=tuple(dict.fromkeys((*doubts, *found.warnings))))

    method.segment = checked  # type: ignore[method-assign]
    return method


def refuse_task(method: str, entry: MethodEntry, task: Task, overrides: Mapping[str, object]) -> None:
    """Refuse a task, or settings, that a method can do nothing with.

    Raises:
        InputError: settings for a method that has none, no prior, or too few classes.
    """
    if overrides and entry.settings is None:
        raise InputError(f"{method} has no settings", got=", ".join(overrides))
    if entry.needs.prior:
        require_prior(method, task)
    only = entry.needs.only
    if only and not {*entry.needs.classes} <= {*task.classes} <= {*only}:
        raise InputError(
            f"{method} knows {', '.join(only[:-1])} and {only[-1]}",
            got=", ".join(task.classes),
            remedy="leave the others out with --classes, or use another method",
        )
    if not {*entry.needs.classes} <= {*task.classes}:
        needed = " and ".join(entry.needs.classes)
        raise InputError(f"{method} needs the classes {needed}", got=", ".join(task.classes))
    if len(wall_classes(task.classes)) < entry.needs.wall_classes:
        raise InputError(
            f"{method} needs at least two classes of the wall",
            expected="for example myocardium and scar",
            got=", ".join(task.classes),
        )


def require_prior(method: str, task: Task) -> None:
    """Refuse a task without a population prior, in the name of the method that was asked for.

    Raises:
        InputError: there is none.
    """
    if task.prior is None:
        remedy = "make one from labelled studies with mrigmm prior"
        raise no_prior(method, task.classes, task.sequences, remedy)


def refuse_study(method: str, needs: Needs, study: StudyTensors, classes: Sequence[str]) -> None:
    """Refuse a study that lacks what a method needs to tell these classes apart.

    Raises:
        InputError: wall or cavity are not known, a sequence is missing, or one ends inside the region.
    """
    if needs.wall and not (study.region == Region.WALL).any():
        raise InputError(
            f"{method} needs to know the wall",
            study=study.id,
            expected="a region map with 1 = cavity and 2 = wall",
            got="the left ventricle as a whole" if (study.region == Region.LV).any() else "no wall",
            remedy=f"give such a map, or {_INSTEAD}",
        )
    blood = any(name in CAVITY_CLASSES for name in classes)
    if needs.cavity and not blood and (study.region == Region.LV).any():
        raise InputError(
            f"{method} cannot find the cavity without a class for blood",
            study=study.id,
            expected="a class 'blood', or a region map with 1 = cavity and 2 = wall",
            got=", ".join(classes),
        )
    present = present_sequences(study)
    if needs.one_of and not {*present} & {*needs.one_of}:
        raise InputError(
            f"{method} knows none of the study's sequences",
            study=study.id,
            expected=f"one of {', '.join(needs.one_of)}",
            got=", ".join(present),
            remedy="name the sequences so in the manifest, or use a method such as em-gmm",
        )
    for name in needs.sequences:
        if name not in present:
            raise InputError(
                f"{method} needs {name}",
                study=study.id,
                expected=f"{name} that varies inside the region",
                got=", ".join(present),
                remedy=f"add {name}, or {_INSTEAD}",
            )
    if needs.covered:
        missing = ~packed(study.observed[study.present], study.region)
        if bool(torch.any(missing)):
            raise InputError(
                f"{method} cannot leave out single voxels",
                study=study.id,
                expected="sequences that cover the whole region",
                got=f"{int(missing.sum())} values outside a field of view",
                remedy="use map-em, or leave the short sequence out (null)",
            )


def intensity_doubts(study: StudyTensors, classes: Sequence[str]) -> tuple[str, ...]:
    """Warnings of what intensities cannot tell apart in a study."""
    undivided = bool((study.region == Region.LV).any())
    if "scar" in classes and undivided and present_sequences(study) == ("LGE",):
        return (
            "LGE alone cannot tell scar at the endocardium from blood: give a region map with 1 = cavity and "
            "2 = wall",
        )
    return ()
