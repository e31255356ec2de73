"""Recognition of the sequence that a series is, and choice between series of a study.

The rules stand in `resources/dicom_sequences.yaml`; what they decide is a proposal that the user can correct.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mrigmm.data.dicom.series import SAME_POSITION_MM, Part, same_plane, tilt_degrees
from mrigmm.data.series_names import plain, rules, words
from mrigmm.labels import SEQUENCES

IGNORE = "ignore"
PARALLEL_DEGREES = 10.0  # planes with less between them are of one kind


_NO_RULE = "neither name nor tags say LGE, T2 or bSSFP"


@dataclass(frozen=True)
class Verdict:
    """Sequence that a part is taken for, or `IGNORE`, and why.

    Attributes:
        rank: higher for surer rules.
        ambiguous: ignored although it may be a sequence.
        doubt: why it may be something else; empty when nothing speaks against it.
        told: ignored, and the note of the series that is taken instead speaks of it.
    """

    sequence: str
    why: str
    rank: int = 0
    ambiguous: bool = False
    doubt: str = ""
    told: bool = False


def recognise(part: Part) -> Verdict:
    """Return what a part is by its name and tags alone, whatever else the study holds."""
    name = _name(part)
    if part.component == "phase":
        return Verdict(IGNORE, "phase image")
    named = words(name, "contrast")
    ignored = rules()["ignore"] if named else {**rules()["ignore"], **rules()["ignore_without_contrast"]}
    for kind, pattern in ignored.items():
        if word := re.search(pattern, name):
            return Verdict(IGNORE, f"{kind}: the name has '{word[0].strip()}'")
    for kind, pattern in rules()["image_types"].items():
        for value in part.first.image_type:
            if re.fullmatch(pattern, value.lower()):
                return Verdict(IGNORE, f"{kind}: the image type has '{value}'")
    made = _techniques(part, name, "technique")
    by_a_word = words(name, "contrast_by_a_word")
    for rank, found in ((2, named), (1, made), (0, by_a_word)):
        if len(found) == 1:
            ((sequence, why),) = found.items()
            verdict = _unless_contradicted(part, name, Verdict(sequence, why, rank), made)
            unheard = [f"{word} ({other})" for other, word in by_a_word.items() if other != sequence]
            if rank and unheard and not verdict.doubt:
                return replace(verdict, doubt=f"{' and '.join(unheard)}, but {why}")
            return verdict
        if found:
            reasons = " or ".join(f"{sequence} ({why})" for sequence, why in found.items())
            return Verdict(IGNORE, f"ambiguous: {reasons}", ambiguous=True)
    return Verdict(IGNORE, _NO_RULE)


def _unless_contradicted(part: Part, name: str, said: Verdict, made: Mapping[str, str]) -> Verdict:
    """Return what the name says, or what the tags say where they contradict it; with the doubt."""
    against = _techniques(part, name, "against").get(said.sequence) if said.rank != 1 else None
    others = {sequence: why for sequence, why in made.items() if sequence != said.sequence}
    if against and len(others) == 1:
        ((sequence, why),) = others.items()
        return Verdict(sequence, f"{why}, against {said.why}", 1, doubt=f"{said.why}, but {against}")
    if against:
        return Verdict(IGNORE, f"ambiguous: {said.why} ({said.sequence}), but {against}", ambiguous=True)
    if said.rank == 0:
        return replace(said, doubt=f"{said.why} alone, which is a word of several languages")
    planned = words(name, "ignore_without_contrast")
    if planned:
        return replace(said, doubt=f"{said.why}, but {' and '.join(planned.values())}, too")
    return said


def _techniques(part: Part, name: str, kind: str) -> dict[str, str]:
    """The sequences of a table of techniques that a part fits, and why."""
    return {
        sequence: fitting[0]
        for sequence, techniques in rules()[kind].items()
        if (fitting := [why for rule in techniques if (why := _technique(part, name, rule))])
    }


def choose(parts: Sequence[Part]) -> tuple[dict[str, Verdict], list[str]]:
    """Propose a sequence for each part of a study, one volume per sequence.

    Series of a single slice each, which many scanners write, are joined when they fit together.
    Of several candidates, one is taken by `_preference`; LGE first: the others should be parallel to it.

    Returns:
        The verdict by part key, and notes for the user.
    """
    verdicts = {part.key: recognise(part) for part in parts}
    notes = [
        f"series {title(part)} is ignored: {verdicts[part.key].why}"
        for part in parts
        if verdicts[part.key].ambiguous
    ]
    doubts = {key: verdict.doubt for key, verdict in verdicts.items()}
    lge: Part | None = None
    for sequence in SEQUENCES:
        wanted = [part for part in parts if verdicts[part.key].sequence == sequence]
        candidates = list(_stacks(wanted, verdicts))
        if not candidates:
            continue
        preferences = [_preference(stack, verdicts, lge) for stack in candidates]
        best = candidates[preferences.index(max(preferences))]
        lge = best[0] if sequence == "LGE" else lge
        if len(best) < len(wanted):
            reasons = _reasons(preferences) if len(candidates) > 1 else []
            reasons += ["of repeated slices the last ones"] * _repeated(wanted, best)
            notes.append(
                f"{sequence}: {len(wanted)} series fit, {title(best[0])} is taken "
                f"({'; '.join(reasons)}{_incomplete(wanted, best)}); change it in the map"
            )
        for part in wanted:
            if part not in best:
                why = f"{sequence} too ({verdicts[part.key].why}), but series {title(best[0])} is taken"
                verdicts[part.key] = Verdict(IGNORE, why, told=True)
            elif len(best) > 1:
                verdict = verdicts[part.key]
                verdicts[part.key] = Verdict(
                    sequence, f"{verdict.why}; one of {len(best)} slices", verdict.rank
                )
        if doubt := next((doubts[p.key] for p in best if doubts[p.key]), ""):
            notes.append(f"{sequence}: series {title(best[0])} is taken, but look at it: {doubt}")
    return verdicts, notes


def _stacks(parts: Sequence[Part], verdicts: Mapping[str, Verdict]) -> Iterable[list[Part]]:
    """Candidates for one sequence: whole series, and single slices that fit together."""
    singles: list[list[Part]] = []
    for part in parts:
        if len(part.slices) > 1:
            yield [part]
            continue
        for stack in singles:
            if _belongs(stack[0], part) and verdicts[stack[0].key].rank == verdicts[part.key].rank:
                stack.append(part)
                break
        else:
            singles.append([part])
    for stack in singles:
        yield _without_repeats(stack)


def _belongs(one: Part, other: Part) -> bool:
    return one.component == other.component and one.cine == other.cine and same_plane(one.first, other.first)


def _repeated(wanted: Sequence[Part], best: Sequence[Part]) -> bool:
    """Return whether a slice that was not taken is another image of one that was, in a series of its own."""
    left_out = [part for part in wanted if part not in best and len(part.slices) == 1]
    return any(_belongs(kept, part) and _at_one_place(kept, part) for kept in best for part in left_out)


def _at_one_place(one: Part, other: Part) -> bool:
    return abs(one.first.height_mm - other.first.height_mm) < SAME_POSITION_MM


def _without_repeats(singles: list[Part]) -> list[Part]:
    """Return images without repeats: at one position the original before a derived one, then the latest."""
    kept: list[Part] = []
    for part in sorted(singles, key=lambda part: (part.first.original, part.acquired), reverse=True):
        if not any(_at_one_place(part, other) for other in kept):
            kept.append(part)
    # A few that are shifted in the plane are no copies: the check of the distances names them.
    shifted = [part for part in singles if not any(_same_position(part, other) for other in kept)]
    few = 2 * len(shifted) < len(kept)
    return [part for part in singles if part in kept or (few and part in shifted)]


def _same_position(one: Part, other: Part) -> bool:
    return math.dist(one.first.position_mm, other.first.position_mm) < SAME_POSITION_MM


def _preference(stack: Sequence[Part], verdicts: Mapping[str, Verdict], lge: Part | None) -> tuple[Any, ...]:
    """Return what decides between candidates, in the order of `_PREFERENCES`; the larger is taken."""
    part = stack[0]
    components = rules()["components"]
    return (
        bool(re.search(rules()["short_axis"], _name(part))),
        lge is None or tilt_degrees(part.first, lge.first) <= PARALLEL_DEGREES,
        verdicts[part.key].rank,
        sum(len(p.slices) for p in stack),
        -components.index(part.component),
        all(p.first.original for p in stack),
        max(p.acquired for p in stack),
    )


_PREFERENCES = (
    "short axis in its name",
    "parallel to the LGE",
    "surest name",
    "most slices",
    "magnitude before PSIR",
    "original, not derived",
    "acquired last",
)


def _reasons(preferences: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return what decided for the best and against the other candidates."""
    won = max(preferences)
    decisive = {
        next(i for i, value in enumerate(won) if value != lost[i]) for lost in preferences if lost != won
    }
    return [_PREFERENCES[i] for i in sorted(decisive)] or ["the first of equals"]


def _incomplete(wanted: Sequence[Part], best: Sequence[Part]) -> str:
    """Return which of those that were not taken lack slices, which may be why."""
    lacking = [part for part in wanted if part not in best and part.missing]
    return "".join(f"; {title(part)} has {part.counted_slices}" for part in lacking)


def _technique(part: Part, name: str, rule: Mapping[str, Any]) -> str | None:
    """Return why a part fits a technique rule, or None. All conditions of the rule hold together."""
    said = []
    frame = part.first
    if "name" in rule:
        word = re.search(rule["name"], name)
        if word is None:
            return None
        said.append(f"the name has '{word[0]}'")
    if "physics" in rule:
        if not set(rule["physics"]) <= part.header.physics or part.header.physics & set(rule.get("not", ())):
            return None
        said.append(" and ".join(rule["physics"]))
    if "cine" in rule:
        if part.cine is not rule["cine"]:
            return None
        said += [f"cine of {part.phases} frames"] * part.cine
    for key, value, unit in (
        ("inversion_time_ms", frame.inversion_time_ms, " ms inversion time"),
        ("echo_time_ms", frame.echo_time_ms, " ms echo time"),
        ("frames", part.phases, " frames"),
    ):
        if key in rule:
            low, high = rule[key]
            if value is None or not low <= value <= high:
                return None
            said.append(f"{value:g}{unit}")
    return "the tags say " + ", ".join(said) if "name" not in rule else ", ".join(said)


def _name(part: Part) -> str:
    header = part.header
    text = " ".join((header.description, header.protocol, header.sequence_name))
    return plain(text)


def unrecognised(parts: Sequence[Part], verdicts: Mapping[str, Verdict], sequence: str) -> list[Part]:
    """Series that may be a sequence all the same: no rule knows them, or their name says it beside another
    word for which they are ignored.
    """

    def may_be(part: Part) -> bool:
        verdict = verdicts[part.key]
        named = part.component != "phase" and sequence in words(_name(part), "contrast")
        return verdict.sequence == IGNORE and (named or verdict.ambiguous or verdict.why == _NO_RULE)

    return [part for part in parts if may_be(part)]


def title(part: Part) -> str:
    """A series as the user knows it: number and description."""
    header = part.header
    suffix = part.key.removeprefix(header.series_uid)
    return f"{header.number or '?'}{suffix} '{header.description or header.protocol}'"
