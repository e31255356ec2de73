"""Study ids: they become file names and stand in every table, so nothing of a header goes in unseen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from mrigmm.data.dicom.series import DicomStudy
from mrigmm.data.manifest import check_study_id

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
