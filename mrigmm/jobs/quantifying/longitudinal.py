"""Change of an infarct between an acute study and later ones of the same patient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrigmm.data.visits import in_order
from mrigmm.errors import Problem

_COMPARED = ("infarct_mass_g", "infarct_percent_of_lv_mass", "lv_mass_g", "area_at_risk_mass_g")


def longitudinal_rows(
    volumes: Mapping[str, Mapping[str, Any]], visits: Mapping[str, tuple[str, str]]
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return a row per later study of a patient, beside the patient's earliest.

    Args:
        volumes: study -> numbers of its label map; None where they are not known.
        visits: study -> patient and visit.

    Returns:
        The rows, and a warning for each patient whose visits cannot be put in order.
    """
    patients: dict[str, dict[str, str]] = {}
    for study in volumes:
        if study in visits:
            patient, visit = visits[study]
            patients.setdefault(patient, {})[study] = visit
    rows: list[dict[str, Any]] = []
    problems = []
    for patient, studies in patients.items():
        order = in_order(studies)
        if order is None:
            what = f"the visits of the patient {patient} cannot be put in order, so they are not compared"
            problems.append(
                Problem(
                    what,
                    expected="numbers, times such as D8 and M12, dates, or acute and follow-up",
                    got=", ".join(f"{visit} ({study})" for study, visit in studies.items()),
                    remedy="name them so under 'visit' in the manifest",
                    severity="warning",
                )
            )
        else:
            acute, *others = order
            rows += [_row(patient, acute, later, studies, volumes) for later in others]
    return rows, problems


def _row(
    patient: str,
    acute: str,
    later: str,
    visits: Mapping[str, str],
    volumes: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """One later study beside the earliest; None where a number is missing or a share is one of nothing."""
    first, second = ({name: volumes[study].get(name) for name in _COMPARED} for study in (acute, later))
    infarct, left, at_risk = first["infarct_mass_g"], second["infarct_mass_g"], first["area_at_risk_mass_g"]
    change = None if infarct is None or left is None else left - infarct
    return {
        "patient": patient,
        "acute_study": acute,
        "acute_visit": visits[acute],
        "later_study": later,
        "later_visit": visits[later],
        **{f"acute_{name}": first[name] for name in _COMPARED},
        **{f"later_{name}": second[name] for name in _COMPARED[:3]},
        "infarct_change_g": change,
        "infarct_shrinkage_percent": -100 * change / infarct if change is not None and infarct else None,
        "salvage_by_later_infarct_percent": 100 * (at_risk - left) / at_risk
        if at_risk and left is not None
        else None,
    }
