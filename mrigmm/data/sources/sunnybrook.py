"""Sunnybrook Cardiac Data as NIfTI: cine bSSFP with masks made from the contours.

End-systole is left out: its contours show the cavity only.
"""

from __future__ import annotations

from mrigmm.data.sources.base import (
    LABEL,
    NIFTI,
    Cohort,
    Folder,
    Kind,
    Options,
    files_by_study,
    simple_entries,
    split_of_folders,
    study_pattern,
)
from mrigmm.labels import SCHEMES

_PATTERN = study_pattern(r"(?P<id>SC-[A-Z]+(?:-[A-Z]+)?-\d+)_ED(?P<role>(?:_label)?)")
_ROLES = {"": "bSSFP", "_label": LABEL}


def read(folder: Folder, options: Options) -> Cohort:
    """End-diastolic studies."""
    studies, problems = files_by_study(
        folder, _PATTERN, _ROLES, looked_for=("SC-HF-I-1_ED.nii.gz", "SC-HF-I-1_ED_label.nii.gz")
    )
    entries = simple_entries(studies, split=lambda _study, file: split_of_folders(file))
    return Cohort(("bSSFP",), options.labels or SCHEMES["sunnybrook"], entries, problems=problems)


KIND = Kind("Sunnybrook", read, mark=rf"(?:.*/)?SC-[A-Z]+(?:-[A-Z]+)?-\d+_ED(?:_label)?{NIFTI}")
