"""Which studies a folder of predictions has finished results of, made as they are asked for now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mrigmm.data.files import sha256
from mrigmm.data.manifest import RegionRule, Study
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError, Problem
from mrigmm.export.side_files import finite
from mrigmm.jobs.options import PredictOptions
from mrigmm.jobs.predicting.result_files import result_files
from mrigmm.jobs.predicting.segmenter import Segmenter
from mrigmm.jobs.reading.prediction_folder import read_prediction, read_side_file
from mrigmm.labels import class_ids
from mrigmm.methods.base import CohortMethod

_WOULD_BE_LOST: dict[str, Any] = {
    "what": "a label map that was changed after predict would be replaced",
    "expected": "the label map that predict wrote",
    "got": "other classes in some voxels",
    "remedy": "keep it with --resume, choose another -o, or delete it",
    "severity": "error",
}
_REVIEW_WOULD_BE_LOST: dict[str, Any] = {
    "what": "what a reviewer decided of the study would be lost",
    "remedy": "keep it with --resume, choose another -o, or delete the study's results",
}
# So many differences are told of a study.
_TOLD = 5


@dataclass(frozen=True)
class Request:
    """A request, as far as it decides the results.

    Attributes:
        segmenter: what segments.
        options: as the user gave them.
        common: everything that all studies share, as plain JSON values.
    """

    segmenter: Segmenter
    options: PredictOptions
    common: Mapping[str, Any]

    def made_with(self, study: Study) -> dict[str, Any]:
        """Return the side file's record of a study: digests of its files, and what is common."""
        rule = study.region if isinstance(study.region, RegionRule) else None
        region = study.label if rule is not None else study.region
        return {
            **self.common,
            "images": {name: sha256(file) for name, file in study.images.items()},
            "region": sha256(region) if isinstance(region, Path) else None,
            "region_rule": None if rule is None else rule.kind,
            "scribbles": None if study.scribbles is None else sha256(study.scribbles),
            "frames": dict(study.frames),
        }

    def differences(self, study: Study, out: Path) -> list[Problem]:
        """One problem when the finished result in a folder was made otherwise than is asked for now."""
        side_file = result_files(study.id, out)["json"]
        try:
            side = read_side_file(out, study.id)
            if side.made_with is None:
                raise InputError("the side file is of another version")
        except InputError as error:
            return [
                Problem(
                    "the finished result does not say how it was made",
                    study.id,
                    str(side_file),
                    expected="a side file of this version of mrigmm predict",
                    got=error.problems[0].got or error.problems[0].what,
                    remedy="choose another -o, or make all anew with --overwrite",
                )
            ]
        before = _compared(side.method, side.settings, side.classes, side.made_with)
        method, classes = self.segmenter.method, class_ids(self.segmenter.classes)
        now = _compared(method.name, method.describe(), classes, self.made_with(study))
        was, asked = _flat(before), _flat(json.loads(json.dumps(finite(now))))
        keys = [key for key in dict.fromkeys((*was, *asked)) if was.get(key) != asked.get(key)]
        if not keys:
            return []
        told = keys[:_TOLD]
        return [
            Problem(
                "the finished result was made otherwise than is asked for now",
                study.id,
                str(side_file),
                expected=", ".join(f"{key}={was.get(key)}" for key in told),
                got=", ".join(f"{key}={asked.get(key)}" for key in told),
                remedy="resume with the same options and files, choose another -o, or --overwrite all",
            )
        ]


def make_request(segmenter: Segmenter, studies: Sequence[Study], options: PredictOptions) -> Request:
    """Return what is asked for.

    Args:
        segmenter: what segments, made of `options`.
        studies: all of the job, finished or not.
        options: as the user gave them.
    """
    method = segmenter.method
    learns = isinstance(method, CohortMethod) and method.wants_cohort
    run, anatomy, prior = segmenter.run, options.anatomy, options.prior
    common = {
        "weights": None if run is None else RunFolder(run).weights_sha256(),
        "anatomy_weights": None if anatomy is None else RunFolder(anatomy).weights_sha256(),
        "prior": None if prior is None else sha256(prior),
        "registration": segmenter.corrections.registration,
        "bias_correction": segmenter.corrections.bias_correction,
        "mvo": segmenter.mvo,
        "cohort": sorted(study.id for study in studies) if learns else None,
        "probabilities": options.save_probabilities,
        "uncertainty": options.save_uncertainty,
    }
    return Request(segmenter, options, common)


def finished_studies(
    studies: Sequence[Study], out: Path, request: Request
) -> tuple[tuple[str, ...], list[Problem]]:
    """Studies that a folder has results of: label map, and side file, which is written last.

    A label map that somebody has changed since is the result of its study, and is kept.

    Returns:
        Their ids; and what to know: which label maps were changed, which cannot be read.

    Raises:
        InputError: some of them were made otherwise than `request` asks for; each one is named.
    """
    files = {study.id: result_files(study.id, out) for study in studies}
    begun = [study for study in studies if files[study.id]["json"].exists()]
    differences = [problem for study in begun for problem in request.differences(study, out)]
    if differences:
        raise InputError.from_problems(differences)
    there = [study for study in begun if files[study.id]["labels"].exists()]
    told: list[Problem] = []
    for study in there:
        try:
            told += read_prediction(out, study.id).notes()
        except InputError as error:
            told += error.problems
    return tuple(study.id for study in there), told


def require_unedited(studies: Sequence[Study], out: Path) -> None:
    """Refuse to replace what somebody has corrected or reviewed: a program cannot do that work again.

    Raises:
        InputError: there are some; each one is named.
    """
    problems: list[Problem] = []
    for study in studies:
        with suppress(InputError):  # what is no prediction, or cannot be read, holds no such work
            prediction = read_prediction(out, study.id)
            if prediction.edited:
                problems.append(replace(prediction.notes()[0], **_WOULD_BE_LOST))
            elif prediction.side.review is not None:
                file = str(result_files(study.id, out)["json"])
                problems.append(Problem(**_REVIEW_WOULD_BE_LOST, study=study.id, file=file))
    if problems:
        raise InputError.from_problems(problems)


def _compared(
    method: str, settings: Mapping[str, Any], classes: Mapping[str, int], made_with: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values that must be the same for a result to be kept."""
    return {"method": method, "settings": settings, "classes": classes, "made_with": made_with}


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    """Nested mappings as one, with names such as `made_with.files.LGE`."""
    if not isinstance(values, Mapping):
        return {name: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{name}.{key}" if name else str(key))
    return flat
