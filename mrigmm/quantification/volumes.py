"""Volumes and masses of the left ventricle, from labels or probabilities of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.labels import MYOCARDIUM_G_PER_ML, of_the_ventricle, wall_classes

# A volume in ml, or draws of it (S,).
Amount = float | NDArray[np.float64]

_TISSUES: Mapping[str, tuple[str, ...]] = {
    "cavity": ("blood",),
    "infarct": ("scar",),
    "edema": ("edema",),
    "area_at_risk": ("edema", "scar"),
}


def tissues(classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the quantities of a map of these classes, and the classes that each consists of.

    A tissue that needs a class which is not there is left out. The area at risk is edema and infarct
    together: the class edema excludes the infarct, and the class scar includes microvascular obstruction.
    Classes of other organs are measured one by one.
    """
    if not of_the_ventricle(classes):
        return {name: (name,) for name in classes}
    found = {name: members for name, members in _TISSUES.items() if set(members) <= set(classes)}
    return found | ({"wall": wall_classes(classes)} if "myocardium" in classes else {})


def volumes_ml(labels: NDArray[np.integer[Any]], ids: Mapping[str, int], voxel_ml: float) -> dict[str, float]:
    """Volume of each tissue in a label map (X, Y, Z), every voxel counted whole."""
    count = {name: int((labels == i).sum()) for name, i in ids.items()}
    return {
        tissue: sum(count[name] for name in members) * voxel_ml
        for tissue, members in tissues(list(ids)).items()
    }


def probabilities(resp: NDArray[np.floating[Any]], classes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Probability (...) of each tissue, from those of the K classes (K, ...)."""
    rows = {name: np.asarray(resp[index], dtype=np.float64) for index, name in enumerate(classes)}
    return {
        tissue: sum((rows[name] for name in members[1:]), start=rows[members[0]])
        for tissue, members in tissues(classes).items()
    }


def clinical_numbers(ml: Mapping[str, Amount], *, ventricle: bool) -> dict[str, Amount]:
    """Return numbers of a study from the volumes of its tissues, the unit at the end of each name.

    Args:
        ml: tissue (`tissues`, and "mvo", which is part of the infarct) -> volume or draws of it. What
            needs a tissue that is missing is NaN.
        ventricle: whether these are tissues of the left ventricle; of others volumes are all there is.

    Returns:
        The same names for every study of a ventricle; NaN also where a share has nothing to be of.
    """
    if not ventricle:
        return {f"{name}_ml": volume for name, volume in ml.items()}
    missing: Amount = next(iter(ml.values()), np.nan) * np.nan  # of the shape of the others
    mass = {
        name: MYOCARDIUM_G_PER_ML * ml.get(name, missing)
        for name in ("wall", "infarct", "mvo", "edema", "area_at_risk")
    }
    return {
        "lv_cavity_ml": ml.get("cavity", missing),
        "lv_mass_g": mass["wall"],
        "infarct_mass_g": mass["infarct"],
        "infarct_percent_of_lv_mass": _percent(mass["infarct"], mass["wall"]),
        "mvo_mass_g": mass["mvo"],
        "mvo_percent_of_lv_mass": _percent(mass["mvo"], mass["wall"]),
        "edema_mass_g": mass["edema"],
        "edema_percent_of_lv_mass": _percent(mass["edema"], mass["wall"]),
        "area_at_risk_mass_g": mass["area_at_risk"],
        "salvage_percent_of_area_at_risk": _percent(
            mass["area_at_risk"] - mass["infarct"], mass["area_at_risk"]
        ),
    }


def _percent(part: Amount, whole: Amount) -> Amount:
    """100 part / whole, NaN where the whole is 0."""
    share = 100 * np.divide(part, np.where(np.asarray(whole) > 0, whole, np.nan))
    return float(share) if np.ndim(share) == 0 else np.asarray(share)
