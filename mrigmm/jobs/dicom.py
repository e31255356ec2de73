"""`mrigmm manifest dicom`: a folder of DICOM series to NIfTI files and a manifest."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrigmm.data.dicom.names import study_ids
from mrigmm.data.dicom.recognise import SEQUENCES, choose
from mrigmm.data.dicom.scan import scan
from mrigmm.data.dicom.series import DicomStudy, Part, group_studies
from mrigmm.data.dicom.series_map import MappedStudy, read_map, write_map
from mrigmm.data.dicom.stack import read_voxels, stack_slices
from mrigmm.data.dicom.write import write_nifti
from mrigmm.data.files import require_new_folder, write_text
from mrigmm.errors import InputError, Problem
from mrigmm.jobs.common import Outcome, Track, no_progress, warnings_of

MAP_FILE = "map.yaml"
IMAGES, REGIONS = "images", "regions"  # folders beside the manifest

# Study id -> sequence -> the parts that make its volume.
Plan = dict[str, dict[str, list[Part]]]


def manifest_dicom(
    source: Path | str,
    out: Path | str,
    *,
    map_file: Path | str | None = None,
    pseudonyms: bool = False,
    track: Track = no_progress,
) -> Outcome:
    """Find LGE, T2 and bSSFP series, write them as NIfTI, and a manifest with all studies under "test".

    The first run also writes `map.yaml` beside the manifest; corrected by the user and given as `map_file`,
    it decides instead of the rules. Region maps that are there as `regions/<id>.nii.gz` are entered.

    Args:
        source: folder with DICOM files, in any order and depth.
        out: the manifest to write; images go to `images/` beside it.
        map_file: which series is which sequence.
        pseudonyms: number the studies instead of naming them by PatientID. Not with a map, which has the ids.
        track: progress bar.

    Returns:
        `done` holds the studies of the manifest.

    Raises:
        InputError: pydicom is not installed, no folder, a wrong map, results of a first run that would
            be replaced, or no study at all.
    """
    source, out = Path(source), Path(out)
    if out.suffix != ".json":
        raise InputError(
            "the output is the manifest",
            file=out,
            expected="a name that ends in .json",
            remedy="-o OUT/manifest.json",
        )
    mapped = None if map_file is None else read_map(Path(map_file))
    if mapped is not None and pseudonyms:
        raise InputError("pseudonyms and a map exclude each other", remedy="change the ids in the map")
    if mapped is None:
        for holds in (MAP_FILE, glob.escape(out.name), f"{IMAGES}/*.nii.gz"):
            require_new_folder(out.parent, holds=holds, instead=f"give the corrected {MAP_FILE} with --map")
    found = scan(source, track)
    studies, problems = group_studies(found.frames)
    problems = [*found.problems, *problems]
    problems += [
        Problem(f"{count} {what} were passed over", severity="warning")
        for what, count in found.passed_over.items()
        if count
    ]
    if mapped is None:
        plan, notes = _propose(studies, out.parent / MAP_FILE, pseudonyms)
    else:
        plan, notes = _follow(studies, mapped)
    problems += notes

    entries = []
    for study_id, sequences in track(list(plan.items()), "Writing"):
        images, notes = _convert(study_id, sequences, out.parent)
        problems += notes
        if images:
            entries.append(_entry(study_id, images, out.parent))
    if not entries:
        nothing = Problem(
            "no study could be converted",
            file=str(source),
            expected="at least one series recognised as LGE, T2 or bSSFP",
            got=f"{sum(len(study.parts) for study in studies)} series of {len(studies)} studies",
            remedy=f"name the series in {map_file or out.parent / MAP_FILE} and give it with --map",
        )
        raise InputError.from_problems([*(p for p in problems if p.severity == "error"), nothing])
    write_text(out, _manifest(out.resolve().parent.name, entries))
    return Outcome(out, tuple(entry["id"] for entry in entries), tuple(problems))


def _propose(studies: Sequence[DicomStudy], path: Path, pseudonyms: bool) -> tuple[Plan, list[Problem]]:
    """Recognise the series, write the map, and say what was chosen."""
    ids = study_ids(studies, pseudonyms=pseudonyms)
    choices = [choose(study.parts) for study in studies]
    if studies:
        write_map(path, studies, ids, [verdicts for verdicts, _ in choices])
    plan: Plan = {}
    problems: list[Problem] = []
    for study, study_id, (verdicts, notes) in zip(studies, ids, choices, strict=True):
        problems += warnings_of(study_id, notes)
        plan[study_id] = _by_sequence(study, {key: verdict.sequence for key, verdict in verdicts.items()})
    return plan, problems


def _follow(studies: Sequence[DicomStudy], mapped: Mapping[str, MappedStudy]) -> tuple[Plan, list[Problem]]:
    """Take the user's map at its word, and say where folder and map differ."""
    plan: Plan = {}
    problems: list[Problem] = []
    for study in studies:
        if study.uid not in mapped:
            problems.append(
                Problem(
                    "the study is not in the map and is left out",
                    study=study.uid,
                    expected="an entry under 'studies'",
                    remedy="run without --map into a new folder, and copy its entry from the map there",
                )
            )
            continue
        entry = mapped[study.uid]
        keys, mapped_keys = {part.key for part in study.parts}, set(entry.sequences)
        differ = [f"series {key} is not in the map and is ignored" for key in sorted(keys - mapped_keys)]
        differ += [f"series {key} of the map is not there" for key in sorted(mapped_keys - keys)]
        problems += warnings_of(entry.id, differ)
        plan[entry.id] = _by_sequence(study, entry.sequences)
    there = {study.uid for study in studies}
    for uid, entry in mapped.items():
        if uid not in there:
            problems += warnings_of(entry.id, ["the study of the map is not in the folder"])
    return plan, problems


def _by_sequence(study: DicomStudy, sequence_of: Mapping[str, str]) -> dict[str, list[Part]]:
    return {
        sequence: parts
        for sequence in SEQUENCES
        if (parts := [part for part in study.parts if sequence_of.get(part.key) == sequence])
    }


def _convert(
    study_id: str, sequences: Mapping[str, Sequence[Part]], folder: Path
) -> tuple[dict[str, str], list[Problem]]:
    """Write the volumes of a study; a sequence that fails does not stop the others."""
    images: dict[str, str] = {}
    problems: list[Problem] = []
    if not sequences:
        problems.append(
            Problem(
                "no series of the study is recognised as LGE, T2 or bSSFP",
                study=study_id,
                remedy=f"name its series in the {MAP_FILE} and give that with --map",
            )
        )
    for name, parts in sequences.items():
        try:
            stack = stack_slices(parts, study=study_id, role=name)
            data, notes = read_voxels(stack, study=study_id, role=name)
            file = f"{IMAGES}/{study_id}_{name}.nii.gz"
            write_nifti(folder / file, data, stack.affine)
        except InputError as error:
            problems += error.problems
            continue
        images[name] = file
        problems += warnings_of(study_id, (*stack.notes, *notes))
    return images, problems


def _entry(study_id: str, images: Mapping[str, str], folder: Path) -> dict[str, Any]:
    region = f"{REGIONS}/{study_id}.nii.gz"
    return {"id": study_id, "image": images} | ({"region": region} if (folder / region).is_file() else {})


def _manifest(name: str, entries: Sequence[Mapping[str, Any]]) -> str:
    found = [sequence for sequence in SEQUENCES if any(sequence in entry["image"] for entry in entries)]
    content = {
        "name": name,
        "modality": {str(channel): sequence for channel, sequence in enumerate(found)},
        "test": entries,
    }
    return json.dumps(content, indent=1) + "\n"
