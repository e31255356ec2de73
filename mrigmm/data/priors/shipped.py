"""The population priors that ship with the package."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import numpy as np

from mrigmm.data.priors.prior_file import SIGMAS_MM, MultiscalePrior, channel_names
from mrigmm.data.standardise import CROP_ZSCORE, REGION_ZSCORE, UNITS
from mrigmm.errors import InputError
from mrigmm.mixture import PopulationPrior


def default_prior(standardisation: str = REGION_ZSCORE) -> PopulationPrior:
    """The shipped prior for LGE, T2, bSSFP and blood, myocardium, edema, scar.

    Population figures of the 25 training studies of MyoPS 2020, in region z-score units where the
    region is the left ventricle (cavity and wall), or in crop z-score units (120 mm around it).

    Args:
        standardisation: "region-zscore" or "crop-zscore".

    Raises:
        InputError: other units, in which there are no figures.
    """
    figures = _population_figures()
    tables = {REGION_ZSCORE: "lv_z", CROP_ZSCORE: "crop_z"}
    if standardisation not in tables:
        raise InputError(
            f"the shipped prior is not stated in these units: {UNITS.get(standardisation, standardisation)}",
            expected=" or ".join(tables),
            remedy="make one with mrigmm prior --standardise percentile, and give it with --prior",
        )
    units = figures[tables[standardisation]]
    return PopulationPrior(
        classes=tuple(figures["classes"]),
        sequences=tuple(figures["sequences"]),
        means=np.array(units["mean"]),
        covariances=np.array(units["within_study_covariance"]),
        weights=np.array(figures["lv_volume_fraction"]["mean"]),
        standardisation=standardisation,
        provenance=_provenance(figures),
    )


def default_multiscale_prior() -> MultiscalePrior:
    """The shipped prior of myocardium, edema and scar at 0.75 and 3 mm; same patients and units."""
    figures = _population_figures()
    scales = figures["lv_z_wall_multiscale"]
    prior = PopulationPrior(
        classes=tuple(figures["classes"][1:]),
        sequences=channel_names(figures["sequences"], SIGMAS_MM),
        means=np.array(scales["mean"]),
        covariances=np.array(scales["within_study_covariance"]),
        weights=np.array(scales["wall_volume_fraction"]) / sum(scales["wall_volume_fraction"]),
        standardisation=REGION_ZSCORE,
        provenance=_provenance(figures),
    )
    return MultiscalePrior(SIGMAS_MM, prior)


def _population_figures() -> dict[str, Any]:
    text = (files("mrigmm.resources") / "population_statistics.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _provenance(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": figures["source"],
        "dataset": "MyoPS 2020",
        "study_ids": [f"myops_training_{n}" for n in range(101, 126)],
    }
