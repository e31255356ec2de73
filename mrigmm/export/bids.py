"""Names and tables of a BIDS derivative data set of label maps (BIDS 1.9, "Imaging derivatives")."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from mrigmm.errors import InputError
from mrigmm.labels import BACKGROUND_ID, class_colours

_VERSION = "1.9.0"
_ENTITIES = re.compile(r"sub-(?P<sub>[A-Za-z0-9]+)(?:_ses-(?P<ses>[A-Za-z0-9]+))?")
DESCRIPTION_FILE = "dataset_description.json"
TABLE_FILE = "dseg.tsv"


def label_file(study: str) -> PurePosixPath:
    """Return the path of a study's label map.

    Ids that name subject and session as BIDS does (`sub-01_ses-2`) keep them; of others the letters and
    digits become the subject.

    Raises:
        InputError: an id without letters or digits.
    """
    match = _ENTITIES.fullmatch(study)
    subject = match["sub"] if match else re.sub("[^A-Za-z0-9]", "", study)
    if not subject:
        raise InputError(
            "the study id cannot name a subject in BIDS",
            study=study,
            expected="letters a to z or digits",
            remedy="rename the study in the manifest and predict again",
        )
    entities = [f"sub-{subject}"] + ([f"ses-{match['ses']}"] if match and match["ses"] else [])
    return PurePosixPath(*entities, "anat", "_".join([*entities, "desc-mrigmm", "dseg.nii.gz"]))


def dataset_description(version: str, disclaimer: str) -> dict[str, Any]:
    """Return the content of `dataset_description.json`."""
    return {
        "Name": "Label maps of mrigmm",
        "BIDSVersion": _VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "mrigmm", "Version": version, "Description": disclaimer}],
    }


def label_description(study: str, method: str, *, manual: bool) -> dict[str, Any]:
    """Return the content of the JSON file beside a label map; `manual` where somebody corrected it."""
    return {"Manual": manual, "SpatialReference": "orig", "StudyId": study, "Method": method}


def label_table(ids: Mapping[str, int]) -> str:
    """Return the table of label ids: index, name, colour."""
    colours = class_colours(list(ids))
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["index", "name", "color"])
    writer.writerow([BACKGROUND_ID, "background", "#000000"])
    for name, index in ids.items():
        writer.writerow([index, name, "#{:02x}{:02x}{:02x}".format(*colours[name])])
    return text.getvalue()
