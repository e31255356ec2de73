"""Conversion of a folder of DICOM series to NIfTI files and a manifest. Needs the extra `dicom`."""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrigmm.data.dicom import doubts
from mrigmm.data.dicom.drawn import LABELS, REGIONS, drawn_maps, study_ids
from mrigmm.data.dicom.recognise import choose
from mrigmm.data.dicom.record import (
    IMAGES,
    RECORD_FILE,
    Origin,
    image_name,
    read_record,
    remove_stale,
    write_record,
)
from mrigmm.data.dicom.scan import Scan, passed_over_text, scan
from mrigmm.data.dicom.series import DicomStudy, Part, group_studies
from mrigmm.data.dicom.series_map import MappedStudy, read_map, write_map
from mrigmm.data.dicom.stack import read_voxels, stack_slices, write_nifti
from mrigmm.data.files import require_new_folder, write_text
from mrigmm.data.sources.names import label_ids, labels_as_json
from mrigmm.errors import InputError, Problem, counted, some_of, told
from mrigmm.jobs.common import Outcome, Track
from mrigmm.labels import SEQUENCES

MAP_FILE = "map.yaml"
_SAID = 5  # of what is known of series in the message that there is no study


@dataclass(frozen=True)
class _Planned:
    """A study, and the parts that make the volume of each sequence."""

    id: str
    found: DicomStudy
    sequences: Mapping[str, Sequence[Part]]


@dataclass
class _Written:
    """Files that were written of the studies, by name in the images folder, and the kind of LGE of each."""

    images: dict[str, dict[str, str]] = field(default_factory=dict)  # study id -> sequence -> file name
    origins: dict[str, Origin] = field(default_factory=dict)
    lge: list[str] = field(default_factory=list)


def convert_dicom(
    source: Path | str,
    out: Path | str,
    *,
    map_file: Path | str | None,
    pseudonyms: bool,
    labels: str | None,
    track: Track,
) -> Outcome:
    """Convert as `jobs.manifest.manifest_dicom` says, which needs no pydicom to be imported."""
    source, out = Path(source), Path(out)
    if out.suffix != ".json":
        raise InputError(
            "the output is the manifest",
            file=out,
            expected="a name that ends in .json",
            remedy="-o OUT/manifest.json",
        )
    mapped = None if map_file is None else read_map(Path(map_file))
    classes = None if labels is None else label_ids(labels)
    if mapped is not None and pseudonyms:
        raise InputError("pseudonyms and a map exclude each other", remedy="change the ids in the map")
    if mapped is None:
        for holds in (MAP_FILE, glob.escape(out.name), f"{IMAGES}/*.nii.gz"):
            require_new_folder(out.parent, holds=holds, instead=f"give the corrected {MAP_FILE} with --map")
    before = read_record(out.parent / RECORD_FILE)
    found = scan(source, track)
    studies, problems = group_studies(found.frames)
    problems = [*found.problems, *problems, *_passed_over(found)]
    if mapped is None:
        plan, notes = _propose(studies, out.parent / MAP_FILE, pseudonyms)
    else:
        plan, notes = _follow(studies, mapped)
    problems += notes
    problems += doubts.of_patients([(study.id, study.found) for study in plan])

    if before:  # of the studies that are converted now it may no longer hold from here on
        planned = {study.found.uid for study in plan}
        write_record(
            out.parent, {name: origin for name, origin in before.items() if origin.study not in planned}
        )
    written = _Written()
    for study in track(plan, "Writing"):
        problems += _convert(study, out.parent, written)
    if not written.images:
        if before:
            write_record(out.parent, before)
        raise InputError.from_problems(
            [
                *(p for p in problems if p.severity == "error"),
                _nothing(source, found, studies, out, map_file, problems),
            ]
        )
    problems += doubts.of_cohort(written.lge)
    problems += _replace_record(out.parent, before, plan, written)
    regions, notes = drawn_maps(out.parent, REGIONS, [study.id for study in plan])
    problems += notes
    reference, notes = _reference_labels(out.parent, plan, classes is not None)
    problems += notes
    problems += _without_region([study for study in written.images if study not in regions], out.parent)
    entries = _entries(plan, written, regions, reference)
    write_text(out, _manifest(out.resolve().parent.name, entries, classes))
    return Outcome(out, tuple(written.images), tuple(problems))


def _passed_over(found: Scan) -> list[Problem]:
    return [
        Problem(f"{passed_over_text(what, count)} passed over", severity="warning")
        for what, count in found.passed_over.items()
        if count
    ]


def _nothing(
    source: Path,
    found: Scan,
    studies: Sequence[DicomStudy],
    out: Path,
    map_file: Path | str | None,
    problems: Sequence[Problem],
) -> Problem:
    """Return why there is no study at all, with what would have been said of the series beside."""
    if not studies:
        others = [passed_over_text(what, count) for what, count in found.passed_over.items() if count]
        return Problem(
            "there are no MR images in the folder",
            file=str(source),
            expected="DICOM files of MR images, at any depth",
            got="; ".join(f"{text} passed over" for text in others) or "no files",
            remedy="unzip archives first; give the folder of the images themselves",
        )
    series = sum(len(study.parts) for study in studies)
    beside = list(dict.fromkeys(problem.what for problem in problems if problem.severity != "error"))
    return Problem(
        "no study could be converted",
        file=str(source),
        expected="at least one series recognised as LGE, T2 or bSSFP",
        got="; ".join([f"{series} series of {counted(len(studies), 'study', 'studies')}", *beside[:_SAID]]),
        remedy=f"name the series in {map_file or out.parent / MAP_FILE} and give it with --map",
    )


def _propose(
    studies: Sequence[DicomStudy], path: Path, pseudonyms: bool
) -> tuple[list[_Planned], list[Problem]]:
    """Recognise the series, write the map, and say what was chosen."""
    ids = study_ids(studies, pseudonyms=pseudonyms)
    choices = [choose(study.parts) for study in studies]
    if studies:
        write_map(path, studies, ids, [verdicts for verdicts, _ in choices])
    plan = []
    problems: list[Problem] = []
    for study, study_id, (verdicts, notes) in zip(studies, ids, choices, strict=True):
        problems += told([*notes, *doubts.of_missing_sequences(study, verdicts)], "warning", study_id)
        sequences = _by_sequence(study, {key: verdict.sequence for key, verdict in verdicts.items()})
        plan.append(_Planned(study_id, study, sequences))
    ignored = [verdict for verdicts, _ in choices for verdict in verdicts.values()]
    return plan, [*problems, *doubts.of_the_ignored(ignored, MAP_FILE)]


def _follow(
    studies: Sequence[DicomStudy], mapped: Mapping[str, MappedStudy]
) -> tuple[list[_Planned], list[Problem]]:
    """Take the user's map at its word, and say where folder and map differ."""
    plan = []
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
        problems += told(differ, "warning", entry.id)
        plan.append(_Planned(entry.id, study, _by_sequence(study, entry.sequences)))
    there = {study.uid for study in studies}
    for uid, entry in mapped.items():
        if uid not in there:
            problems += told(["the study of the map is not in the folder"], "warning", entry.id)
    return plan, problems


def _by_sequence(study: DicomStudy, sequence_of: Mapping[str, str]) -> dict[str, list[Part]]:
    return {
        sequence: parts
        for sequence in SEQUENCES
        if (parts := [part for part in study.parts if sequence_of.get(part.key) == sequence])
    }


def _convert(study: _Planned, folder: Path, written: _Written) -> list[Problem]:
    """Write the volumes of a study; a sequence that fails does not stop the others."""
    problems: list[Problem] = told(doubts.of_sequences(study.sequences), "warning", study.id)
    if not study.sequences:
        problems.append(
            Problem(
                "no series of the study is recognised as LGE, T2 or bSSFP",
                study=study.id,
                remedy=f"name its series in the {MAP_FILE} and give that with --map",
            )
        )
    for sequence, parts in study.sequences.items():
        component = parts[0].component
        try:
            stack = stack_slices(parts, study=study.id, role=sequence)
            data, notes = read_voxels(stack, study=study.id, role=sequence)
            file = image_name(study.id, sequence)
            write_nifti(folder / IMAGES / file, data, stack.affine)
        except InputError as error:
            problems += error.problems
            continue
        written.images.setdefault(study.id, {})[sequence] = file
        keys = tuple(part.key for part in parts)
        written.origins[file] = Origin(study.found.uid, sequence, component, keys)
        problems += told((*stack.notes, *notes), "warning", study.id)
        if sequence == "LGE" and component == "magnitude" and data.min() < 0:
            component = "PSIR"
            text = "LGE: values below 0, so it is phase-sensitive (PSIR), which neither name nor tags say"
            problems += told([text], "warning", study.id)
        written.lge += [component] if sequence == "LGE" else []
    return problems


def _replace_record(
    folder: Path, before: Mapping[str, Origin], plan: Sequence[_Planned], written: _Written
) -> list[Problem]:
    """Remove what an earlier run wrote of these studies and this one did not, and record this one."""
    converted = {study.found.uid for study in plan}
    old = {name: origin for name, origin in before.items() if origin.study in converted}
    gone = remove_stale(folder, old, written.origins)
    others = {name: origin for name, origin in before.items() if name not in old}
    write_record(folder, {**others, **written.origins})
    texts = [f"{IMAGES}/{name} of an earlier run is removed: this run did not write it" for name in gone]
    problems = [Problem(text, severity="warning") for text in texts]
    for study in plan:
        earlier = _reference({o.sequence for o in old.values() if o.study == study.found.uid})
        now = _reference(written.images.get(study.id, ()))
        if earlier and now and earlier != now:
            text = f"the reference is now {now}: maps that were drawn on {earlier} do not fit its grid"
            problems += told([text], "warning", study.id)
    return problems


def _reference(sequences: Collection[str]) -> str | None:
    """The sequence on whose grid maps are drawn and written."""
    return next((sequence for sequence in SEQUENCES if sequence in sequences), None)


def _reference_labels(
    folder: Path, plan: Sequence[_Planned], ids_are_known: bool
) -> tuple[dict[str, str], list[Problem]]:
    """Reference labels by study; none, and a warning, where nothing says what their ids mean."""
    found, problems = drawn_maps(folder, LABELS, [study.id for study in plan])
    if ids_are_known or not found:
        return found, problems
    without_scheme = Problem(
        f"{counted(len(found), 'reference label')} in {LABELS}/ not entered: say which ids they have with "
        "--labels (mrigmm, myops, ..., or blood=1,myocardium=2,scar=3+4)",
        severity="warning",
    )
    return {}, [*problems, without_scheme]


def _without_region(studies: Sequence[str], folder: Path) -> list[Problem]:
    if not studies:
        return []
    text = (
        f"{counted(len(studies), 'study', 'studies')} without a region map ({some_of(studies)}): the "
        f"pretrained networks find the ventricle; to give a map, save it as {folder / REGIONS}/<id>.nii.gz "
        f"and run again (mrigmm manifest with --map {folder / MAP_FILE})"
    )
    return [Problem(text, severity="note")]


def _entries(
    plan: Sequence[_Planned], written: _Written, regions: Mapping[str, str], labels: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Studies of the manifest. Those of one patient name the first of them as their patient."""
    visits = Counter(study.found.patient_id for study in plan)
    first: dict[str, str] = {}
    entries = []
    for study in plan:
        patient = study.found.patient_id
        name = first.setdefault(patient, study.id)
        if study.id not in written.images:
            continue
        images = {sequence: f"{IMAGES}/{file}" for sequence, file in written.images[study.id].items()}
        entry: dict[str, Any] = {"id": study.id, "image": images}
        for key, maps in (("region", regions), ("label", labels)):
            entry |= {key: maps[study.id]} if study.id in maps else {}
        if patient and visits[patient] > 1:
            entry["patient"] = name
        entries.append(entry)
    return entries


def _manifest(
    name: str, entries: Sequence[Mapping[str, Any]], labels: Mapping[str, Sequence[int]] | None
) -> str:
    found = [sequence for sequence in SEQUENCES if any(sequence in entry["image"] for entry in entries)]
    content = {
        "name": name,
        "modality": {str(channel): sequence for channel, sequence in enumerate(found)},
        **({} if labels is None else {"labels": labels_as_json(labels)}),
        "test": entries,
    }
    return json.dumps(content, indent=1) + "\n"
