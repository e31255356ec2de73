"""MyoPS 2020 (`train25/`, `train25_myops_gd/`, `test20/`) and MyoPS++ of the CARE challenges."""

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

_PATTERN = study_pattern(
    r"(?P<id>myops_(?:training|test)_\d+|Case_?\d+)_(?P<role>C0|DE|LGE|T2|gd)",
)
_ROLES = {"c0": "bSSFP", "de": "LGE", "lge": "LGE", "t2": "T2", "gd": LABEL}


def read(folder: Folder, options: Options) -> Cohort:
    """Studies of either release; the test studies of 2020 have no labels."""
    studies, problems = files_by_study(
        folder,
        _PATTERN,
        _ROLES,
        looked_for=(
            "myops_training_101_{C0,DE,T2,gd}.nii.gz",
            "myops_test_201_{C0,DE,T2}.nii.gz",
            "Case3001_{C0,LGE,T2,gd}.nii.gz",
        ),
    )
    return Cohort(
        ("LGE", "T2", "bSSFP"),
        options.labels or SCHEMES["myops"],
        simple_entries(studies, split=_split),
        problems=problems,
    )


def _split(study: str, file: str) -> str:
    """The release of 2020 says it in the file name, the later ones by folder."""
    name = study.lower()
    if name.startswith("myops_"):
        return "test" if name.startswith("myops_test") else "training"
    return split_of_folders(file)


KIND = Kind(
    "MyoPS",
    read,
    mark=rf"(?:.*/)?(?:myops_(?:training|test)_\d+_(?:C0|DE|T2|gd)|Case_?\d+_(?:C0|gd)){NIFTI}",
)
