"""MYOSAIQ: LGE 8 days (`001_D8`), 1 month (`_M1`) and 12 months (`_M12`) after infarction."""

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

_PATTERN = study_pattern(r"(?P<role>images|labels)/(?P<id>\d+_(?:D8|M12|M1))")
_ROLES = {"images": "LGE", "labels": LABEL}


def read(folder: Folder, options: Options) -> Cohort:
    """Studies of `D8_postMI/`, `M1_postMI/` and `M12_postMI/`."""
    studies, problems = files_by_study(
        folder, _PATTERN, _ROLES, looked_for=("D8_postMI/{images,labels}/001_D8.nii.gz (D8, M1 or M12)",)
    )
    entries = simple_entries(
        studies,
        split=lambda _study, file: split_of_folders(file),
        patient=_patient,
        visit=lambda study: study.split("_")[1],
    )
    return Cohort(("LGE",), options.labels or SCHEMES["myosaiq"], entries, problems=problems)


def _patient(study: str) -> str:
    """D8 is a cohort of its own; M1 and M12 are visits of one cohort, taken for one patient by number."""
    return study if study.upper().endswith("D8") else study.split("_")[0]


KIND = Kind("MYOSAIQ", read, mark=rf"(?:.*/)?images/\d+_(?:D8|M12|M1){NIFTI}")
