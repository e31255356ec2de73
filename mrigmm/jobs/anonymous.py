"""Headers and findings of a cohort without names, for a bug report that anyone may read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mrigmm.data.manifest import Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.nifti_file import stored_header
from mrigmm.errors import InputError, Problem
from mrigmm.jobs.common import versions

# How voxels are read. Not the texts of a header (descrip, aux_file, intent_name), which may name a patient.
_FIELDS = (
    *("sizeof_hdr", "dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter"),
    *("xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
# Words of manifests and file names that name nobody.
_COMMON = {
    *(
        "lge",
        "t2",
        "bssfp",
        "other",
        "blood",
        "myocardium",
        "edema",
        "scar",
        "left",
        "ventricle",
        "cavity",
        "wall",
    ),
    *("name", "modality", "labels", "label", "background", "training", "validation", "test", "id", "study"),
    *("image", "images", "region", "regions", "scribbles", "patient", "visit", "file", "frame", "cohort"),
    *("manifest", "json", "nii", "gz", "the", "and", "not", "for", "with"),
}


def anonymous_report(
    manifest: Path, problems: Sequence[Problem], data_root: Path | None = None
) -> dict[str, Any]:
    """Return versions, the header of every file, and the findings, as plain JSON without names.

    Studies are numbered in their order, files told by their role. Of the findings' texts every word goes that
    stands in the manifest or in a path; of the headers the texts. Voxels are not read.

    Args:
        manifest: the cohort, whether or not it can be read.
        problems: what `check` found.
        data_root: as `check` takes it.
    """
    try:
        studies = read_manifest(manifest, data_root).split("all")
    except InputError:
        studies = ()
    numbers = {study.id: f"study {number}" for number, study in enumerate(studies, start=1)}
    content = manifest.read_text(encoding="utf-8", errors="replace")
    hidden = _names(f"{content} {manifest.resolve()} {data_root or ''}")
    return {
        "versions": versions(),
        "studies": {numbers[study.id]: _headers(study) for study in studies},
        "problems": [_without_names(problem, numbers, hidden) for problem in problems],
    }


def _headers(study: Study) -> dict[str, Any]:
    files = {**study.images, "region": study.region, "label": study.label, "scribbles": study.scribbles}
    return {role: _header(file) for role, file in files.items() if isinstance(file, Path)}


def _header(file: Path) -> dict[str, Any]:
    """Return size and stored numbers of a header; why there are none stands in the findings."""
    try:
        header = stored_header(file)
        values = {name: header[name] for name in _FIELDS}
        shown = {name: " ".join(map(str, v)) if v.ndim else v.item() for name, v in values.items()}
        return {"bytes": file.stat().st_size, **shown}
    except (InputError, OSError):
        return {}


def _names(text: str) -> re.Pattern[str]:
    """Return what finds the words of a text, short and common ones left out."""
    words = {word for word in re.split(r"[\W_]+", text) if len(word) > 1 and not word.isdigit()}
    words |= set(re.findall(r"\d{4,}", text))  # numbers and dates
    found = sorted((word for word in words if word.casefold() not in _COMMON), key=len, reverse=True)
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, found)) or '(?!)'})(?![^\W_])")


def _without_names(problem: Problem, numbers: Mapping[str, str], hidden: re.Pattern[str]) -> dict[str, Any]:
    """Return a finding without its file, its study by number, and its texts without names."""

    def shown(text: str) -> str:
        for study in sorted(numbers, key=len, reverse=True):
            if len(study) > 3 or not study.isdigit():
                text = text.replace(study, numbers[study])
        return hidden.sub("…", text)

    texts = {name: text for name, text in asdict(problem).items() if name not in ("study", "file")}
    return {
        "study": None if problem.study is None else numbers.get(problem.study),
        **{name: text if text is None else shown(text) for name, text in texts.items()},
    }
