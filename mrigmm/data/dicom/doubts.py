"""Doubts about the series that were taken: of one study, and of the cohort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mrigmm.data.dicom.recognise import IGNORE, PARALLEL_DEGREES, Verdict, title, unrecognised
from mrigmm.data.dicom.series import DicomStudy, Part, tilt_degrees
from mrigmm.errors import Problem, counted, some_of
from mrigmm.labels import SEQUENCES

_MANY_VISITS = 3  # of one patient; more are rarely those of one
_KIND_NAMES = {"magnitude": "magnitude", "PSIR": "phase-sensitive"}


def of_sequences(sequences: Mapping[str, Sequence[Part]]) -> list[str]:
    """Sequences of another day, tilted against the LGE, or in a coordinate system of their own."""
    notes = []
    lge = sequences.get("LGE")
    for name, parts in sequences.items():
        tilt = tilt_degrees(parts[0].first, lge[0].first) if lge else 0.0
        if tilt > PARALLEL_DEGREES:
            notes.append(
                f"{name}: series {title(parts[0])} is tilted by {tilt:.0f} degrees to the LGE; if it is no "
                "short-axis stack, set it to 'ignore' in the map"
            )
    frames = {
        name: {part.header.frame_of_reference for part in parts} - {""} for name, parts in sequences.items()
    }
    if len(set().union(*frames.values())) > 1:
        notes.append(
            f"{' and '.join(name for name in frames if frames[name])} have different FrameOfReferenceUIDs: "
            "the patient was moved between them or the UIDs were changed, and positions may not be comparable"
        )
    days = {
        name: sorted({frame.day for part in parts for frame in part.frames} - {""})
        for name, parts in sequences.items()
    }
    if len({day for own in days.values() for day in own}) > 1:
        said = ", ".join(f"{name} {' and '.join(own)}" for name, own in days.items() if own)
        notes.append(
            f"the images are of several days ({said}) and have one StudyInstanceUID: is it one visit?"
        )
    return notes


def of_missing_sequences(study: DicomStudy, verdicts: Mapping[str, Verdict]) -> list[str]:
    """Return which sequences no series was taken for although some series may be it."""
    taken = {verdict.sequence for verdict in verdicts.values()}
    missing: dict[str, list[str]] = {}  # series that may be it -> sequences
    for sequence in SEQUENCES:
        candidates = unrecognised(study.parts, verdicts, sequence)
        if sequence not in taken and candidates:
            missing.setdefault(some_of([title(part) for part in candidates]), []).append(sequence)
    return [
        f"no {' and no '.join(sequences)} is recognised; it may be one of these, which are not: {names}"
        for names, sequences in missing.items()
    ]


def of_the_ignored(verdicts: Iterable[Verdict], map_file: str) -> list[Problem]:
    """Return how many series were left out without a word of their own, and why."""
    ignored = [v for v in verdicts if v.sequence == IGNORE and not (v.ambiguous or v.told)]
    reasons = Counter(v.why.split(":")[0] for v in ignored)
    if not reasons:
        return []
    said = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    text = f"{counted(reasons.total(), 'series', 'series')} not taken, see {map_file}: {said}"
    return [Problem(text, severity="note")]


def of_cohort(components: Iterable[str]) -> list[Problem]:
    """Magnitude and phase-sensitive LGE side by side, whose intensities differ in kind.

    Args:
        components: of the LGE of each study.
    """
    kinds = Counter(_KIND_NAMES.get(component, component) for component in components)
    if len(kinds) < 2:
        return []
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    remedy = "their intensities differ in kind, so take one of them for all studies in the map where you can"
    return [Problem(f"LGE: {counts}; {remedy}", severity="warning")]


def of_patients(studies: Iterable[tuple[str, DicomStudy]]) -> list[Problem]:
    """Studies whose patients cannot be told apart, or that are called one patient and may be two.

    Args:
        studies: each with its id.
    """
    by_patient: dict[str, list[tuple[str, DicomStudy]]] = {}
    for study_id, study in studies:
        by_patient.setdefault(study.patient_id, []).append((study_id, study))
    total = sum(map(len, by_patient.values()))
    nameless = [study_id for study_id, _ in by_patient.pop("", [])]
    texts = []
    if len(nameless) > 1:
        texts.append(
            f"{len(nameless)} studies have no PatientID ({some_of(nameless)}), and nothing says whether "
            "they are of one patient: enter 'patient' in the manifest before it is divided"
        )
    for members in by_patient.values():
        ids = some_of([study_id for study_id, _ in members])
        if len(members) >= _MANY_VISITS and 2 * len(members) > total:  # ANON, and the like
            texts.append(
                f"{len(members)} of {total} studies have the same PatientID ({ids}) and count as one "
                "patient: where they are several, correct 'patient' in the manifest before it is divided"
            )
        persons = {person for _, study in members for person in study.persons}
        if any(len({person[i] for person in persons} - {""}) > 1 for i in range(2)):
            texts.append(
                f"one PatientID with different names or dates of birth ({ids}): they count as one "
                "patient, which may be wrong"
            )
    return [Problem(text, severity="warning") for text in texts]
