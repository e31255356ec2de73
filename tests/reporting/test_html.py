import re
from html.parser import HTMLParser

import pytest

from mrigmm.reporting.html import MetricsTable, StudySection, render_report

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


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text.append(data.strip())


def render(**changes):
    content = {
        "folder": "predictions",
        "methods": ["map-em"],
        "version": "0.1.0",
        "disclaimer": "Not for clinical use.",
        "classes": ["blood", "scar"],
        "metrics": [MetricsTable("map-em", [ROW], {"s1": {"scar": 0.25}})],
        "studies": [StudySection("p01", {"blood": 12.345, "scar": 0.0}, ["a warning"], "iVBORw0KGgo=")],
    }
    return render_report(**{**content, **changes})


def test_the_numbers_of_the_page():
    text = Page(render()).text
    assert "0.712" in text  # Dice, three digits
    assert "12.3" in text  # ml, one digit
    assert text.count("–") == 2  # SD of one study and an IoU of none: a dash, not nan
    assert "Not for clinical use." in text
    assert "a warning" in text


@pytest.mark.parametrize(
    "change",
    [
        {"studies": [StudySection(EVIL, {"blood": 1.0}, [], None)]},
        {"studies": [StudySection(EVIL, {"blood": 1.0}, [], "iVBORw0KGgo=")]},  # in alt="..." too
        {"studies": [StudySection("p", {"blood": 1.0}, [EVIL], None)]},
        {"classes": [EVIL]},
        {"metrics": [MetricsTable(EVIL, [{**ROW, "name": EVIL}], {EVIL: {EVIL: 0.5}})]},
        {"folder": EVIL},
        {"methods": [EVIL]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_texts_from_files_are_escaped(change):
    html = render(**change)
    assert "<script" not in html
    page = Page(html)
    assert "script" not in page.tags
    assert any(EVIL in text for text in page.text)  # shown as it is


def test_no_attribute_can_be_broken_out_of():
    page = Page(render(studies=[StudySection('" onerror="alert(1)', {}, [], "iVBORw0KGgo=")]))
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_the_page_needs_nothing_from_elsewhere():
    html = render()
    assert not re.search(r"https?:|//|@import|<link|<iframe", html)
    sources = [value for name, value in Page(html).attributes if name in ("src", "href")]
    assert sources
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in sources)


def test_every_link_inside_the_page_has_its_target():
    studies = [StudySection(f"p {i}", {}, [], None) for i in range(3)]
    attributes = Page(render(studies=studies)).attributes
    targets = {value for name, value in attributes if name == "id"}
    assert {value[1:] for name, value in attributes if name == "href"} == targets


def test_without_images_the_page_says_so():
    assert "no overlay can be drawn" in render(studies=[StudySection("p", {}, [], None)])


def test_volumes_that_a_study_lacks_are_dashes():
    page = Page(render(metrics=[], studies=[StudySection("p", {"blood": 1.0}, [], None)]))
    assert page.text.count("–") == 1
