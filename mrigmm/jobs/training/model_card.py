"""The model card that `train` and `train-anatomy` leave in a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrigmm.config import RunConfig
from mrigmm.data.files import write_text
from mrigmm.data.provenance import provenance_record
from mrigmm.data.run_folder import RunFolder, RunRecord, read_anatomy_run, read_log
from mrigmm.errors import InputError
from mrigmm.jobs.common import DISCLAIMER
from mrigmm.methods.study_verdict import OTHER_NETWORKS
from mrigmm.mixture import PopulationPrior
from mrigmm.pretrained.folder import PretrainedFolder
from mrigmm.pretrained.learning import LearntCohort, read_learning
from mrigmm.reporting.model_card import ModelCard, render_model_card
from mrigmm.settings_yaml import dump_config
from mrigmm.training.module import HELD_OUT

_LICENCE = (
    "The software that made them is under Apache-2.0 and claims no rights in the weights. They belong to "
    "whoever trained them; the terms of the training data, and of the data behind the prior, may limit their "
    "use and whether they may be passed on. No licence is given here: state one before sharing them."
)
_LIMITS = (
    "Nothing here was validated clinically.",
    "Training sees no reference labels, so that it knows no Dice. Measure it on labelled studies of your "
    "own: `mrigmm evaluate`.",
    "Other scanners, field strengths, contrast protocols and patients than those of the training data may "
    "change the result.",
)
_LIMITS_OF_THE_WALL = (
    "It labels voxels inside a region map of the left ventricle (or one found by an anatomy run) and cannot "
    "be better than that.",
    "Without LGE scar, and without T2 edema, cannot be told reliably.",
    "Microvascular obstruction counts as scar.",
)


def write_model_card(run: RunFolder) -> None:
    """Write the model card of a finished run of `train`.

    Raises:
        InputError: the run is unfinished or damaged, or the card cannot be written.
    """
    write_text(run.model_card, model_card(run))


def model_card(run: RunFolder) -> str:
    """The model card of a finished run of `train`, as Markdown. Names no study.

    Raises:
        InputError: the run is unfinished or damaged.
    """
    config, record, prior = run.read()
    card = ModelCard(
        title=run.path.resolve().name,
        purpose="A network and a Gaussian mixture that label the tissues of cardiac MR, trained without "
        "pixel labels by `mrigmm train` (objectives: docs/method_networks.md).",
        tables={
            "Data": _data(record),
            "Population prior": _prior(prior),
            "Protocol": _protocol(config, record),
            "Numbers": _numbers(run) | _best_epoch(run, HELD_OUT if record.held_out_studies else "objective"),
            "Versions": record.versions,
        },
        limits=(*_LIMITS_OF_THE_WALL, *_LIMITS),
        licence=_LICENCE,
        settings=dump_config(config),
    )
    return render_model_card(card, disclaimer=DISCLAIMER)


def write_networks_card(folder: PretrainedFolder) -> None:
    """Write the card of pretrained networks that have learnt more; it lists every cohort and names no study.

    Raises:
        InputError: the run is unfinished or damaged, or the card cannot be written.
    """
    config, networks = folder.read()
    learning = read_learning(folder)
    card = ModelCard(
        title=folder.path.resolve().name,
        purpose="Networks that label the tissues of cardiac MR: they learnt from simulated slices first "
        "(`mrigmm pretrain`), then by `mrigmm train` from the cohorts below, in this order.",
        tables={
            "Start": {file: f"sha256 {digest}" for file, digest in learning.start.items()},
            **{f"Cohort {n}": _learnt(cohort) for n, cohort in enumerate(learning.cohorts, start=1)},
            "Networks": {
                file.file: f"{file.parameters:,} parameters, sha256 {file.sha256}" for file in networks.files
            },
            "Versions": learning.cohorts[-1].versions,
        },
        limits=(
            "Nothing here was validated clinically.",
            *_limits_of_calibration(folder.read_calibration()),
            *_LIMITS[2:],
        ),
        licence=_LICENCE,
        settings=dump_config(config),
    )
    write_text(folder.card, render_model_card(card, disclaimer=DISCLAIMER))


def _limits_of_calibration(calibration: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Sentences on the verdicts of networks that have learnt more, of what they were calibrated on."""
    if calibration is None:
        return ()
    if calibration.get("networks") != OTHER_NETWORKS:
        return (
            "The probability of an infarct and the Dice that is expected of a map are calibrated on "
            "simulated hearts of several scanners. On patients they may be off.",
        )
    return (
        "The probability of an infarct is that calibrated for the networks that it started from, and may be "
        "too high or too low. No Dice is estimated: measure it, `mrigmm evaluate`.",
    )


def _learnt(cohort: LearntCohort) -> dict[str, str]:
    """Facts of one training for the card."""

    def figures(values: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {value:.3g}" for name, value in values.items()) or "not measured"

    return {
        "name": cohort.name,
        "studies": str(len(cohort.studies)),
        "use of reference labels": f"learnt from those of {len(cohort.labelled)} studies: {cohort.labels}"
        if cohort.labelled
        else "none",
        "measured": cohort.measured,
        "before": figures(cohort.before),
        "after, not taken" if cohort.kept_start else "after": figures(cohort.after),
        "outcome": ("the networks were kept as they were: " if cohort.kept_start else "") + cohort.why,
        "settings": ", ".join(f"{name} {value}" for name, value in cohort.settings.items()),
    }


def write_anatomy_card(run: RunFolder) -> None:
    """Write the model card of a finished run of `train-anatomy`.

    Raises:
        InputError: the run is unfinished or damaged, or the card cannot be written.
    """
    config, record = read_anatomy_run(run)
    card = ModelCard(
        title=run.path.resolve().name,
        purpose="A network that finds cavity and wall of the left ventricle, trained by "
        "`mrigmm train-anatomy` from few labelled and many unlabelled studies.",
        tables={
            "Data": {
                "labelled studies": str(len(record.labelled_studies)),
                "unlabelled studies": str(len(record.unlabelled_studies)),
                "sequences": ", ".join(record.sequences),
                "labels": "cavity and wall of the labelled studies' reference labels or region maps",
            },
            "Numbers": {
                **_numbers(run),
                "quality below which a slice is flagged": f"{record.lowest_quality:.4g}",
            },
            "Versions": record.versions,
        },
        limits=_LIMITS,
        licence=_LICENCE,
        settings=dump_config(config),
    )
    write_text(run.model_card, render_model_card(card, disclaimer=DISCLAIMER))


def _data(record: RunRecord) -> dict[str, str]:
    return {
        "cohort": ", ".join(name or "not named in its manifest" for name in record.cohorts) or "not recorded",
        "split": "training",
        "studies trained on": str(len(record.training_studies)),
        "studies held out, only watched": str(len(record.held_out_studies)),
        "sequences": ", ".join(record.sequences),
        "classes": ", ".join(record.classes),
        "reference labels": "not read, but for region maps that a manifest derives from them",
    }


def _prior(prior: PopulationPrior | None) -> dict[str, str]:
    if prior is None:
        return {"source": "none: nothing but brightness tells the classes apart"}
    record = provenance_record(prior.provenance)
    return {
        "source": record["source"],
        "data set": record["dataset"] or "not recorded",
        "studies whose reference labels it was made from": str(len(record["study_ids"]) or "not recorded"),
    }


def _protocol(config: RunConfig, record: RunRecord) -> dict[str, str]:
    return {
        "preset": config.preset,
        "objective": config.objective,
        "seed": str(config.seed),
        "in-plane pixel of the network": f"{config.spacing_mm:.4g} mm"
        if config.spacing_mm
        else "not recorded",
        "mixture": f"{config.covariance} covariance, one per {config.scope}",
        "hardware": ", ".join(f"{name} {value}" for name, value in record.hardware.items()) or "not recorded",
    }


def _numbers(run: RunFolder) -> dict[str, str]:
    """Return the figures of the log; a log that is gone takes nothing else with it."""
    log = _log(run.log)
    if not log:
        return {"log": "not there any more"}
    first, last = log["objective"][0], log["objective"][-1]
    return {
        "epochs": str(len(log["objective"])),
        "objective in the first and in the last epoch": f"{first:.5g}, {last:.5g}",
        "time of all epochs": f"{sum(log['seconds']):.0f} s",
        "Dice": "not known to training",
    }


def _best_epoch(run: RunFolder, judged: str) -> dict[str, str]:
    """Return which epoch the weights are of, and why."""
    log = _log(run.log)
    if judged not in log:
        return {}
    best = min(range(len(log[judged])), key=log[judged].__getitem__)
    return {
        "weights": f"of epoch {log['epoch'][best]:.0f} (the first is 0)",
        ("held-out objective" if judged == HELD_OUT else "objective") + " there": f"{log[judged][best]:.5g}",
    }


def _log(path: Path) -> Mapping[str, Sequence[float]]:
    try:
        log = read_log(path)
        return log if {"epoch", "objective", "seconds"} <= log.keys() else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError("the run's log is damaged", file=path, got=str(error)) from None
