"""Verdict on a study's segmentation: is there an infarct, and how good is the map?

Both are regressed on simulated cohorts (`scripts/calibrate_pretrained.py`) from a few features of the
segmentation; the coefficients stand in `calibration.json` beside the networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from torch import Tensor

from mrigmm.data.geometry import largest_piece
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.labels import Region
from mrigmm.methods.base import present_sequences
from mrigmm.methods.decision import decide
from mrigmm.methods.study_views import NETWORK_SEQUENCES
from mrigmm.networks.segmenter import GIVEN_VENTRICLE, GIVEN_WALL

FEATURES = (
    "log_ml",  # log of the infarct in ml (+ 0.05)
    "share",  # infarct / wall
    "largest",  # its largest connected piece / infarct
    "certainty",  # mean probability of scar where it is called so
    "peak",  # 99th percentile of that probability in the wall
    "mean_probability",  # its mean in the wall
    "contrast",  # LGE of scar above normal wall, in SDs of normal wall
    "slices",  # share of the wall's slices that show infarct
    "spread",  # mean SD over networks and symmetries, in the region
    "certainty_of_all",  # mean probability of the class that a voxel is called
    "agreement",  # Dice of the infarct by the networks alone and by the study's own mixture alone
    # Share of the infarct within `NEAR_MM` of blood in plane, where LGE alone shows both and no wall is
    # given: there the border of the cavity looks like scar; else 0.
    "near_blood",
    # What is given, 0 or 1: with LGE alone and nothing else, healthy hearts show most false infarct.
    "wall_given",  # cavity and wall
    "ventricle_given",  # as a whole
    "lge_alone",
    "lge_alone_and_wall",
    "lge_alone_and_ventricle",
)
# What the names of a verdict's numbers begin with in tables.
VERDICT = ("infarct_probability", "infarct_set_aside", "estimated_dice")
# In a calibration that was made for the networks that a run started from.
OTHER_NETWORKS = "those of the start"
_CONNECTED = ndimage.generate_binary_structure(3, 2)
NEAR_MM = 2.0
_LEAST_ML = 0.05
_MOST_CONTRAST = 15.0


@dataclass(frozen=True)
class InfarctVerdict:
    """Whether there is an infarct.

    Attributes:
        probability: calibrated on simulated cohorts, 0 to 1.
        threshold: an infarct is reported at or above it.
        called_ml: what was called infarct before the verdict.
        calibrated: for these networks, and not only for those that they started from.
    """

    probability: float
    threshold: float
    called_ml: float
    calibrated: bool = True

    @property
    def found(self) -> bool:
        """Whether an infarct is reported."""
        return self.probability >= self.threshold

    def describe(self) -> dict[str, Any]:
        """Plain values for the side file."""
        return {
            "probability": self.probability,
            "threshold": self.threshold,
            "found": self.found,
            "set_aside_ml": 0.0 if self.found else self.called_ml,
            "calibrated": self.calibrated,
        }


def study_features(
    study: StudyTensors,
    resp: Tensor,
    by_networks: Tensor,
    by_mixture: Tensor,
    spread: Tensor,
    classes: tuple[str, ...],
    given: int,
) -> dict[str, float]:
    """Return the `FEATURES` of a segmentation; none without a class for scar or without LGE.

    Args:
        study: the study.
        resp: (K, X, Y, Z) responsibilities.
        by_networks: (K, X, Y, Z) those of the networks alone.
        by_mixture: (K, X, Y, Z) those of the study's own mixture.
        spread: (X, Y, Z) SD over networks and symmetries.
        classes: K class names.
        given: `study_views.what_is_given`.
    """
    if "scar" not in classes or "LGE" not in study.sequences:
        return {}
    channel = study.sequences.index("LGE")
    if not bool(study.present[channel]):
        return {}
    row = classes.index("scar")
    called, inside = decide(resp, classes), study.region > 0
    cavity = study.region == Region.CAVITY
    if "blood" in classes:
        cavity = cavity | (inside & (called == classes.index("blood")))
    wall = inside & ~cavity
    scar, normal = wall & (called == row), wall & (called == classes.index("myocardium"))
    n_wall, n_scar = max(int(wall.sum()), 1), int(scar.sum())
    in_wall = resp[row][wall].numpy()
    lge = study.image[channel]
    contrast = 0.0
    if n_scar and int(normal.sum()) > 1:
        contrast = float((lge[scar].mean() - lge[normal].mean()) / (lge[normal].std() + 1e-3))
    networks, mixture = (wall & (decide(p, classes) == row) for p in (by_networks, by_mixture))
    both = int(networks.sum() + mixture.sum())
    wall_given, ventricle_given = given == GIVEN_WALL, given == GIVEN_VENTRICLE
    # Of what the networks see: another contrast beside LGE tells them nothing.
    alone = {*present_sequences(study)} & {*NETWORK_SEQUENCES} == {"LGE"}
    alone_unseen = alone and not wall_given
    return {
        "log_ml": float(np.log(n_scar * study.output.grid.voxel_volume_ml + _LEAST_ML)),
        "share": n_scar / n_wall,
        "largest": largest_piece(scar.numpy(), _CONNECTED).sum() / n_scar if n_scar else 0.0,
        "certainty": float(resp[row][scar].mean()) if n_scar else 0.0,
        "peak": float(np.quantile(in_wall, 0.99)) if in_wall.size else 0.0,
        "mean_probability": float(in_wall.mean()) if in_wall.size else 0.0,
        "contrast": float(np.clip(contrast, 0, _MOST_CONTRAST)),
        "slices": _slices_of(scar) / max(_slices_of(wall), 1),
        "spread": float(spread[inside].mean()),
        "certainty_of_all": float(resp.amax(dim=0)[inside].mean()),
        "agreement": 2 * int((networks & mixture).sum()) / both if both else 1.0,
        "near_blood": _share_near(scar.numpy(), cavity.numpy(), study.spacing_mm) if alone_unseen else 0.0,
        "wall_given": float(wall_given),
        "ventricle_given": float(ventricle_given),
        "lge_alone": float(alone),
        "lge_alone_and_wall": float(alone and wall_given),
        "lge_alone_and_ventricle": float(alone and ventricle_given),
    }


def _share_near(
    mask: np.ndarray[Any, np.dtype[np.bool_]],
    blood: np.ndarray[Any, np.dtype[np.bool_]],
    spacing_mm: Sequence[float],
) -> float:
    """Share of a mask (X, Y, Z) that lies within `NEAR_MM` of blood in its slice; 0 of an empty mask."""
    near = 0
    for z in np.flatnonzero(mask.any(axis=(0, 1)) & blood.any(axis=(0, 1))):
        away = ndimage.distance_transform_edt(~blood[..., z], sampling=spacing_mm[:2])
        near += int((away[mask[..., z]] < NEAR_MM).sum())
    return near / max(int(mask.sum()), 1)


def _slices_of(mask: Tensor) -> int:
    """Number of slices that show anything of a mask."""
    return int(mask.flatten(0, 1).any(dim=0).sum())


def judge_infarct(
    features: Mapping[str, float], calibration: Mapping[str, Any] | None, *, called_ml: float
) -> InfarctVerdict | None:
    """Judge whether there is an infarct; None where that cannot be told: no LGE, or not calibrated.

    Args:
        features: `FEATURES` of the segmentation.
        calibration: of the networks.
        called_ml: what the label map calls infarct.
    """
    if not features or calibration is None:
        return None
    model = calibration["infarct"]
    probability = float(1 / (1 + np.exp(-linear_score(features, model))))
    calibrated = calibration.get("networks") != OTHER_NETWORKS
    return InfarctVerdict(probability, float(model["threshold"]), called_ml, calibrated)


def expected_dice(features: Mapping[str, float], calibration: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the Dice, 0 to 1, that such features had on simulated cohorts, by structure."""
    if not features or calibration is None:
        return {}
    return {
        name: float(np.clip(linear_score(features, model), 0, 1))
        for name, model in calibration["expected_dice"].items()
    }


def of_other_networks(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Calibration for networks that have learnt more: whether there is an infarct, but no expected Dice.

    The verdict is kept, for without it healthy hearts would have infarcts, and says what it is not.
    """
    return {**calibration, "networks": OTHER_NETWORKS, "expected_dice": {}}


def verdict_numbers(details: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers for tables of what a `Segmentation`'s details say of infarct and map."""
    numbers = {}
    if "infarct" in details:
        probability, aside, _ = VERDICT
        numbers[probability] = float(details["infarct"]["probability"])
        numbers[f"{aside}_ml"] = float(details["infarct"]["set_aside_ml"])
    for name, dice in details.get("expected_dice", {}).items():
        numbers[f"{VERDICT[2]}_{name}"] = float(dice)
    return numbers


def linear_score(features: Mapping[str, float], model: Mapping[str, Any]) -> float:
    """Return `intercept + sum_f weight_f (feature_f - mean_f) / sd_f`."""
    return float(standardised(features, model) @ np.array(model["weights"]) + model["intercept"])


def standardised(
    features: Mapping[str, float], model: Mapping[str, Any]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the features (F,) of a model in its own units."""
    x = np.array([features[name] for name in model["features"]])
    return (x - np.array(model["mean"])) / np.array(model["sd"])


def set_aside(resp: Tensor, classes: tuple[str, ...]) -> Tensor:
    """Return responsibilities (K, X, Y, Z) with those of scar given to normal myocardium."""
    resp = resp.clone()
    resp[classes.index("myocardium")] += resp[classes.index("scar")]
    resp[classes.index("scar")] = 0
    return resp
