import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from mrigmm.labels import TISSUES
from mrigmm.reporting.bland_altman import VolumePairs
from mrigmm.reporting.page import ClassRow, MetricsTable, Quantity, Report, StudyPage, render_report
from mrigmm.reporting.pictures import Picture

EVIL = '<script>alert("x")</script>'
ROW = {
    "name": "scar",
    "dice_mean": 0.71234,
    "dice_sd": float("nan"),
    "iou_mean": None,
    "n": 3,
    "false_positive_studies": 1,
    "missed_studies": 0,
    "correct_negative_studies": 2,
}
PICTURE = Picture("LGE", "LGE with contours", b"RIFF", 10, 20)


class Page(HTMLParser):
    """Tags, attributes and text of a page; the text of its own scripts and style apart."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.code = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        (self.code if self.tags[-1:] in (["script"], ["style"]) else self.text).append(data.strip())

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.tags.append(f"/{tag}")


def study(study_id="p01", **changes):
    content = {
        "classes": [ClassRow("blood", 12.345), ClassRow("scar", 0.0, 1.5, 0.25)],
        "warnings": ["a warning"],
        "rows": [PICTURE],
        "plots": [PICTURE],
        "facts": {"command line": "mrigmm predict"},
    }
    return StudyPage(study_id, **{**content, **changes})


def render(**changes):
    content = {
        "folder": "predictions",
        "methods": ["map-em"],
        "classes": ["blood", "scar"],
        "disclaimer": "Not for clinical use.",
        "metrics": [MetricsTable("map-em", [ROW])],
        "studies": [study()],
    }
    return render_report(Report(**{**content, **changes}))


def test_the_numbers_of_the_page():
    text = Page(render()).text
    assert "0.712" in text  # Dice, three digits
    assert text.count("12.3") == 2  # ml, one digit: in the cohort table, and of the study
    assert "0.25" in text
    assert "Not for clinical use." in text
    assert "a warning" in text
    assert "nan" not in " ".join(text)


def test_quantities_are_shown_with_their_intervals():
    numbers = [Quantity("infarct, g", 7.25, 8.75, (5.5, 9.0)), Quantity("salvage", None)]
    text = Page(render(studies=[study(quantities=numbers)], quantities=["infarct, g"])).text
    assert text.count("infarct, g") == 2  # cohort table and study
    assert text.count("salvage") == 1
    assert text.count("7.2") == 2
    assert text.count("8.8") == 1
    assert "5.5 to 9.0" in text


def test_what_the_cohort_table_sorts_by():
    """The number itself, whatever is shown of it; nothing where there is none."""
    attributes = Page(render(studies=[study(classes=[ClassRow("blood", 12.345)])])).attributes
    values = [value for name, value in attributes if name == "data-value"]
    assert values == ["p01", "1", "12.345", ""]  # study, warnings, blood, scar


def test_limits_of_agreement_are_a_table():
    pairs = VolumePairs((1.0, 2.0, 3.0), (0.0, 2.0, 4.0), 0.0, (-1.96, 1.96))
    text = Page(render(bland_altman=PICTURE, volumes={"scar": pairs})).text
    assert {"0.00", "-1.96", "1.96"} <= set(text)


@pytest.mark.parametrize(
    "change",
    [
        {"studies": [study(EVIL)]},
        {"studies": [study(classes=[ClassRow(EVIL, 1.0, 1.0, 1.0)])], "classes": [EVIL]},
        {"studies": [study(warnings=[EVIL])]},
        {"studies": [study(notes=[EVIL])]},
        {"studies": [study(rows=[Picture(EVIL, EVIL, b"", 1, 1)])]},
        {"studies": [study(plots=[Picture(EVIL, EVIL, b"", 1, 1)])]},
        {"studies": [study(facts={EVIL: EVIL})]},
        {"studies": [study(quantities=[Quantity(EVIL, 1.0)])], "quantities": [EVIL]},
        {"metrics": [MetricsTable(EVIL, [{**ROW, "name": EVIL}])]},
        {"folder": EVIL},
        {"methods": [EVIL]},
        {"studies": [study(classes=[ClassRow("scar", 1.0, 0.0, 0.0, EVIL)])]},
        {"problems": [EVIL]},
        {"no_prediction": {EVIL: EVIL}},
        {"facts": {EVIL: EVIL}},
        {"settings": {EVIL: EVIL}},
    ],
    ids=str,
)
def test_texts_from_files_are_escaped(change):
    html = render(**change)
    page = Page(html)
    assert page.tags.count("script") == 1  # our own
    assert EVIL not in html
    assert any(EVIL in text for text in page.text)  # shown as it is


def test_no_attribute_can_be_broken_out_of():
    evil = '" onerror="alert(1)'
    page = Page(
        render(studies=[study(evil, warnings=[evil], rows=[Picture(evil, evil, b"", 1, 1)])], folder=evil)
    )
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_the_policy_allows_the_pages_own_code_and_nothing_else():
    html = render()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.replace("&#39;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not [name for name, _ in Page(html).attributes if name == "style"]  # the policy would drop them


def test_the_page_needs_nothing_from_elsewhere():
    html = render()
    assert not re.search(r"https?:|@import|<link|<iframe|url\(", html)
    sources = [value for name, value in Page(html).attributes if name in ("src", "href")]
    assert sources
    assert all(value.startswith(("data:image/webp;base64,", "#")) for value in sources)


def test_every_link_inside_the_page_has_its_target():
    html = render(studies=[study(f"p {i}") for i in range(3)], loss=PICTURE)
    attributes = Page(html).attributes
    targets = {value for name, value in attributes if name == "id"}
    links = {value[1:] for name, value in attributes if name == "href"}
    assert {"study-1", "study-2", "study-3", "training"} <= links <= targets


def test_parts_without_content_are_left_out():
    html = render(metrics=[], studies=[study(rows=[], plots=[], warnings=[], notes=["no images"])])
    assert "Agreement" not in html
    assert "Training" not in html
    assert "<img" not in html
    assert "no images" in Page(html).text


def test_class_colours_come_from_the_one_table():
    html = render()
    index = re.search(r'<span class="swatch s(\d+)"></span>scar', html)[1]
    assert f".s{index} {{ background: rgb({', '.join(map(str, TISSUES['scar'].colour))}); }}" in html


def test_pictures_are_loaded_when_they_are_looked_at():
    html = render()
    assert html.count("<img") == html.count('loading="lazy"') == 2
