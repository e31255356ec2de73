"""Data dictionary of the tables of `quantify`: unit, definition, method; and REDCap's form of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from mrigmm.labels import in_words

REDCAP_FORM = "mrigmm_quantities"
# The columns of a REDCap data dictionary, as its upload wants them.
_REDCAP_COLUMNS = (
    "Variable / Field Name",
    "Form Name",
    "Section Header",
    "Field Type",
    "Field Label",
    "Choices, Calculations, OR Slider Labels",
    "Field Note",
    "Text Validation Type OR Show Slider Number",
    "Text Validation Min",
    "Text Validation Max",
    "Identifier?",
    "Branching Logic (Show field only if...)",
    "Required Field?",
    "Custom Alignment",
    "Question Number (surveys only)",
    "Matrix Group Name",
    "Matrix Ranking?",
    "Field Annotation",
)
# REDCap warns of longer names, which statistics programs cut.
_REDCAP_LENGTH = 26
_REDCAP_SHORTER = {"_percent_of_lv_mass": "_pct_lv", "_percent_of_area_at_risk": "_pct_aar"}
_FLAGS = ("edited",)
_TEXTS = ("study", "patient", "visit", "sequences", "review")


@dataclass(frozen=True)
class Column:
    """A column: its unit, what it is, and how it is measured."""

    unit: str
    definition: str
    method: str


@cache
def _known() -> tuple[dict[str, Column], dict[str, tuple[str, str]]]:
    """Columns by name, and what a prefix adds to a definition, with its method."""
    content = yaml.safe_load((files("mrigmm.resources") / "quantities.yaml").read_text(encoding="utf-8"))
    prefixes = {prefix: (what, how) for prefix, (what, how) in content["prefixes"].items()}
    return {name: Column(*texts) for name, texts in content["columns"].items()}, prefixes


def described(name: str) -> Column:
    """Return what a column is.

    Examples:
        >>> described("reference_infarct_mass_g").unit, described("grey matter_ml").definition
        ('g', 'volume of grey matter')
    """
    columns, prefixes = _known()
    if name in columns:
        return columns[name]
    for prefix, (what, how) in prefixes.items():
        if name.startswith(prefix):
            base = described(name.removeprefix(prefix))
            return replace(base, definition=f"{base.definition}: {what}", method=how)
    # A class of another organ.
    return replace(columns["lv_cavity_ml"], definition=f"volume of {name.removesuffix('_ml')}")


def dictionary_rows(tables: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return a row per column of tables (file name -> columns): file, name, unit, definition, method."""
    return [
        {"file": file, "name": name, **vars(described(name))}
        for file, names in tables.items()
        for name in names
    ]


def redcap_tables(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], about: str
) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """Return REDCap's data dictionary, and the records to import, of the table of studies.

    Args:
        rows: of `quantities.csv`.
        columns: its columns; the first is the study, which becomes the record id.
        about: heading of the form.
    """
    fields = _redcap_names(columns)
    dictionary = []
    for number, (name, field) in enumerate(fields.items()):
        column = described(name)
        line = dict.fromkeys(_REDCAP_COLUMNS, "")
        is_number = name not in (*_FLAGS, *_TEXTS)
        line |= {
            "Variable / Field Name": field,
            "Form Name": REDCAP_FORM,
            "Section Header": about if number == 1 else "",
            "Field Type": "yesno" if name in _FLAGS else "text",
            "Field Label": in_words(name),
            "Field Note": "; ".join(part for part in (column.definition, column.method) if part),
            "Text Validation Type OR Show Slider Number": "number" if is_number else "",
            "Identifier?": "y" if name in ("study", "patient") else "",
        }
        dictionary.append(line)
    cells = {"yes": 1, "no": 0}  # of a field yes or no
    records = [
        {
            **{f: cells[row[n]] if n in _FLAGS else row.get(n) for n, f in fields.items()},
            f"{REDCAP_FORM}_complete": 2,
        }
        for row in rows
    ]
    return dictionary, records


def _redcap_names(columns: Sequence[str]) -> dict[str, str]:
    """Column -> name that REDCap takes: lower-case letters, digits and underscores, each once."""
    fields: dict[str, str] = {}
    for name in columns:
        field = "record_id" if name == "study" else name
        if len(field) > _REDCAP_LENGTH:
            for long, short in _REDCAP_SHORTER.items():
                field = field.replace(long, short)
        field = re.sub(r"[^a-z0-9]+", "_", field.lower()).strip("_")
        field = field if field[:1].isalpha() else f"v_{field}"
        same = sum(re.fullmatch(rf"{field}(_\d+)?", other) is not None for other in fields.values())
        fields[name] = f"{field}_{same + 1}" if same else field
    return fields
