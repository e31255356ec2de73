"""Which studies a folder of predictions has finished results of, made as they are asked for now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrigmm.data.manifest import RegionRule, Study
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError, Problem
from mrigmm.export.side_files import finite
from mrigmm.jobs.options import PredictOptions
from mrigmm.jobs.predicting.segmenter import Segmenter
from mrigmm.labels import class_ids
from mrigmm.methods.base import CohortMethod

# What of a side file must be the same beside `MADE_WITH`.
_COMPARED = ("method", "settings", "classes")
MADE_WITH = "made_with"
# So many differences are told of a study.
_TOLD = 5


@dataclass(frozen=True)
class Request:
    """What is asked for, as far as it decides the results.

    Attributes:
        segmenter: what segments.
        options: as the user gave them.
        common: everything that all studies share, as plain JSON values.
    """

    segmenter: Segmenter
    options: PredictOptions
    common: Mapping[str, Any]

    def made_with(self, study: Study) -> dict[str, Any]:
        """What stands in the side file of a study: digests of its files, and what is common."""
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

    def differences(self, study: Study, side_file: Path) -> list[Problem]:
        """One problem when the result behind a side file was made otherwise than is asked for now."""
        try:
            content = json.loads(side_file.read_text(encoding="utf-8"))
            before = {key: content[key] for key in (*_COMPARED, MADE_WITH)}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            return [
                Problem(
                    "the finished result does not say how it was made",
                    study.id,
                    str(side_file),
                    expected="a side file of this version of mrigmm predict",
                    got=f"{type(error).__name__}: {error}",
                    remedy="choose another -o, or make all anew with --overwrite",
                )
            ]
        method = self.segmenter.method
        now = {
            "method": method.name,
            "settings": method.describe(),
            "classes": class_ids(self.segmenter.classes),
            MADE_WITH: self.made_with(study),
        }
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


def make_request(segmenter: Segmenter, studies: Iterable[Study], options: PredictOptions) -> Request:
    """Return what is asked for.

    Args:
        segmenter: what segments, made of `options`.
        studies: all of the job, finished or not.
        options: as the user gave them.
    """
    method = segmenter.method
    learns = isinstance(method, CohortMethod) and method.wants_cohort
    run, anatomy, prior = options.run, options.anatomy, options.prior
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


def finished_studies(side_files: Iterable[tuple[Study, Path]], request: Request) -> tuple[str, ...]:
    """Ids of the studies whose side file is there, which is written last.

    Raises:
        InputError: some of them were made otherwise than `request` asks for; each one is named.
    """
    there = [(study, file) for study, file in side_files if file.exists()]
    problems = [problem for study, file in there for problem in request.differences(study, file)]
    if problems:
        raise InputError.from_problems(problems)
    return tuple(study.id for study, _ in there)


def sha256(file: Path) -> str | None:
    """Digest of a file's content; None where there is none, or no file: reading a pipe would never end."""
    try:
        if not file.is_file():
            return None
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    """Nested mappings as one, with names such as `made_with.files.LGE`."""
    if not isinstance(values, Mapping):
        return {name: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{name}.{key}" if name else str(key))
    return flat
