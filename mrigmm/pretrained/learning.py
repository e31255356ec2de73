"""Record of what networks have learnt since the pretraining: `learning.json` of `mrigmm train`, by cohort."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mrigmm.data.files import write_text
from mrigmm.errors import InputError
from mrigmm.pretrained.folder import PretrainedFolder


class LearntCohort(BaseModel):
    """One training on one cohort.

    Attributes:
        name: of its manifests.
        use: whether reference labels were learnt from.
        studies: ids of all studies that took part.
        labelled: ids of those whose labels were learnt from.
        held_out: ids of those that were only measured on, until the last fit on all.
        labels: in words, what the labels tell apart.
        settings: of the training.
        measured: in words, what `before` and `after` are and on what they were measured.
        before: figures of the networks that it started from.
        after: figures of the best that it tried; the networks that it left, unless `kept_start`.
        kept_start: the networks that it started from were kept as they were.
        why: in words, why they were kept, or what was chosen.
        knobs: without labels, what the cohort says of the simulator's knobs
            (`phantom.generator.cohort.CohortKnobs.table`).
        versions: of packages.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    use: Literal["labels", "no labels"]
    studies: tuple[str, ...]
    labelled: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    labels: str = ""
    settings: dict[str, Any] = {}
    measured: str = ""
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    kept_start: bool = False
    why: str = ""
    knobs: dict[str, dict[str, float]] = {}
    versions: dict[str, str] = {}


class LearningRecord(BaseModel):
    """The trainings of a run, the first one first.

    Attributes:
        start: file -> SHA-256 of the networks that the first of them started from.
        cohorts: one entry per training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: dict[str, str]
    cohorts: tuple[LearntCohort, ...] = ()


def read_learning(folder: PretrainedFolder) -> LearningRecord:
    """The trainings of a folder; of one that has learnt nothing since, only its own hashes.

    Raises:
        InputError: the folder is missing, unfinished or damaged.
    """
    _, networks = folder.read()
    try:
        content = json.loads(folder.learning.read_text(encoding="utf-8"))
        return LearningRecord.model_validate(content)
    except FileNotFoundError:
        return LearningRecord(start={file.file: file.sha256 for file in networks.files})
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            "the record of what the networks have learnt is damaged",
            file=folder.learning,
            got=" ".join(str(error).split()),
            remedy="copy the run folder again",
        ) from None


def write_learning(folder: PretrainedFolder, record: LearningRecord) -> None:
    """Write the record."""
    write_text(folder.learning, json.dumps(record.model_dump(mode="json"), indent=1) + "\n")
