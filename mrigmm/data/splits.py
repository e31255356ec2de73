"""Splits of a cohort, always by patient: the layout's own, published ones, by ratio, in folds, by lists."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrigmm.data.manifest import SPLITS
from mrigmm.data.sources.base import Entry
from mrigmm.errors import InputError, Problem, near_misses


@dataclass(frozen=True)
class Division:
    """One way to divide a cohort.

    Attributes:
        suffix: what the manifest's name gets, such as "_fold0".
        splits: entries per split; empty splits are absent.
        left_out: ids of the studies in no split.
    """

    suffix: str
    splits: Mapping[str, tuple[Entry, ...]]
    left_out: tuple[str, ...] = ()


def _myops(numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"myops_training_{number}" for number in numbers)


_MYOPS_TEST = (109, 114, 117, 120, 122)

# Published splits: split -> study ids.
NAMED_SPLITS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    # 20 and 5 of the 25 labelled studies (arXiv 2404.12252).
    "myops-2020-published": {
        "training": _myops([n for n in range(101, 126) if n not in _MYOPS_TEST]),
        "test": _myops(_MYOPS_TEST),
    }
}


def divide(entries: Sequence[Entry], split: str | None, *, seed: int) -> tuple[Division, ...]:
    """Divide a cohort.

    Ratios and folds deal out the patients whom the layout has under "training"; the studies that it has
    under "validation" and "test" are left out.

    Args:
        entries: the studies.
        split: None for the layout's own; else a name in `NAMED_SPLITS`, "ratio=A/B/C" (training,
            validation, test), "folds=N", or the path of a JSON file with a list of study ids or patients
            per split.
        seed: of the order in which patients are dealt out.

    Raises:
        InputError: unknown split, too few patients, ids that are not there, a patient in two splits.
    """
    if split is None:
        return (_division("", {name: [e for e in entries if e.split == name] for name in SPLITS}, entries),)
    form, separator, value = split.partition("=")
    if separator and form == "ratio":
        return (_by_ratio(entries, _ratio(value), seed),)
    if separator and form == "folds":
        return _in_folds(entries, value, seed)
    if split in NAMED_SPLITS:
        return (_by_lists(entries, NAMED_SPLITS[split], f"the split '{split}'"),)
    if split.lower().endswith(".json"):
        return (_by_lists(entries, _read_lists(Path(split)), split),)
    raise InputError(
        f"unknown split '{split}'",
        expected="a name, ratio=0.7/0.1/0.2, folds=5 or a file lists.json",
        remedy=near_misses(split, [*NAMED_SPLITS, "ratio", "folds"]),
    )


def _division(suffix: str, splits: Mapping[str, Sequence[Entry]], entries: Sequence[Entry]) -> Division:
    used = {entry.id for found in splits.values() for entry in found}
    return Division(
        suffix,
        {name: tuple(splits[name]) for name in SPLITS if splits.get(name)},
        tuple(entry.id for entry in entries if entry.id not in used),
    )


def _ratio(text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(part) for part in text.split("/"))
    except ValueError:
        shares = ()
    if len(shares) != 3 or not all(share >= 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise InputError(
            "a ratio is three shares that sum to 1: training, validation, test",
            expected="for example ratio=0.7/0.1/0.2",
            got=f"ratio={text}",
        )
    return shares


def _shuffled_patients(entries: Sequence[Entry], seed: int, *, least: int) -> list[str]:
    """Patients of the layout's training studies in an order that depends on the seed alone."""
    patients = sorted({entry.patient for entry in entries if entry.split == "training"})
    if len(patients) < least:
        raise InputError(
            "there are too few patients to divide",
            expected=f"at least {least} patients",
            got=str(len(patients)),
        )
    return [patients[i] for i in np.random.default_rng(seed).permutation(len(patients))]


def _of(entries: Sequence[Entry], patients: Sequence[str]) -> list[Entry]:
    chosen = set(patients)
    return [entry for entry in entries if entry.split == "training" and entry.patient in chosen]


def _by_ratio(entries: Sequence[Entry], shares: Sequence[float], seed: int) -> Division:
    wanted = sum(share > 0 for share in shares)
    patients = _shuffled_patients(entries, seed, least=wanted)
    # Everyone who is asked for gets one patient; the rest are dealt out by share.
    counts = [int(share > 0) for share in shares]
    for _ in range(len(patients) - wanted):
        lacking = [share * len(patients) - count for share, count in zip(shares, counts, strict=True)]
        counts[int(np.argmax(lacking))] += 1
    ends = np.cumsum(counts)
    parts = {
        name: _of(entries, patients[end - count : end])
        for name, count, end in zip(SPLITS, counts, ends, strict=True)
    }
    return _division("", parts, entries)


def _in_folds(entries: Sequence[Entry], text: str, seed: int) -> tuple[Division, ...]:
    n_folds = int(text) if text.isdecimal() and len(text) < 9 else 0
    if n_folds < 2:
        raise InputError("folds are counted from 2", expected="for example folds=5", got=f"folds={text}")
    patients = _shuffled_patients(entries, seed, least=n_folds)
    return tuple(
        _division(
            f"_fold{fold}",
            {
                "training": _of(entries, [p for i, p in enumerate(patients) if i % n_folds != fold]),
                "test": _of(entries, patients[fold::n_folds]),
            },
            entries,
        )
        for fold in range(n_folds)
    )


def _read_lists(path: Path) -> dict[str, tuple[str, ...]]:
    """Study ids or patients per split."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict) or not content or not set(content) <= set(SPLITS):
            raise ValueError(f"keys must be among {', '.join(SPLITS)}")
        for name, ids in content.items():
            if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
                raise ValueError(f"'{name}' must be a list of texts")
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(
            "the lists of a split cannot be read",
            file=path,
            expected='{"training": ["p01", "p02"], "test": ["p03"]}',
            got=str(error),
        ) from None
    return {name: tuple(unicodedata.normalize("NFC", i) for i in ids) for name, ids in content.items()}


def _by_lists(entries: Sequence[Entry], lists: Mapping[str, Sequence[str]], source: str) -> Division:
    """Studies by their own id or by their patient.

    Every name must be there: a published split with studies missing would be another one.
    """
    known = {name for entry in entries for name in (entry.id, entry.patient)}
    problems = [
        Problem(
            f"{source} names a study that the folder does not have",
            name,
            remedy=near_misses(name, sorted(known)),
        )
        for names in lists.values()
        for name in names
        if name not in known
    ]
    splits = {
        split: [entry for entry in entries if entry.id in names or entry.patient in names]
        for split, names in lists.items()
    }
    first: dict[str, str] = {}
    for split, found in splits.items():
        for entry in found:
            if first.setdefault(entry.patient, split) != split:
                problems.append(
                    Problem(
                        f"{source} puts one patient into two splits",
                        entry.id,
                        expected="all studies of a patient in one split",
                        got=f"'{first[entry.patient]}' and '{split}'",
                    )
                )
    if problems:
        raise InputError.from_problems(problems)
    return _division("", splits, entries)
