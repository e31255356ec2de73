"""The report's pages on all studies together: agreement with the reference, and the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mrigmm.data.run_folder import RunFolder, read_log
from mrigmm.data.side_file import SideFile
from mrigmm.errors import InputError
from mrigmm.evaluation.volume_agreement import measured_agreement
from mrigmm.jobs.reading.evaluated import StudyOverlap
from mrigmm.labels import MYOCARDIUM_G_PER_ML, TISSUES, nested_regions
from mrigmm.reporting.bland_altman import VolumePairs
from mrigmm.reporting.figures import loss_figure
from mrigmm.reporting.pictures import Picture, saved_diagram

# Limits of agreement of fewer studies say little.
AGREEMENT_STUDIES = 10

Overlaps = Mapping[str, StudyOverlap]


def number_pairs(studies: Mapping[str, Overlaps]) -> dict[str, VolumePairs]:
    """Return predicted and reference numbers that enough studies have: masses in g, infarct in %.

    Args:
        studies: study -> class or nested region -> overlap. Classes of other organs are compared in ml.
    """
    names = dict.fromkeys(name for regions in studies.values() for name in regions)
    ours = {*TISSUES, *nested_regions([*TISSUES])}
    measures: dict[str, Callable[[Overlaps], tuple[float, float] | None]] = {}
    if set(names) <= ours:
        for title, name in {"infarct (g)": "scar", "edema (g)": "edema", "LV mass (g)": "wall"}.items():
            measures[title] = _volume(name, MYOCARDIUM_G_PER_ML)
        measures["infarct (% of LV mass)"] = _infarct_percent
    else:
        measures |= {f"{name} (ml)": _volume(name, 1.0) for name in names}
    pairs: dict[str, VolumePairs] = {}
    for title, measure in measures.items():
        rows = [pair for pair in map(measure, studies.values()) if pair is not None]
        if len(rows) < AGREEMENT_STUDIES:
            continue
        predicted, reference = zip(*rows, strict=True)
        agree = measured_agreement(predicted, reference)
        limits = (agree.lower_limit.value, agree.upper_limit.value)
        pairs[title] = VolumePairs(predicted, reference, agree.bias.value, limits)
    return pairs


def _volume(name: str, factor: float) -> Callable[[Overlaps], tuple[float, float] | None]:
    def measure(regions: Overlaps) -> tuple[float, float] | None:
        found = regions.get(name)
        return None if found is None else (factor * found.predicted_ml, factor * found.reference_ml)

    return measure


def _infarct_percent(regions: Overlaps) -> tuple[float, float] | None:
    scar, wall = regions.get("scar"), regions.get("wall")
    if scar is None or wall is None or not wall.predicted_ml or not wall.reference_ml:
        return None
    return 100 * scar.predicted_ml / wall.predicted_ml, 100 * scar.reference_ml / wall.reference_ml


def loss_picture(sides: Sequence[SideFile]) -> Picture | None:
    """Return the training of the run that made the predictions, where there is one such run and its log."""
    runs = {side.run for side in sides}
    run = runs.pop() if len(runs) == 1 else None
    if run is None or not RunFolder(run).log.is_file():
        return None
    try:
        png = loss_figure(read_log(RunFolder(run).log))
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            "the log of the run is damaged",
            file=RunFolder(run).log,
            got=f"{type(error).__name__}: {error}",
            remedy="copy the run folder again, or move it away to report without it",
        ) from None
    return saved_diagram(png, title=f"Run {run.name}", alt="Objective and learning rate per epoch")
