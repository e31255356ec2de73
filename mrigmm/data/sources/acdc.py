"""ACDC: cine bSSFP, end-diastole and end-systole of each patient as two studies."""

from __future__ import annotations

import re
from dataclasses import replace

from mrigmm.data.sources.base import (
    LABEL,
    NIFTI,
    Cohort,
    Entry,
    Folder,
    Kind,
    Options,
    files_by_study,
    simple_entries,
    split_of_folders,
    study_pattern,
)
from mrigmm.labels import SCHEMES

_PATTERN = study_pattern(r"(?P<id>patient\d+_frame\d+)(?P<role>(?:_gt)?)")
_ROLES = {"": "bSSFP", "_gt": LABEL}


def read(folder: Folder, options: Options) -> Cohort:
    """Studies `patient001_ED` and `patient001_ES`; the phase of a frame stands in `Info.cfg`."""
    studies, problems = files_by_study(
        folder,
        _PATTERN,
        _ROLES,
        looked_for=("patient001/patient001_frame01.nii.gz", "patient001_frame01_gt.nii.gz"),
    )
    entries = simple_entries(
        studies,
        split=lambda _study, file: split_of_folders(file),
        patient=lambda study: study.split("_")[0],
    )
    named = [_named_by_phase(folder, entry) for entry in entries]
    unknown = [entry.id for entry in named if "_frame" in entry.id.lower()]
    notes = (f"no Info.cfg names the phase: {', '.join(unknown)}",) if unknown else ()
    return Cohort(("bSSFP",), options.labels or SCHEMES["acdc"], tuple(named), notes, problems=problems)


def _named_by_phase(folder: Folder, entry: Entry) -> Entry:
    """The entry under the phase of its frame, where its folder says which that is."""
    file = next(iter(entry.images.values()), None) or entry.label or ""
    info = file[: file.rfind("/") + 1] + "Info.cfg"
    if info not in folder.files:
        return entry
    frame = int(re.split(r"\D+", entry.id)[-1])
    phases = re.findall(r"^\s*(ED|ES)\s*:\s*(\d+)\s*$", folder.text(info), re.MULTILINE)
    phase = next((name for name, number in phases if int(number) == frame), None)
    return entry if phase is None else replace(entry, id=f"{entry.patient}_{phase}")


KIND = Kind("ACDC", read, mark=rf"(?:.*/)?patient\d+_frame\d+(?:_gt)?{NIFTI}")
