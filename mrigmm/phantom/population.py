"""The population figures that the phantom draws from (shipped with the package)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

# Class index in every table: blood, myocardium, edema, scar (the order of the file).
CLASSES = ("blood", "myocardium", "edema", "scar")
PIXEL_MM = 0.75  # of the tabulated autocorrelation


@dataclass(frozen=True)
class Population:
    """Figures in LV z-score units: per study and sequence, z-score over the voxels of the LV mask.

    Attributes:
        mean: (K, C) class means.
        between_sd: (K, C) their SD over studies.
        between_correlation: (K * C, K * C), class-major.
        within_covariance: (K, C, C) of the voxels of a class in a study.
        scar_share, edema_share: 5, 25, 50, 75 and 95 % quantiles over studies of the share of the wall.
    """

    mean: FloatArray
    between_sd: FloatArray
    between_correlation: FloatArray
    within_covariance: FloatArray
    scar_share: FloatArray
    edema_share: FloatArray


@cache
def statistics() -> dict[str, Any]:
    """Return the whole file `population_statistics.json`."""
    text = (files("mrigmm") / "resources" / "population_statistics.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


@cache
def population() -> Population:
    """Return the part of the file that studies are drawn from."""
    figures = statistics()
    lv_z, share = figures["lv_z"], figures["wall_share_per_study"]
    return Population(
        mean=np.array(lv_z["mean"]),
        between_sd=np.array(lv_z["between_study_sd"]),
        between_correlation=np.array(lv_z["between_study_correlation"]["matrix"]),
        within_covariance=np.array(lv_z["within_study_covariance"]),
        scar_share=np.array(share["scar_p5_p25_p50_p75_p95"]),
        edema_share=np.array(share["edema_p5_p25_p50_p75_p95"]),
    )
