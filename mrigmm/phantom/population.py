"""The population figures that the phantom draws from (shipped with the package)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.phantom import second_centre, tables
from mrigmm.phantom.config import Centre

FloatArray = NDArray[np.floating[Any]]

# Class index in every table: blood, myocardium, edema, scar (the order of the file).
CLASSES = ("blood", "myocardium", "edema", "scar")
LGE = 0  # index of the sequence
PIXEL_MM = 0.75  # of the tabulated autocorrelation

# No-reflow cores in LV z-score units relative to normal myocardium: dark in LGE, and dark in T2 where
# iron from intramural blood shortens it.
_MVO_CONTRAST = (-0.1, -0.2, -0.2)
MVO_PART = 0.25  # of the infarct
_LV_Z = ("mean", "between_study_sd", "within_study_sd")


@dataclass(frozen=True)
class Population:
    """Figures in LV z-score units: per study and sequence, z-score over the voxels of the LV mask.

    Attributes:
        mean: (K, C) class means.
        between_sd: (K, C) their SD over studies.
        between_correlation: (K * C, K * C), class-major.
        within_covariance: (K, C, C) of the voxels of a class in a study.
        scar_share, edema_share: 5, 25, 50, 75 and 95 % quantiles over studies of the share of the wall.
        mvo_contrast: (C,) mean of a no-reflow core minus that of normal wall.
        mvo_part: its share of the infarct.
    """

    mean: FloatArray
    between_sd: FloatArray
    between_correlation: FloatArray
    within_covariance: FloatArray
    scar_share: FloatArray
    edema_share: FloatArray
    mvo_contrast: FloatArray
    mvo_part: float

    @cached_property
    def _root(self) -> FloatArray:
        values, vectors = np.linalg.eigh(self.between_correlation)
        # Rounded correlations of 25 studies: tiny negative eigenvalues.
        root: FloatArray = vectors * np.sqrt(np.clip(values, 0, None))
        return root

    def draw_deviation(self, rng: np.random.Generator) -> FloatArray:
        """Draw how far a study's class means lie from the population's, (K, C) in SD, at most 2.5."""
        drawn = self._root @ rng.standard_normal(self.mean.size)
        return np.clip(drawn, -2.5, 2.5).reshape(self.mean.shape)


@dataclass(frozen=True)
class Corrections:
    """Corrections of tabulated figures into those to draw with (see `tables`).

    Attributes:
        mean_shift: (K, C). width_factor: (K, C). field_shares: (K, C, S).
    """

    mean_shift: FloatArray
    width_factor: FloatArray
    field_shares: FloatArray


@cache
def statistics(file: str = "population_statistics.json") -> dict[str, Any]:
    """Return the whole of a file of population figures."""
    text = (files("mrigmm") / "resources" / file).read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


@cache
def population(centre: Centre = "first") -> Population:
    """Return the part of a centre's figures that studies are drawn from."""
    return _first_centre() if centre == "first" else _second_centre(_first_centre())


def corrections(centre: Centre) -> Corrections:
    """Return the tables that belong to a centre's figures."""
    found = Corrections(
        np.array(tables.MEAN_SHIFT), np.array(tables.WIDTH_FACTOR), np.array(tables.FIELD_SHARES)
    )
    if centre == "second":
        found.mean_shift[:, LGE] = second_centre.LGE_MEAN_SHIFT
        found.width_factor[:, LGE] = second_centre.LGE_WIDTH_FACTOR
        found.field_shares[:, LGE] = second_centre.LGE_FIELD_SHARES
    return found


def _first_centre() -> Population:
    figures = statistics()
    lv_z, share = figures["lv_z"], figures["wall_share_per_study"]
    return Population(
        mean=np.array(lv_z["mean"]),
        between_sd=np.array(lv_z["between_study_sd"]),
        between_correlation=np.array(lv_z["between_study_correlation"]["matrix"]),
        within_covariance=np.array(lv_z["within_study_covariance"]),
        scar_share=np.array(share["scar_p5_p25_p50_p75_p95"]),
        edema_share=np.array(share["edema_p5_p25_p50_p75_p95"]),
        mvo_contrast=np.array(_MVO_CONTRAST),
        mvo_part=MVO_PART,
    )


def _second_centre(first: Population) -> Population:
    """Return the first centre's figures with LGE of the second.

    Its file knows no edema: that looks like normal wall, and none is drawn.
    """
    figures = statistics("population_lge_second_centre.json")
    rows = [figures["classes"].index("myocardium" if name == "edema" else name) for name in CLASSES]
    mvo = figures["classes"].index("mvo")
    lv_z = {name: np.array(figures["lv_z"][name]) for name in _LV_Z}
    mean, between_sd = first.mean.copy(), first.between_sd.copy()
    mean[:, LGE], between_sd[:, LGE] = lv_z["mean"][rows], lv_z["between_study_sd"][rows]
    width = np.sqrt(np.diagonal(first.within_covariance, axis1=1, axis2=2))  # (K, C)
    factor = np.ones_like(width)
    factor[:, LGE] = lv_z["within_study_sd"][rows] / width[:, LGE]
    contrast = first.mvo_contrast.copy()
    contrast[LGE] = lv_z["mean"][mvo] - mean[CLASSES.index("myocardium"), LGE]
    infarct = np.array(figures["infarct_share_of_wall_p5_p25_p50_p75_p95"])
    median_core = figures["mvo_share_of_wall_where_present_p25_p50_p75"][1]
    return replace(
        first,
        mean=mean,
        between_sd=between_sd,
        within_covariance=first.within_covariance * factor[:, :, None] * factor[:, None, :],
        scar_share=infarct,
        edema_share=np.zeros_like(infarct),
        mvo_contrast=contrast,
        mvo_part=median_core / infarct[3],  # cores lie in the larger infarcts: 75 % quantile
    )
