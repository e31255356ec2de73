import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from mrigmm.labels import TISSUES
from mrigmm.reporting.bland_altman import VolumePairs
from mrigmm.reporting.bulls_eye import bulls_eye
from mrigmm.reporting.page import ClassRow, MetricsTable, Quantity, Report, StudyPage, render_report
from mrigmm.reporting.pictures import Picture
from mrigmm.reporting.slices import Border, Place, SliceRow, Slices

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


def slices(name="LGE", title="LGE", edges=("S", "L", "I", "R")):
    border = Border("scar", (((0, 0), (4, 0), (4, 4)),))
    return Slices(
        places=(Place(3, 0.0, False), Place(2, 8.5, True)),
        images={name: (PICTURE, PICTURE)},
        borders={"predicted": ((border,), ())},
        rows=(SliceRow(title, title, name, "predicted"),),
        pixels=(20, 10),
        bar=4.0,
        edges=edges,
        seen="Slices from base to apex",
    )


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
        "slices": slices(),
        "mixture": PICTURE,
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


def test_quantities_are_shown_with_their_intervals_where_there_are_any():
    numbers = [Quantity("area, g", 7.25, 8.75, (5.5, 9.0)), Quantity("salvage", None)]
    text = Page(render(studies=[study(quantities=numbers)])).text
    assert text.count("area, g") == 2  # cohort table and study
    assert text.count("salvage") == 1
    assert text.count("7.2") == 2
    assert text.count("8.8") == 1
    assert "5.5 to 9.0" in text
    text = Page(render(studies=[study(quantities=[Quantity("area, g", 7.25)])])).text
    assert not {"of the probabilities", "95 % interval"} & set(text)


def test_the_answer_comes_first():
    """Study, infarct in g and %, LV mass, MVO, quality, warnings; then what is shown on demand."""
    numbers = {
        "lv_cavity_ml": 100.0,
        "lv_mass_g": 120.0,
        "mvo_mass_g": 1.5,
        "infarct_percent_of_lv_mass": 12.5,
        "infarct_mass_g": 15.0,
        "edema_mass_g": None,
        "estimated_dice_infarct": 0.75,
        "infarct_probability": 0.97,
    }
    html = render(studies=[study(quantities=[Quantity(*item) for item in numbers.items()])])
    row = re.search(r'<tr data-more="a warning">.*?</tr>', html, re.DOTALL)[0]
    assert re.findall(r'data-value="([^"]*)"', row) == [
        *("p01", "15.0", "12.5", "120.0", "1.5", "0.75", "1"),
        *("12.345", "0.0", "0.25", "100.0"),
    ]
    on_demand = re.findall(r'<td class="more" data-value="([^"]*)"', row)
    assert on_demand == ["12.345", "0.0", "0.25", "100.0"]
    assert "infarct 97 %" in row
    summary = " ".join(
        re.sub("<[^>]*>", "", re.search(r"<summary>(.*?)</summary>", html, re.DOTALL)[1]).split()
    )
    assert "p01 infarct 15.0 g, 12.5 % of LV mass LV mass 120.0 g MVO 1.5 g" in summary
    assert "most infarct in slice 2" in summary
    assert "Distribution of" not in html  # of one study


def test_the_sizes_of_a_cohort_are_drawn_in_percent_or_else_in_grams():
    def sizes(name):
        studies = [study(f"p{i}", quantities=[Quantity(name, 10.0 * i)]) for i in range(3)]
        return re.findall(r"<title>(p\d: [\d.]+)</title>", render(studies=studies))

    for name in ("infarct_percent_of_lv_mass", "infarct_mass_g"):
        assert sizes(name) == ["p0: 0.0", "p1: 10.0", "p2: 20.0"]
    assert sizes("lv_mass_g") == []


def test_slices_have_letters_places_and_borders():
    html = render()
    tiles = re.findall(r'<button type="button" class="tile( most)?".*?</button>', html, re.DOTALL)
    assert tiles == ["", " most"]
    assert re.findall(r'<span class="edge e(\d)" aria-hidden="true">(.)</span>', html)[:4] == [
        ("0", "S"),
        ("1", "L"),
        ("2", "I"),
        ("3", "R"),
    ]
    assert '<span class="number">2 · 8 mm</span><span class="peak">most infarct</span>' in html
    assert html.count('d="M0 0l4 0 0 4z"') == 1
    assert 'href="#m1-0-0"' in html
    assert '<g id="m1-0-0" transform="scale(0.5 0.5)">' in html


def test_a_bulls_eye_says_what_it_is_numbered_by():
    html = render(studies=[study(bulls_eye=bulls_eye({4: 55.0}, "numbered automatically"))])
    assert "%; numbered automatically</figcaption>" in html
    assert "<title>segment 4: 55 %</title>" in html
    assert {"LAD", "RCA", "LCx"} <= set(Page(html).text)


def test_what_the_cohort_table_sorts_by():
    """The number itself, whatever is shown of it; nothing where there is none."""
    attributes = Page(render(studies=[study(classes=[ClassRow("blood", 12.345)])])).attributes
    values = [value for name, value in attributes if name == "data-value"]
    assert values == ["p01", "1", "12.345", ""]  # study, warnings, blood, scar


def test_limits_of_agreement_are_a_table():
    pairs = VolumePairs((1.0, 2.0, 3.0), (0.0, 2.0, 4.0), 0.0, (-1.96, 1.96))
    text = Page(render(bland_altman=PICTURE, pairs={"infarct (g)": pairs})).text
    assert {"0.00", "-1.96", "1.96"} <= set(text)


@pytest.mark.parametrize(
    "change",
    [
        {"studies": [study(EVIL)]},
        {"studies": [study(classes=[ClassRow(EVIL, 1.0, 1.0, 1.0)])], "classes": [EVIL]},
        {"studies": [study(warnings=[EVIL])]},
        {"studies": [study(notes=[EVIL])]},
        {"studies": [study(slices=slices(EVIL, EVIL, (EVIL,) * 4))]},
        {"studies": [study(mixture=Picture(EVIL, EVIL, b"", 1, 1))]},
        {"studies": [study(bulls_eye=bulls_eye({}, EVIL))]},
        {"studies": [study(facts={EVIL: EVIL})]},
        {"studies": [study(quantities=[Quantity(EVIL, 1.0)])]},
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
        render(studies=[study(evil, warnings=[evil], slices=slices(evil, evil, (evil,) * 4))], folder=evil)
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
    links = {value[1:] for name, value in attributes if name == "href" and value.startswith("#")}
    assert {"study-1", "study-2", "study-3", "training"} <= links <= targets


def test_parts_without_content_are_left_out():
    html = render(metrics=[], studies=[study(slices=None, mixture=None, warnings=[], notes=["no images"])])
    assert "Agreement" not in html
    assert "Training" not in html
    assert "<img" not in html
    assert "<image" not in html
    assert "tile" not in re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    assert "no images" in Page(html).text


def test_class_colours_come_from_the_one_table():
    html = render()
    index = re.search(r'<span class="swatch s(\d+)"></span>scar', html)[1]
    assert f".s{index} {{ background: rgb({', '.join(map(str, TISSUES['scar'].colour))}); }}" in html


def test_pictures_are_loaded_when_they_are_looked_at():
    html = render()
    assert html.count("<img") == html.count('loading="lazy"') == 1  # the mixture
    assert html.count("<image") == 2  # each slice once, whatever it is shown for
