"""`mrigmm prior`: a population prior from labelled training studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrigmm.data.files import require_new_file, require_not_input
from mrigmm.data.manifest import read_manifest
from mrigmm.data.priors import save_prior
from mrigmm.data.standardise import REGION_ZSCORE
from mrigmm.data.study import load_study
from mrigmm.errors import InputError, Problem
from mrigmm.jobs.common import Outcome, Track, no_progress
from mrigmm.mixture import estimate_population_prior


def prior(
    manifest: Path | str,
    out: Path | str,
    *,
    split: str = "training",
    data_root: Path | str | None = None,
    overwrite: bool = False,
    track: Track = no_progress,
) -> Outcome:
    """Estimate class means, covariances and fractions over labelled studies and write them as JSON.

    Example:
        >>> mrigmm.prior("cohort/manifest.json", "prior.json")  # doctest: +SKIP

    Args:
        manifest: the cohort, with `labels` and a `label` per study.
        out: JSON file to write.
        split: the studies to use.
        data_root: folder that the manifest's paths resolve against; default the manifest's.
        overwrite: allow to replace `out`.
        track: progress bar.

    Raises:
        InputError: when no study can be used, or `out` is already there.
    """
    require_not_input(Path(out), [Path(manifest)])
    require_new_file(Path(out), overwrite=overwrite)
    cohort = read_manifest(Path(manifest), None if data_root is None else Path(data_root))
    if len(cohort.classes) < 2:
        raise InputError(
            "a prior needs at least two labelled classes",
            file=cohort.path,
            expected='class names and ids under "labels"',
            got=", ".join(cohort.classes) or "none",
        )
    samples, used, problems = [], [], []
    for study in track(cohort.split(split), "Reading"):
        try:
            tensors = load_study(
                study, cohort.sequences, cohort.classes, labels=cohort.labels, with_label=True
            )
        except InputError as error:
            problems += list(error.problems)
            continue
        assert tensors.label is not None
        label = tensors.label[tensors.region > 0]  # (N,)
        known = label >= 0
        if not known.any():
            problems.append(Problem("the region holds no labelled voxel", study.id))
            continue
        # A missing sequence is NaN here: it says nothing about its classes.
        x = np.where(tensors.present.numpy(), tensors.voxels.double().numpy(), np.nan)  # (N, C)
        samples.append((x[known.numpy()], label[known].numpy()))
        used.append(study.id)
    if not samples:
        raise InputError.from_problems(problems)
    try:
        population = estimate_population_prior(
            samples,
            classes=cohort.classes,
            sequences=cohort.sequences,
            standardisation=REGION_ZSCORE,
            provenance={
                "source": f"mrigmm prior, split {split} of {cohort.path.name}",
                "dataset": cohort.name,
                "study_ids": used,
            },
        )
    except ValueError as error:
        raise InputError(
            "no prior can be estimated from these studies", file=cohort.path, got=str(error)
        ) from None
    save_prior(population, Path(out))
    return Outcome(Path(out), tuple(used), tuple(problems))
