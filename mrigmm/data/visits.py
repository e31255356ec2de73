"""Visits of one patient: what an id says of them, and which came first."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date

_DAYS = {"d": 1.0, "w": 7.0, "m": 30.44, "y": 365.25}
_ACUTE = ("acute", "baseline")
_LATER = r"chronic|follow-?up|fu"
_SINCE = r"(?:d|w|m|y|days?|weeks?|months?|years?)-?\d+"
_ID = re.compile(
    rf"(?P<patient>.+?)[_\-. ](?P<visit>{'|'.join(_ACUTE)}|{_LATER}|{_SINCE}|ses-[a-z0-9]+|visit-?\d+)", re.I
)


def visit_of(study: str) -> tuple[str, str] | None:
    """Patient and visit of an id that names them at its end; None of all others.

    Examples:
        >>> visit_of("p01_acute"), visit_of("sub-01_ses-02"), visit_of("case_7")
        (('p01', 'acute'), ('sub-01', 'ses-02'), None)
    """
    found = _ID.fullmatch(study)
    return None if found is None else (found["patient"], found["visit"])


def in_order(visits: Mapping[str, str]) -> list[str] | None:
    """Studies of one patient, the earliest first.

    Known are numbers (`2`, `ses-02`), times after the infarct (`D8`, `week 6`, `M12`), dates (2024-05-31)
    and words (acute, baseline; chronic, follow-up).

    Args:
        visits: study id -> visit.

    Returns:
        None where they cannot be ordered: another text, the same visit twice, or times of several kinds.

    Examples:
        >>> in_order({"b": "M12", "a": "D8", "c": "M1"}), in_order({"a": "1", "b": "D8"})
        (['a', 'c', 'b'], None)
    """
    times = {study: _time(visit) for study, visit in visits.items()}
    known = {study: time for study, time in times.items() if time is not None}
    kinds = {kind for kind, _ in known.values() if kind}
    moments = {moment for _, moment in known.values()}
    if len(kinds) > 1 or len(moments) < len(visits):
        return None
    return sorted(known, key=lambda study: known[study][1])


def _time(visit: str) -> tuple[str, float] | None:
    """Kind and moment of a visit; words fit every kind."""
    text = re.sub(r"^(?:ses|session|visit)[-_ ]?", "", visit.strip().lower())
    if text in _ACUTE:
        return "", -math.inf
    if re.fullmatch(_LATER, text):
        return "", math.inf
    if re.fullmatch(r"\d{1,4}", text):
        return "number", float(text)
    if since := re.fullmatch(r"([dwmy])[a-z]*[-_ ]?(\d+)", text):
        return "days", _DAYS[since[1]] * int(since[2])
    try:
        return "date", float(date.fromisoformat(text).toordinal())
    except ValueError:
        return None
