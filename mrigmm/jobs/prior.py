"""`mrigmm prior`: a population prior from labelled training studies."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrigmm.data.crops import standardised_by_percentiles
from mrigmm.data.files import require_new_file, require_not_input
from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.priors.prior_file import (
    SIGMAS_MM,
    MultiscalePrior,
    channel_names,
    require_plausible,
    save_prior,
)
from mrigmm.data.standardise import REGION_ZSCORE, STANDARDISATIONS
from mrigmm.data.study import load_study
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.jobs.common import Outcome, Track, no_progress
from mrigmm.jobs.processes import joined_processes
from mrigmm.labels import of_the_ventricle, wall_classes
from mrigmm.methods.map_em_2step import wall_features
from mrigmm.mixture import PopulationPrior, PopulationSums

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

    Several processes that torchrun started share the studies; every one has to make the call.

    Examples:
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

    Returns:
        The file, and the studies that it was estimated from.

    Raises:
        InputError: when no study can be used, or `out` is already there.
    """
    if standardise not in PRIOR_UNITS:
        raise InputError(f"unknown units '{standardise}'", remedy=near_misses(standardise, PRIOR_UNITS))
    require_not_input(Path(out), inputs=[Path(manifest)])
    require_new_file(Path(out), overwrite=overwrite)
    cohort = read_manifest(manifest, data_root)
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
    sums = PopulationSums(cohort.classes, cohort.sequences)
    wall_sums = PopulationSums(in_wall, channel_names(cohort.sequences, SIGMAS_MM))
    used: list[tuple[int, str]] = []
    told: list[tuple[int, tuple[Problem, ...]]] = []
    with joined_processes() as processes:
        show = track if processes.first else no_progress
        for position, study in show(processes.summands(cohort.split(split)), "Reading"):
            try:
                tensors, label = _labelled(study, cohort)
            except InputError as error:
                told.append((position, error.problems))
                continue
            in_units = tensors if in_zscores else standardised_by_percentiles(tensors)
            known = label >= 0
            x = in_units.image[:, known].T.double().numpy()  # (N, C)
            # A missing sequence says nothing about its classes.
            sums.add(position, np.where(in_units.present.numpy(), x, np.nan), label[known].numpy())
            if at_scales:
                wall_sums.add(position, *_wall_sample(tensors, label, cohort.classes))
            used.append((position, study.id))
        sums.collect(processes.add_up)
        wall_sums.collect(processes.add_up)
        # In the cohort's order, as of one process.
        done = tuple(study_id for _, study_id in sorted(processes.gather(used)))
        problems = tuple(p for _, found in sorted(processes.gather(told), key=itemgetter(0)) for p in found)
    if not processes.first:
        return Outcome(Path(out), done, speaks=False)
    if not done:
        raise InputError.from_problems(problems)
    provenance = {
        "source": f"mrigmm prior, split {split} of {cohort.path.name}",
        "dataset": cohort.name,
        "study_ids": list(done),
    }
    multiscale = None
    try:
        population = _estimate(sums, provenance, STANDARDISATIONS[standardise])
        if at_scales:
            multiscale = MultiscalePrior(SIGMAS_MM, _estimate(wall_sums, provenance))
    except ValueError as error:
        raise InputError(
            "no prior can be estimated from these studies", file=cohort.path, got=str(error)
        ) from None
    save_prior(population, Path(out), multiscale)
    return Outcome(Path(out), done, problems)


def _estimate(
    sums: PopulationSums, provenance: dict[str, Any], units: str = REGION_ZSCORE
) -> PopulationPrior:
    """The prior of these studies; ValueError when there is none that could be read again."""
    prior = sums.prior(standardisation=units, provenance=provenance)
    require_plausible(prior)
    return prior


def _labelled(study: Study, cohort: Manifest) -> tuple[StudyTensors, Tensor]:
    """A study and its class indices (X, Y, Z) inside the region, -1 elsewhere.

    Raises:
        InputError: it cannot be read, or has no labelled voxel there.
    """
    tensors = load_study(study, cohort.sequences, cohort.classes, labels=cohort.labels, with_label=True)
    assert tensors.label is not None
    label = torch.where(tensors.region > 0, tensors.label, -1)
    if not (label >= 0).any():
        raise InputError(
            "the region holds no labelled voxel",
            study=study.id,
            file=study.label,
            expected="classes of the mixture inside the region",
            got="none",
            remedy="label the study, or move it out of this split",
        )
    return tensors, label


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
