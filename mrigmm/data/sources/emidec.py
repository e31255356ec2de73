"""EMIDEC: LGE of infarcts (`Case_P001`) and of normals (`Case_N006`); test cases are only numbered."""

from __future__ import annotations

import re

from mrigmm.data.sources.base import (
    LABEL,
    NIFTI,
    Cohort,
    Folder,
    Kind,
    Options,
    files_by_study,
    simple_entries,
    study_pattern,
)
from mrigmm.labels import SCHEMES

_PATTERN = study_pattern(r"(?P<role>Images|Contours)/(?:[^/]+/)*(?P<id>Case_[A-Z]?\d+)")
_ROLES = {"images": "LGE", "contours": LABEL}


def read(folder: Folder, options: Options) -> Cohort:
    """Studies of the training set and of the segmentation contest's test set."""
    studies, problems = files_by_study(
        folder, _PATTERN, _ROLES, looked_for=("Case_P001/{Images,Contours}/Case_P001.nii.gz",)
    )
    entries = simple_entries(studies, split=lambda study, _file: _split(study))
    return Cohort(("LGE",), options.labels or SCHEMES["emidec"], entries, problems=problems)


def _split(study: str) -> str:
    return "test" if re.fullmatch(r"Case_\d+", study, re.IGNORECASE) else "training"


KIND = Kind("EMIDEC", read, mark=rf"(?:.*/)?Images/(?:[^/]+/)*Case_[A-Z]?\d+{NIFTI}")
