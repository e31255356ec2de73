"""BIDS: `sub-*/[ses-*/]anat/*_{LGE,T2w,bssfp}.nii.gz`, labels `*_dseg.nii.gz` among the derivatives."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping

from mrigmm.data.priors.choice import SEQUENCE_ALIASES
from mrigmm.data.sources.base import (
    LABEL,
    NIFTI,
    Cohort,
    Entry,
    Folder,
    Kind,
    Options,
    assign,
    stem,
)
from mrigmm.data.sources.names import labels_of
from mrigmm.errors import InputError

_FILE = re.compile(
    rf"(?:.*/)?(?P<sub>sub-[a-z0-9]+)/(?:(?P<ses>ses-[a-z0-9]+)/)?anat/[^/]+{NIFTI}", re.IGNORECASE
)
_REGION = "region"
# A mask of the left ventricle, by its entity `label` or `desc`.
_REGION_NAME = re.compile(r".*_(?:label|desc)-lv_(?:.*_)?mask", re.IGNORECASE)
_SHIPPED = ("LGE", "T2", "bSSFP")


def read(folder: Folder, options: Options) -> Cohort:
    """One study per subject and session, with the label ids of a `dseg.tsv`."""
    suffixes = {**SEQUENCE_ALIASES, **options.rename}
    studies = assign(
        folder,
        list(_files(folder, suffixes)),
        looked_for=(
            "sub-01/[ses-01/]anat/sub-01_LGE.nii.gz (LGE, T2w, bssfp)",
            "derivatives/NAME/sub-01/[ses-01/]anat/sub-01_dseg.nii.gz",
        ),
    )
    entries = tuple(
        Entry(
            study,
            study.split("_")[0],
            {role: file for role, file in files.items() if role not in (LABEL, _REGION)},
            files.get(LABEL),
            files.get(_REGION),
        )
        for study, files in studies.items()
    )
    found = {name for entry in entries for name in entry.images}
    sequences = (*(name for name in _SHIPPED if name in found), *sorted(found.difference(_SHIPPED)))
    labelled = any(entry.label is not None for entry in entries)
    return Cohort(sequences, options.labels or (_table(folder, options) if labelled else {}), entries)


def _files(folder: Folder, suffixes: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(study, role, file) of images, labels and region maps."""
    for file in folder.files:
        match = _FILE.fullmatch(file)
        if not match:
            continue
        role = _role(stem(file), suffixes, derived="derivatives" in file.lower().split("/"))
        if role is not None:
            yield "_".join(part for part in (match["sub"], match["ses"]) if part), role, file


def _role(name: str, suffixes: Mapping[str, str], *, derived: bool) -> str | None:
    """What a file is, by the end of its name; the longest ending wins."""
    if derived:
        if name.lower().endswith("_dseg"):
            return LABEL
        return _REGION if _REGION_NAME.fullmatch(name) else None
    fitting = [text for text in suffixes if name.lower().endswith("_" + text.lower())]
    return suffixes[max(fitting, key=len)] if fitting else None


def _table(folder: Folder, options: Options) -> dict[str, list[int]]:
    """Class name -> ids, from the table that BIDS keeps beside the labels."""
    tables = [file for file in folder.files if re.fullmatch(r"(?:.*[/_])?dseg\.tsv", file)]
    try:
        content = {
            tuple((row["name"], int(row["index"])) for row in csv.DictReader(lines, delimiter="\t"))
            for lines in (folder.text(file).splitlines() for file in tables)
        }
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(
            "the table of label ids cannot be read",
            file=folder.root / tables[0],
            expected="tab-separated columns index and name",
            got=str(error),
        ) from None
    if len(content) != 1:
        raise InputError(
            "the label ids of this cohort are not known",
            file=folder.root,
            expected="one dseg.tsv with the columns index and name",
            got=", ".join(tables) or "none",
            remedy="give them with --labels, for example --labels blood=1,myocardium=2,scar=3",
        )
    return labels_of(content.pop(), options.rename)


KIND = Kind(None, read, ("rename",))
