"""MS-CMRSeg 2019: LGE, T2 and bSSFP on grids of their own, each with its own labels (`_manual`)."""

from __future__ import annotations

from mrigmm.data.sources.base import (
    NIFTI,
    Cohort,
    Entry,
    Folder,
    Kind,
    Options,
    files_by_study,
    study_pattern,
)
from mrigmm.labels import SCHEMES

_SEQUENCES = {"lge": "LGE", "t2": "T2", "c0": "bSSFP"}
_MANUAL = "_manual"
_PATTERN = study_pattern(r"(?P<id>patient\d+)_(?P<role>(?:C0|LGE|T2)(?:_manual)?)")
_ROLES = _SEQUENCES | {name + _MANUAL: sequence + _MANUAL for name, sequence in _SEQUENCES.items()}


def read(folder: Folder, options: Options) -> Cohort:
    """Studies with the label of the sequence that gives the output grid: LGE's where there is LGE."""
    studies, problems = files_by_study(
        folder,
        _PATTERN,
        _ROLES,
        looked_for=("patient1_{LGE,C0,T2}.nii.gz", "patient1_{LGE,C0,T2}_manual.nii.gz"),
    )
    sequences = tuple(_SEQUENCES.values())
    entries, elsewhere = [], []
    for study, files in studies.items():
        images = {name: files[name] for name in sequences if name in files}
        reference = next(iter(images), "LGE")
        label = files.get(reference + _MANUAL)
        if label is None and any(role.endswith(_MANUAL) for role in files):
            elsewhere.append(study)
        entries.append(Entry(study, study, images, label))
    notes = [f"only T2 or bSSFP has a label, on another grid than LGE: {', '.join(elsewhere)}"]
    return Cohort(
        sequences,
        options.labels or SCHEMES["mscmr"],
        tuple(entries),
        tuple(notes if elsewhere else ()),
        problems=problems,
    )


KIND = Kind("MS-CMRSeg 2019", read, mark=rf"(?:.*/)?patient\d+_(?:C0|LGE|T2)_manual{NIFTI}")
