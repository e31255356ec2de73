"""Whether a study has an infarct: a calibrated probability from what its segmentation looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.labels import Region

FEATURES = (
    "log_volume",  # log of infarct in ml (+ 0.05)
    "share",  # infarct / wall
    "largest_share",  # largest connected piece / infarct
    "certainty",  # mean probability of scar where it is called so
    "peak",  # 99th percentile of the probability of scar in the wall
    "mass_of_probability",  # mean probability of scar in the wall
    "contrast",  # LGE of scar above normal wall, in SDs of normal wall
    "slices",  # share of the wall's slices that show infarct
    "spread",  # mean SD over the views where scar is called
)


@dataclass(frozen=True)
class InfarctVerdict:
    """Whether there is an infarct.

    Attributes:
        probability: calibrated on simulated cohorts, 0 to 1.
        threshold: an infarct is reported at or above it.
        features: what the probability was computed from.
        set_aside_ml: what was called infarct and is not reported, where none was found.
    """

    probability: float
    threshold: float
    features: Mapping[str, float]
    set_aside_ml: float

    @property
    def found(self) -> bool:
        """Whether an infarct is reported."""
        return self.probability >= self.threshold

    def describe(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "probability": self.probability,
            "threshold": self.threshold,
            "found": self.found,
            "set_aside_ml": 0.0 if self.found else self.set_aside_ml,
        }


def infarct_features(
    study: StudyTensors, resp: Tensor, spread: Tensor, classes: tuple[str, ...]
) -> dict[str, float]:
    """Return the `FEATURES` of a segmentation.

    Args:
        study: the study.
        resp: (K, X, Y, Z) responsibilities.
        spread: (X, Y, Z) SD over the networks' views.
        classes: K class names with scar and myocardium.
    """
    scar_row, normal_row = classes.index("scar"), classes.index("myocardium")
    called = resp.argmax(dim=0)
    inside = study.region > 0
    cavity = (study.region == Region.CAVITY) | (
        (called == classes.index("blood")) if "blood" in classes else torch.zeros_like(inside)
    )
    wall = inside & ~cavity
    scar, normal = wall & (called == scar_row), wall & (called == normal_row)
    p = resp[scar_row]
    n_wall, n_scar = max(int(wall.sum()), 1), int(scar.sum())
    voxel_ml = study.output.grid.voxel_volume_ml
    parts, n = ndimage.label(scar.numpy(), ndimage.generate_binary_structure(3, 2))
    largest = np.bincount(parts.ravel())[1:].max() if n else 0
    contrast = 0.0
    if "LGE" in study.sequences and n_scar and int(normal.sum()) > 1:
        lge = study.image.as_tensor()[study.sequences.index("LGE")]
        contrast = float((lge[scar].mean() - lge[normal].mean()) / (lge[normal].std() + 1e-3))
    wall_slices = wall.any(dim=0).any(dim=0)
    scar_slices = scar.any(dim=0).any(dim=0)
    in_wall = p[wall]
    return {
        "log_volume": float(np.log(n_scar * voxel_ml + 0.05)),
        "share": n_scar / n_wall,
        "largest_share": largest / n_scar if n_scar else 0.0,
        "certainty": float(p[scar].mean()) if n_scar else 0.0,
        "peak": float(np.quantile(in_wall.numpy(), 0.99)) if in_wall.numel() else 0.0,
        "mass_of_probability": float(in_wall.mean()) if in_wall.numel() else 0.0,
        "contrast": float(np.clip(contrast, 0, 15)),
        "slices": float(scar_slices.sum()) / max(int(wall_slices.sum()), 1),
        "spread": float(spread[scar].mean()) if n_scar else 0.0,
    }


def judge_infarct(
    study: StudyTensors,
    resp: Tensor,
    spread: Tensor,
    classes: tuple[str, ...],
    calibration: Mapping[str, Any] | None,
) -> InfarctVerdict | None:
    """Judge whether there is an infarct; None where nobody can: no LGE, no class for it, no calibration."""
    seen = "LGE" in study.sequences and bool(study.present[study.sequences.index("LGE")])
    if calibration is None or "scar" not in classes or not seen:
        return None
    model = calibration["infarct"]
    features = infarct_features(study, resp, spread, classes)
    x = np.array([features[name] for name in model["features"]])
    z = (x - np.array(model["mean"])) / np.array(model["sd"])
    log_odds = float(z @ np.array(model["weights"]) + model["intercept"])
    probability = float(1 / (1 + np.exp(-log_odds)))
    called = (resp.argmax(dim=0) == classes.index("scar")) & (study.region > 0)
    return InfarctVerdict(
        probability,
        float(model["threshold"]),
        features,
        float(called.sum()) * study.output.grid.voxel_volume_ml,
    )


def set_aside(resp: Tensor, classes: tuple[str, ...]) -> Tensor:
    """Responsibilities with those of scar given to normal myocardium."""
    resp = resp.clone()
    resp[classes.index("myocardium")] += resp[classes.index("scar")]
    resp[classes.index("scar")] = 0
    return resp
