"""Maps that the user drew on the images of an import and put beside them, by study id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
