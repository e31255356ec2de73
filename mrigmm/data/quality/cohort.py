"""Findings that compare files and studies of a cohort."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.manifest import Study
from mrigmm.data.priors.choice import SEQUENCE_ALIASES
from mrigmm.errors import Problem
from mrigmm.labels import TISSUES, meant_class


def fingerprint(data: NDArray[np.generic]) -> str | None:
    """Digest of an array's shape and values; None for a constant one, which many files may share.

    Values are compared, not files: the same image saved twice has one fingerprint.
    """
    if data.size == 0 or data.min() == data.max():
        return None
    values = np.ascontiguousarray(data, dtype=np.float32)
    return blake2b(repr(values.shape).encode() + values.tobytes(), digest_size=16).hexdigest()


def same_content(
    fingerprints: Mapping[str, Mapping[str, str | None]], split_of: Mapping[str, str]
) -> list[Problem]:
    """Files of the same content: two sequences of one study, or two studies.

    Args:
        fingerprints: study -> role (sequence or "region") -> `fingerprint`.
        split_of: study -> split.

    Returns:
        Errors for two sequences of one study and for an image in two splits, else warnings.
    """
    places: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for study, roles in fingerprints.items():
        for role, digest in roles.items():
            if digest is not None:
                places[digest].append((study, role))
    problems = []
    for found in places.values():
        for later, (study, role) in enumerate(found[1:], 1):
            # The first place of the same study tells most; else the first of all.
            first_study, first_role = next((f for f in found[:later] if f[0] == study), found[0])
            if "region" in (role, first_role) and study == first_study:
                continue  # a mask beside itself; what it masks is told apart elsewhere
            if study == first_study:
                problems.append(_same_sequences(study, first_role, role))
            else:
                problems.append(_same_studies(study, role, first_study, first_role, split_of))
    return problems


def same_images(images: Mapping[str, NDArray[np.generic]]) -> list[Problem]:
    """Errors for sequences of one study, name -> voxels, that are the same image."""
    return [
        _same_sequences("", first, second)
        for first, second in combinations(images, 2)
        if np.array_equal(images[first], images[second]) and fingerprint(images[first]) is not None
    ]


def _same_sequences(study: str, first: str, second: str) -> Problem:
    return Problem(
        f"{first} and {second} are the same image",
        study,
        expected="another image for each sequence",
        got="the same voxels in both",
        remedy="correct one of the two paths, or leave the sequence out (null)",
    )


def _same_studies(study: str, role: str, other: str, other_role: str, split_of: Mapping[str, str]) -> Problem:
    across = split_of[study] != split_of[other] and role != "region"
    where = f" in '{split_of[other]}'" if across else ""
    what = "region map" if role == "region" else role
    return Problem(
        f"{what} is the same as {other_role} of another study",
        study,
        expected="files of its own for each study",
        got=f"the voxels of {other_role} of {other}{where}",
        remedy="correct the path, or keep the study once"
        + (": held-out results would not be held out" if across else ""),
        severity="error" if across else "warning",
    )


def patients_in_two_splits(splits: Mapping[str, Sequence[Study]]) -> list[Problem]:
    """Patients, as the manifest names them, with studies in more than one split."""
    seen: dict[str, tuple[str, str]] = {}
    problems = []
    for split, studies in splits.items():
        for study in studies:
            if study.patient is None:
                continue
            first_split, first = seen.setdefault(study.patient, (split, study.id))
            if first_split != split:
                problems.append(
                    Problem(
                        f"the patient '{study.patient}' is in two splits",
                        study.id,
                        expected="all studies of a patient in one split",
                        got=f"{first} in '{first_split}', this one in '{split}'",
                        remedy="move one of them: held-out results would not be held out",
                    )
                )
    return problems


def unknown_classes(names: Sequence[str]) -> Iterator[Problem]:
    """Classes under another name than the one that has a prior, an anatomy and quantities here.

    Args:
        names: all under "labels".
    """
    for name in names:
        meant = meant_class(name)
        if meant is not None and meant not in names:
            yield Problem(
                f"the class '{name}' counts as one of another organ: did you mean {meant}?",
                expected=f"{', '.join(TISSUES)}, whose anatomy, prior and quantities are known here",
                got=name,
                remedy=f"name it {meant} under 'labels' in the manifest; ignore this for another organ",
                severity="warning",
            )


def unknown_sequences(names: Sequence[str]) -> Iterator[Problem]:
    """Sequences under another name than the one that the shipped prior and the methods know.

    Args:
        names: all under "modality".
    """
    for name in names:
        meant = SEQUENCE_ALIASES.get(name.lower())
        if meant is not None and meant not in names:
            yield Problem(
                f"the sequence '{name}' is not known by this name: did you mean {meant}?",
                expected=", ".join(dict.fromkeys(SEQUENCE_ALIASES.values())),
                got=name,
                remedy=f"name it {meant}; under '{name}' it needs a prior of its own (--prior)",
                severity="warning",
            )
