"""Published data sets as they are downloaded, by the names of their files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from mrigmm.data.sources.base import (
    LABEL,
    NIFTI,
    Cohort,
    Entry,
    Folder,
    Kind,
    Options,
    StudyFiles,
    files_by_study,
    simple_entries,
    split_of_folders,
    study_pattern,
)
from mrigmm.labels import SCHEMES, SEQUENCES

# Entries of the studies of a folder, and what the user should know.
_Entries = Callable[[Folder, StudyFiles], tuple[tuple[Entry, ...], tuple[str, ...]]]


def _simply(_folder: Folder, studies: StudyFiles) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    return simple_entries(studies), ()


def _kind(
    title: str,
    pattern: str,
    roles: Mapping[str, str],
    *looked_for: str,
    scheme: str,
    mark: str,
    sequences: tuple[str, ...] = ("LGE",),
    entries: _Entries = _simply,
) -> Kind:
    """Return the layout of a data set.

    Args:
        title: its name.
        pattern: as `study_pattern`.
        roles: as `files_by_study`.
        looked_for: the pattern in the user's words.
        scheme: of its labels.
        mark: pattern of a file, without its folders and ending, that no other layout has.
        sequences: in channel order.
        entries: of its studies.
    """
    expression = study_pattern(pattern)

    def read(folder: Folder, options: Options) -> Cohort:
        studies, problems = files_by_study(folder, expression, roles, looked_for=looked_for)
        found, notes = entries(folder, studies)
        return Cohort(sequences, options.labels or SCHEMES[scheme], found, notes, problems=problems)

    return Kind(title, read, mark=rf"(?:.*/)?{mark}{NIFTI}")


def _of_myops(_folder: Folder, studies: StudyFiles) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The release of 2020 says the split in the file name, the later ones by folder."""

    def split(study: str, file: str) -> str:
        name = study.lower()
        if name.startswith("myops_"):
            return "test" if name.startswith("myops_test") else "training"
        return split_of_folders(file)

    return simple_entries(studies, split=split), ()


def _of_emidec(_folder: Folder, studies: StudyFiles) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Infarcts are `Case_P001`, normals `Case_N006`; cases of the contest's test set are only numbered."""

    def split(study: str, _file: str) -> str:
        return "test" if re.fullmatch(r"Case_\d+", study, re.IGNORECASE) else "training"

    return simple_entries(studies, split=split), ()


def _of_myosaiq(_folder: Folder, studies: StudyFiles) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """D8 is a cohort of its own; M1 and M12 are visits of one cohort, taken for one patient by number."""

    def patient(study: str) -> str:
        return study if study.upper().endswith("D8") else study.split("_")[0]

    return simple_entries(studies, patient=patient, visit=lambda study: study.split("_")[1]), ()


_MSCMR = {"lge": "LGE", "t2": "T2", "c0": "bSSFP"}
_MANUAL = "_manual"


def _of_mscmr(_folder: Folder, studies: StudyFiles) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Each study has the label of the sequence that gives the output grid: LGE's where there is LGE."""
    entries, elsewhere = [], []
    for study, files in studies.items():
        images = {name: files[name] for name in _MSCMR.values() if name in files}
        label = files.get(next(iter(images), "LGE") + _MANUAL)
        if label is None and any(role.endswith(_MANUAL) for role in files):
            elsewhere.append(study)
        entries.append(Entry(study, study, images, label))
    note = f"only T2 or bSSFP has a label, on another grid than LGE: {', '.join(elsewhere)}"
    return tuple(entries), (note,) if elsewhere else ()


def _of_acdc(folder: Folder, studies: StudyFiles) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Studies are `patient001_ED` and `patient001_ES`; the phase of a frame stands in `Info.cfg`."""
    entries = simple_entries(studies, patient=lambda study: study.split("_")[0])
    named = tuple(_named_by_phase(folder, entry) for entry in entries)
    unknown = [entry.id for entry in named if "_frame" in entry.id.lower()]
    return named, (f"no Info.cfg names the phase: {', '.join(unknown)}",) if unknown else ()


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


PUBLISHED: Mapping[str, Kind] = {
    "myops": _kind(  # of both releases; the test studies of 2020 have no labels
        "MyoPS",
        r"(?P<id>myops_(?:training|test)_\d+|Case_?\d+)_(?P<role>C0|DE|LGE|T2|gd)",
        {"c0": "bSSFP", "de": "LGE", "lge": "LGE", "t2": "T2", "gd": LABEL},
        "myops_training_101_{C0,DE,T2,gd}.nii.gz",
        "myops_test_201_{C0,DE,T2}.nii.gz",
        "Case3001_{C0,LGE,T2,gd}.nii.gz",
        scheme="myops",
        mark=r"(?:myops_(?:training|test)_\d+_(?:C0|DE|T2|gd)|Case_?\d+_(?:C0|gd))",
        sequences=SEQUENCES,
        entries=_of_myops,
    ),
    "emidec": _kind(
        "EMIDEC",
        r"(?P<role>Images|Contours)/(?:[^/]+/)*(?P<id>Case_[A-Z]?\d+)",
        {"images": "LGE", "contours": LABEL},
        "Case_P001/{Images,Contours}/Case_P001.nii.gz",
        scheme="emidec",
        mark=r"Images/(?:[^/]+/)*Case_[A-Z]?\d+",
        entries=_of_emidec,
    ),
    "mscmr": _kind(  # LGE, T2 and bSSFP on grids of their own, each with its own labels
        "MS-CMRSeg 2019",
        r"(?P<id>patient\d+)_(?P<role>(?:C0|LGE|T2)(?:_manual)?)",
        _MSCMR | {name + _MANUAL: sequence + _MANUAL for name, sequence in _MSCMR.items()},
        "patient1_{LGE,C0,T2}.nii.gz",
        "patient1_{LGE,C0,T2}_manual.nii.gz",
        scheme="mscmr",
        mark=r"patient\d+_(?:C0|LGE|T2)_manual",
        sequences=tuple(_MSCMR.values()),
        entries=_of_mscmr,
    ),
    "myosaiq": _kind(  # LGE 8 days (`001_D8`), 1 month (`_M1`) and 12 months (`_M12`) after infarction
        "MYOSAIQ",
        r"(?P<role>images|labels)/(?P<id>\d+_(?:D8|M12|M1))",
        {"images": "LGE", "labels": LABEL},
        "D8_postMI/{images,labels}/001_D8.nii.gz (D8, M1 or M12)",
        scheme="myosaiq",
        mark=r"images/\d+_(?:D8|M12|M1)",
        entries=_of_myosaiq,
    ),
    "acdc": _kind(  # cine, end-diastole and end-systole of each patient as two studies
        "ACDC",
        r"(?P<id>patient\d+_frame\d+)(?P<role>(?:_gt)?)",
        {"": "bSSFP", "_gt": LABEL},
        "patient001/patient001_frame01.nii.gz",
        "patient001_frame01_gt.nii.gz",
        scheme="acdc",
        mark=r"patient\d+_frame\d+(?:_gt)?",
        sequences=("bSSFP",),
        entries=_of_acdc,
    ),
    "sunnybrook": _kind(  # of end-systole the contours show the cavity only: it is left out
        "Sunnybrook",
        r"(?P<id>SC-[A-Z]+(?:-[A-Z]+)?-\d+)_ED(?P<role>(?:_label)?)",
        {"": "bSSFP", "_label": LABEL},
        "SC-HF-I-1_ED.nii.gz",
        "SC-HF-I-1_ED_label.nii.gz",
        scheme="sunnybrook",
        mark=r"SC-[A-Z]+(?:-[A-Z]+)?-\d+_ED(?:_label)?",
        sequences=("bSSFP",),
    ),
}
