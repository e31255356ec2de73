"""`mrigmm prior`: a population prior from labelled training studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrigmm.data.crops import standardised_by_percentiles
from mrigmm.data.files import require_new_file, require_not_input
from mrigmm.data.manifest import read_manifest
from mrigmm.data.priors import SIGMAS_MM, MultiscalePrior, channel_names, require_plausible, save_prior
from mrigmm.data.standardise import REGION_ZSCORE, STANDARDISATIONS
from mrigmm.data.study import StudyTensors, load_study
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.jobs.common import Outcome, Track, no_progress
from mrigmm.labels import of_the_ventricle, wall_classes
from mrigmm.methods.map_em_2step import wall_features
from mrigmm.mixture import PopulationPrior, estimate_population_prior

# The published crop z-scores belong to a network's slices: their figures are shipped, and not estimated here.
PRIOR_UNITS = ("region", "percentile")

# Intensities (N, C) and class indices (N,) of a study.
Sample = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def prior(
    manifest: Path | str,
    out: Path | str,
    *,
    split: str = "training",
    standardise: str = "region",
    data_root: Path | str | None = None,
    overwrite: bool = False,
    track: Track = no_progress,
) -> Outcome:
    """Estimate class means, covariances and fractions over labelled studies and write them as JSON.

    The same is estimated for the wall's classes on intensities smoothed inside the reference wall, where
    the classes are those of a left ventricle with at least two in its wall.

    Example:
        >>> mrigmm.prior("cohort/manifest.json", "prior.json")  # doctest: +SKIP

    Args:
        manifest: the cohort, with `labels` and a `label` per study.
        out: JSON file to write.
        split: the studies to use.
        standardise: units of the figures: "region" (z-scores inside the region, which every method takes)
            or "percentile" (for `mrigmm train --set standardise=percentile`; without the smoothed part).
        data_root: folder that the manifest's paths resolve against; default the manifest's.
        overwrite: allow to replace `out`.
        track: progress bar.

    Raises:
        InputError: when no study can be used, or `out` is already there.
    """
    if standardise not in PRIOR_UNITS:
        raise InputError(f"unknown units '{standardise}'", remedy=near_misses(standardise, PRIOR_UNITS))
    require_not_input(Path(out), inputs=[Path(manifest)])
    require_new_file(Path(out), overwrite=overwrite)
    cohort = read_manifest(Path(manifest), None if data_root is None else Path(data_root))
    if len(cohort.classes) < 2:
        raise InputError(
            "a prior needs at least two labelled classes",
            file=cohort.path,
            expected='class names and ids under "labels"',
            got=", ".join(cohort.classes) or "none",
        )
    in_wall = wall_classes(cohort.classes)
    in_zscores = standardise == "region"
    at_scales = in_zscores and of_the_ventricle(cohort.classes) and len(in_wall) > 1
    samples: list[Sample] = []
    wall_samples: list[Sample] = []
    used: list[str] = []
    problems: list[Problem] = []
    for study in track(cohort.split(split), "Reading"):
        try:
            tensors = load_study(
                study, cohort.sequences, cohort.classes, labels=cohort.labels, with_label=True
            )
        except InputError as error:
            problems += list(error.problems)
            continue
        label = _known_label(tensors)
        if not (label >= 0).any():
            problems.append(
                Problem(
                    "the region holds no labelled voxel",
                    study.id,
                    str(study.label),
                    expected="classes of the mixture inside the region",
                    got="none",
                    remedy="label the study, or move it out of this split",
                )
            )
            continue
        in_units = tensors if in_zscores else standardised_by_percentiles(tensors)
        samples.append(_sample(in_units, label))
        if at_scales:
            wall_samples.append(_wall_sample(tensors, label, cohort.classes))
        used.append(study.id)
    if not samples:
        raise InputError.from_problems(problems)
    provenance = {
        "source": f"mrigmm prior, split {split} of {cohort.path.name}",
        "dataset": cohort.name,
        "study_ids": used,
    }
    multiscale = None
    try:
        units = STANDARDISATIONS[standardise]
        population = _estimate(samples, cohort.classes, cohort.sequences, provenance, units)
        if at_scales:
            channels = channel_names(cohort.sequences, SIGMAS_MM)
            multiscale = MultiscalePrior(SIGMAS_MM, _estimate(wall_samples, in_wall, channels, provenance))
    except ValueError as error:
        raise InputError(
            "no prior can be estimated from these studies", file=cohort.path, got=str(error)
        ) from None
    save_prior(population, Path(out), multiscale)
    return Outcome(Path(out), tuple(used), tuple(problems))


def _estimate(
    samples: Sequence[Sample],
    classes: Sequence[str],
    sequences: Sequence[str],
    provenance: dict[str, Any],
    units: str = REGION_ZSCORE,
) -> PopulationPrior:
    """The prior of these samples; ValueError when there is none that could be read again."""
    prior = estimate_population_prior(
        samples,
        classes=classes,
        sequences=sequences,
        standardisation=units,
        provenance=provenance,
    )
    require_plausible(prior)
    return prior


def _known_label(study: StudyTensors) -> Tensor:
    """Class indices (X, Y, Z) inside the region, -1 elsewhere."""
    assert study.label is not None
    return torch.where(study.region > 0, study.label, -1)


def _sample(study: StudyTensors, label: Tensor) -> Sample:
    """The voxels that have a class; a missing sequence is NaN, for it says nothing about its classes."""
    known = label >= 0
    x = study.image.as_tensor()[:, known].T.double().numpy()  # (N, C)
    return np.where(study.present.numpy(), x, np.nan), label[known].numpy()


def _wall_sample(study: StudyTensors, label: Tensor, classes: tuple[str, ...]) -> Sample:
    """Voxels of the reference wall, smoothed inside it (N, scales * C), and indices of its classes."""
    rows = [classes.index(name) for name in wall_classes(classes)]
    wall = torch.isin(label, torch.tensor(rows))
    # A voxel that some sequence does not show has no smoothed value there.
    shown = study.observed[study.present].all(dim=0)[wall].numpy()
    smooth = wall_features(study, wall, SIGMAS_MM).double().numpy()
    present = study.present.repeat(len(SIGMAS_MM)).numpy()
    x = np.full((len(smooth), len(present)), np.nan)
    x[:, present] = smooth
    return x[shown], np.searchsorted(rows, label[wall].numpy())[shown]
