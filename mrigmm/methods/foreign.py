"""Methods of other packages: what they return is checked, and what they raise is told as theirs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.labels import class_ids
from mrigmm.methods.base import Method, Segmentation
from mrigmm.plugins import said_by

_SUM_TOLERANCE = 1e-3  # of responsibilities


def foreign_failure(name: str, owner: str, error: Exception, study: str | None = None) -> InputError:
    """Return the error of a method of another package that failed."""
    return InputError(
        f"the method '{name}' of the package {owner} failed",
        study=study,
        got=said_by(error),
        remedy="tell its authors, or use another method (mrigmm info)",
    )


def checked_method(method: Method, name: str, owner: str, classes: Sequence[str]) -> Method:
    """Let a method of another package fail as such, and refuse results that are none.

    Args:
        method: changed in place.
        name: of its entry point.
        owner: its package.
        classes: K class names.

    Raises:
        TypeError or AttributeError: it is no method.
    """
    if method.name != name:
        raise TypeError(f"its name is '{method.name}'")
    segment, _ = method.segment, method.describe

    def checked(study: StudyTensors) -> Segmentation:
        try:
            found = segment(study)
            wrong = _what_is_wrong(found, study, classes)
        except InputError:
            raise
        except Exception as error:
            raise foreign_failure(name, owner, error, study.id) from error
        if wrong is not None:
            raise InputError(
                f"the method '{name}' of the package {owner} gave no segmentation of the study",
                study=study.id,
                expected="mrigmm.methods.base.Segmentation, as its docstring says",
                got=wrong,
                remedy="tell its authors, or use another method (mrigmm info)",
            )
        return found

    method.segment = checked  # type: ignore[method-assign]
    return method


def _what_is_wrong(found: object, study: StudyTensors, classes: Sequence[str]) -> str | None:
    """Return why a result cannot be one of a study; None where it can."""
    if not isinstance(found, Segmentation):
        return type(found).__name__
    shape, inside = study.region.shape, study.region > 0
    if found.labels.shape != shape or found.resp.shape != (len(classes), *shape):
        return (
            f"labels {tuple(found.labels.shape)}, resp {tuple(found.resp.shape)}, of a study {tuple(shape)}"
        )
    ids = torch.tensor([0, *class_ids(classes).values()])
    if found.labels.dtype != torch.uint8 or not torch.isin(found.labels, ids.to(torch.uint8)).all():
        return f"labels {found.labels.unique().tolist()} ({found.labels.dtype}), of the ids {ids.tolist()}"
    if ((found.labels > 0) != inside).any():
        return "labels that are not the region: 0 outside, a class in every voxel inside"
    total = found.resp.sum(dim=0)
    if not (found.resp >= 0).all() or not _near(total, inside.to(total.dtype)):
        return "resp that are no probabilities: sum 1 inside the region, 0 outside"
    if found.mixture.means.shape[1:] != (len(classes), len(found.sequences)):
        return f"means {tuple(found.mixture.means.shape)} of {len(found.sequences)} sequences"
    return None


def _near(values: Tensor, expected: Tensor) -> bool:
    return bool(((values - expected).abs() < _SUM_TOLERANCE).all())
