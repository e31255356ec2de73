"""The HTML report: one file, nothing from elsewhere, every text from a file escaped.

A content security policy allows exactly the page's own scripts and style, by their digests: whatever a text
from a file might smuggle in would not be run.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mrigmm.labels import AGREEMENT_COLOURS, class_colours, in_words
from mrigmm.reporting.bland_altman import VolumePairs
from mrigmm.reporting.bulls_eye import TERRITORIES, BullsEye
from mrigmm.reporting.figures import HEIGHT, WIDTH, Distribution, distribution
from mrigmm.reporting.pictures import MAX_SLICES, Picture
from mrigmm.reporting.slices import ISLAND_ML, SCALE_MM, Slices
from mrigmm.reporting.viewer import ViewerStudy, viewer_classes

REPORT_MARK = "mrigmm report</title>"  # near the beginning of every page
# What a reader wants first: quantity -> heading of its column.
ANSWERS: Mapping[str, str] = {
    "infarct_mass_g": "infarct (g)",
    "infarct_percent_of_lv_mass": "infarct (% of LV mass)",
    "lv_mass_g": "LV mass (g)",
    "edema_mass_g": "edema (g)",
    "mvo_mass_g": "MVO (g)",
}
# How good a segmentation thinks it is.
QUALITY = ("estimated_dice_infarct", "infarct_probability")
_SIZES = {"infarct_percent_of_lv_mass": "infarct, % of LV mass", "infarct_mass_g": "infarct, g"}


@dataclass(frozen=True)
class ClassRow:
    """One class or nested region of one study: volumes in ml and overlap; None where there is none.

    Attributes:
        remark: why Dice is 0 or not defined, where prediction or reference is empty.
    """

    name: str
    predicted_ml: float | None
    reference_ml: float | None = None
    dice: float | None = None
    remark: str | None = None


@dataclass(frozen=True)
class Quantity:
    """A number of `mrigmm quantify`, the same from probabilities, and its interval; None: not defined."""

    name: str
    value: float | None
    expected: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class StudyPage:
    """One study.

    Attributes:
        id: study id.
        classes: what was found, by class.
        quantities: numbers of the study.
        warnings: what the user should know.
        notes: of the prediction and of the quantification; what could not be shown, and why.
        slices: pictures with the borders of the classes; None without images.
        bulls_eye: transmurality of the AHA segments, where they are numbered.
        mixture: picture of the mixture.
        facts: name -> text: method, seconds, files, versions, command line.
        volumes: for the interactive viewer; None without it, or without images.
        edited: whether somebody has changed the label map since it was predicted.
        verdict: of a reviewer: "accepted" or "rejected"; None where there is none.
        detailed: whether the page shows more of it than its row in the cohort table.
    """

    id: str
    classes: Sequence[ClassRow]
    quantities: Sequence[Quantity] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    slices: Slices | None = None
    bulls_eye: BullsEye | None = None
    mixture: Picture | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    volumes: ViewerStudy | None = None
    edited: bool = False
    verdict: str | None = None
    detailed: bool = True

    @property
    def numbers(self) -> dict[str, float | None]:
        """Name of a quantity -> its value."""
        return {quantity.name: quantity.value for quantity in self.quantities}


@dataclass(frozen=True)
class MetricsTable:
    """One evaluated folder: its name, rows by class."""

    name: str
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Report:
    """All that is on the page.

    Attributes:
        folder: name of the folder of predictions.
        methods: that made them.
        classes: names that the volumes of the cohort table are of, nested regions left out.
        disclaimer: what the results are not for.
        studies: in the order of the page.
        metrics: of this folder, then of those to compare with.
        pairs: number with its unit -> predicted and reference, where there are enough for Bland-Altman.
        bland_altman: figure of these numbers.
        loss: figure of the training.
        problems: studies that are not shown, and why.
        no_prediction: study -> why predict failed on it.
        facts: name -> text: versions, command line.
        settings: method -> its settings.
        class_ids: of the label maps in the viewer.
    """

    folder: str
    methods: Sequence[str]
    classes: Sequence[str]
    disclaimer: str
    studies: Sequence[StudyPage]
    metrics: Sequence[MetricsTable] = ()
    pairs: Mapping[str, VolumePairs] = field(default_factory=dict)
    bland_altman: Picture | None = None
    loss: Picture | None = None
    problems: Sequence[str] = ()
    no_prediction: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    class_ids: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def detailed(self) -> list[StudyPage]:
        """Studies of which the page shows more than a row."""
        return [study for study in self.studies if study.detailed]

    @cached_property
    def places(self) -> dict[str, int]:
        """Id of a detailed study -> its place on the page, from 1."""
        return {study.id: place for place, study in enumerate(self.detailed, 1)}

    @cached_property
    def regions(self) -> list[str]:
        """Names of all classes and nested regions, in their order."""
        rows = (row.name for study in self.studies for row in study.classes)
        return list(dict.fromkeys((*self.classes, *rows)))

    @cached_property
    def measured(self) -> list[str]:
        """Names of the quantities that some study has a value of."""
        values = (q for study in self.studies for q in study.quantities if q.value is not None)
        return list(dict.fromkeys(quantity.name for quantity in values))

    @cached_property
    def answers(self) -> list[str]:
        """Those of `ANSWERS` that are measured."""
        measured = self.measured
        return [name for name in ANSWERS if name in measured]

    @cached_property
    def further(self) -> list[str]:
        """Quantities that the cohort table shows on demand."""
        return [name for name in self.measured if name not in (*ANSWERS, *QUALITY)]

    @cached_property
    def judged(self) -> bool:
        """Whether some study says how good its segmentation is."""
        return any(name in self.measured for name in QUALITY)

    @cached_property
    def sizes(self) -> Distribution | None:
        """Infarct sizes of the studies; None of fewer than two."""
        for name, title in _SIZES.items():
            values = {s.id: s.numbers.get(name) for s in self.studies}
            known = {study: value for study, value in values.items() if value is not None}
            if len(known) > 1:
                return distribution(known, title)
        return None

    @cached_property
    def largest_percent(self) -> float:
        """Upper end of the bars of infarct size, in percent."""
        shares = [s.numbers.get("infarct_percent_of_lv_mass") or 0.0 for s in self.studies]
        return max([10.0, *shares])

    @cached_property
    def has_remarks(self) -> bool:
        """Whether prediction or reference of some study has none of a class."""
        return any(row.remark is not None for study in self.studies for row in study.classes)

    @cached_property
    def evaluated(self) -> list[str]:
        """Classes that some study has a Dice of."""
        return [
            name
            for name in self.regions
            if any(row.dice is not None for s in self.studies for row in s.classes if row.name == name)
        ]


def render_report(report: Report) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=PackageLoader("mrigmm.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["sortable"] = _sortable
    environment.filters["words"] = in_words
    environment.globals |= {
        "headings": ANSWERS,
        "quality_names": QUALITY,
        "territories": TERRITORIES,
        "island_ml": ISLAND_ML,
        "scale_mm": SCALE_MM,
        "plot_width": WIDTH,
        "plot_height": HEIGHT,
    }
    colours = {**class_colours(list(dict.fromkeys((*report.regions, *_drawn(report))))), **AGREEMENT_COLOURS}
    swatches = {name: index for index, name in enumerate(colours)}
    # The template's own files: what comes from elsewhere never gets into them.
    style = Markup(
        environment.get_template("report.css.j2").render(
            colours=list(colours.values()), most_slices=MAX_SLICES
        )
    )
    names = ["templates/report.js"]
    viewer = _viewer(report)
    if viewer:
        names += ["vendor/niivue/niivue.umd.js", "templates/viewer.js"]
    scripts = [Markup(_resource(name)) for name in names]
    return environment.get_template("report.html.j2").render(
        report=report,
        style=style,
        scripts=scripts,
        policy=_policy(style, scripts),
        swatches=swatches,
        viewer=viewer,
        viewer_classes=list(report.class_ids),
        viewer_places={study["name"]: index for index, study in enumerate(viewer.get("studies", ()))},
    )


def _drawn(report: Report) -> list[str]:
    """Return the classes that pictures show borders of."""
    borders = (
        border
        for study in report.studies
        if study.slices is not None
        for border in sorted(study.slices.classes)
    )
    return list(dict.fromkeys(borders))


def _viewer(report: Report) -> dict[str, Any]:
    """Return the studies and classes that the viewer shows; empty when there are none."""
    studies = [{"name": s.id, **s.volumes.as_json()} for s in report.studies if s.volumes is not None]
    return {"studies": studies, "classes": viewer_classes(report.class_ids)} if studies else {}


def _resource(name: str) -> str:
    return files("mrigmm.reporting").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, scripts: Sequence[str]) -> str:
    allowed = " ".join(_digest(script) for script in scripts)
    return (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _number(value: object, digits: int = 3) -> str:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}"


def _sortable(value: object) -> str:
    """Return what the table sorts a number by; nothing where there is none."""
    return repr(float(value)) if isinstance(value, int | float) and math.isfinite(value) else ""
