"""Study ids of an import, and the maps that the user drew and put beside its images under these ids."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from mrigmm.data.dicom.series import DicomStudy
from mrigmm.data.manifest import check_study_id
from mrigmm.errors import Problem, near_misses

REGIONS, LABELS = "regions", "labels"  # folders beside the manifest
_ENDINGS = (".nii.gz", ".nii")


def drawn_maps(folder: Path, kind: str, ids: Sequence[str]) -> tuple[dict[str, str], list[Problem]]:
    """Maps of some studies.

    Args:
        folder: of the manifest.
        kind: `REGIONS` or `LABELS`, the folder in it.
        ids: of the studies.

    Returns:
        Study id -> path from `folder`, and a warning for each map that belongs to no study.
    """
    there = sorted(path.name for path in (folder / kind).glob("*") if path.is_file())
    files = [name for name in there if name.lower().endswith(_ENDINGS) and not name.startswith(".")]
    found = {
        study: f"{kind}/{study}{ending}"
        for study in ids
        for ending in reversed(_ENDINGS)  # the compressed one counts where both are there
        if f"{study}{ending}" in files
    }
    used = set(found.values())
    problems = [
        Problem(
            f"{kind}/{name} is not used: {_why(name, ids)}",
            file=str(folder / kind / name),
            severity="warning",
        )
        for name in files
        if f"{kind}/{name}" not in used
    ]
    return found, problems


def _why(name: str, ids: Sequence[str]) -> str:
    stem = name[: name.lower().rindex(".nii")]
    if not name.endswith((".nii", ".nii.gz")):
        return "its ending is not in lower case"
    if stem in ids:
        return "the study has another map there"
    close = near_misses(stem, ids)
    return "no study has this id" + (f"; {close}" if close.startswith("did you mean") else "")


_LONGEST = 60


def study_ids(studies: Sequence[DicomStudy], *, pseudonyms: bool) -> list[str]:
    """One id per study, all different, also where case does not count.

    Args:
        studies: in their order.
        pseudonyms: number the studies instead of using the PatientID.

    Returns:
        `study001`, ... or a safe form of the PatientID, with -2, -3, ... for further studies.
    """
    if pseudonyms:
        return [f"study{number:03d}" for number in range(1, len(studies) + 1)]
    wanted = [safe_name(study.patient_id) for study in studies]
    reserved = {name.casefold() for name in wanted}
    used: set[str] = set()
    ids = []
    for name in wanted:
        candidate, number = name, 1
        while candidate.casefold() in used or (number > 1 and candidate.casefold() in reserved):
            number += 1
            candidate = f"{name}-{number}"
        used.add(candidate.casefold())
        ids.append(candidate)
    return ids


def safe_name(text: str) -> str:
    """Letters, digits, "-" and "_" of a text, the rest as "_"; "patient" when nothing is left.

    Names that Windows keeps for itself get a "_" more.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9-]+", "_", plain).strip("_-")[:_LONGEST].strip("_-") or "patient"
    return name if check_study_id(name) is None else f"{name}_"
