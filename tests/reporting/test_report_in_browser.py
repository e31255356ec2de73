"""The report as a reader has it: in Chromium, without a screen.

Skipped where no Chromium is installed (`apt-get install chromium`).
"""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

import mrigmm
from mrigmm.labels import TISSUES

from ..browsing import TIMEOUT_MS, Messages
from ..conftest import Workshop

EVIL = "<script>document.title='run'</script>"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """An interactive report of three studies, of which one has hostile texts."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "data").mkdir()
    workshop = Workshop(folder / "data")
    manifest = workshop.manifest([workshop.study(name, seed=i) for i, name in enumerate(("p1", "p2", "p10"))])
    out = folder / EVIL.replace("/", "")
    mrigmm.predict(manifest, out, method="map-em")
    mrigmm.evaluate(out, manifest)
    side = out / "p2.json"
    side.write_text(json.dumps({**json.loads(side.read_text()), "warnings": [EVIL], "command": EVIL}))
    path = out / "quantities.json"
    content = json.loads(path.read_text())
    for name, grams in {"p1": 9.5, "p2": 20.0, "p10": 1.0}.items():
        content["studies"][name]["volumes"]["infarct_mass_g"] = grams
    content["studies"]["p1"]["segments"] = [{"segment": 4, "transmurality_percent": 60.0}]
    path.write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["mrigmm"])  # it is shown, and that of the tests may fill a page
        return mrigmm.report(out, out=folder / "report.html", interactive=True).output


@pytest.fixture
def page(browser, report):
    """The page; at the end nothing may have been complained about, and nothing asked for elsewhere."""
    context = browser.new_context(viewport={"width": 900, "height": 800}, color_scheme="light")
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    messages = Messages()
    messages.watch(page)
    page.goto(report.as_uri(), wait_until="domcontentloaded")
    yield page
    context.close()
    assert [text for text in messages if text != report.as_uri()] == []


def first_column(page):
    return page.eval_on_selector_all(
        "#cohort-table tbody tr:not([hidden]) th", "cells => cells.map(cell => cell.textContent)"
    )


def numbers(page, column):
    return page.eval_on_selector_all(
        f"#cohort-table tbody tr td:nth-child({column})",
        "cells => cells.map(cell => Number(cell.dataset.value))",
    )


def test_the_table_sorts_by_mouse_and_keyboard(page):
    name = page.locator("#cohort-table th", has_text="study")
    infarct = page.locator("#cohort-table th", has_text="infarct (g)")
    assert first_column(page) == ["p1", "p2", "p10"]  # as numbers
    name.locator("button").click()
    assert first_column(page) == ["p10", "p2", "p1"]
    assert name.get_attribute("aria-sort") == "descending"
    name.locator("button").press("Enter")
    assert first_column(page) == ["p1", "p2", "p10"]
    infarct.locator("button").click()
    assert infarct.get_attribute("aria-sort") == "descending"
    assert name.get_attribute("aria-sort") is None
    column = infarct.evaluate("cell => cell.cellIndex + 1")
    assert numbers(page, column) == [20.0, 9.5, 1.0]
    infarct.locator("button").press("Space")
    assert numbers(page, column) == [1.0, 9.5, 20.0]


def test_the_table_filters(page):
    page.get_by_label("Filter").fill("p1")
    assert first_column(page) == ["p1", "p10"]
    assert page.locator("#shown").text_content() == "2 of 3 shown"
    page.get_by_label("Filter").fill("<script>")  # of a warning
    assert first_column(page) == ["p2"]


def test_a_link_opens_the_study_and_moves_the_focus(page):
    second = page.locator("#study-2")
    assert second.get_attribute("open") is None
    page.locator("#cohort-table a", has_text="p2").press("Enter")
    page.wait_for_function("document.getElementById('study-2').open")
    assert page.evaluate("document.activeElement.closest('details').id") == "study-2"
    assert second.locator(".warnings li").text_content() == EVIL


def test_the_page_is_reached_by_keyboard_alone(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "filter"


def test_a_script_in_a_text_is_inert(page):
    assert page.locator("h1").text_content() == EVIL.replace("/", "")
    assert page.title() != "run"
    assert EVIL in page.locator("#study-2").text_content()


def test_even_an_injected_script_is_not_run(browser, report, tmp_path):
    """Were a text not escaped, the policy would stop it; the browser says so."""
    broken = tmp_path / "broken.html"
    broken.write_text(report.read_text().replace("</h1>", f"</h1>{EVIL}<p id=after></p>", 1))
    page = browser.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    messages = Messages()
    messages.watch(page)
    page.goto(broken.as_uri(), wait_until="domcontentloaded")
    assert page.locator("#after").count() == 1
    assert page.title() != "run"
    page.close()
    assert any("Content Security Policy" in text for text in messages)


def test_light_and_dark(page):
    def ground():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = ground()
    page.emulate_media(color_scheme="dark")
    assert max(map(int, light[4:-1].split(","))) > 200
    assert max(map(int, ground()[4:-1].split(","))) < 40


def test_in_print_all_studies_are_open_and_controls_are_gone(page):
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.study:not([open])").count() == 0
    assert not page.locator("#study-1 .technical").first.is_visible()
    assert not page.locator(".filter").is_visible()
    assert page.locator("#study-3 .tile svg").first.is_visible()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.study[open]").count() == 1


def test_every_picture_is_shown(page):
    page.eval_on_selector_all("details", "parts => parts.forEach(part => (part.open = true))")
    page.eval_on_selector_all("img", "images => images.forEach(image => (image.loading = 'eager'))")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    assert len(widths) == 3  # mixtures
    assert min(widths) > 50


def near(rgb, colour, tolerance=25):
    return int((np.abs(rgb - np.asarray(colour)).max(axis=-1) < tolerance).sum())


def canvas(page):
    """The viewer's canvas as it is shown."""
    picture = page.locator("#viewer-canvas").screenshot(timeout=TIMEOUT_MS)
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def test_the_viewer_draws_the_overlay(page):
    page.wait_for_selector("#viewer-canvas[data-drawn='0/0']")
    assert not page.locator("#viewer-message").is_visible()
    page.locator("#viewer-opacity").fill("100")
    opaque = canvas(page)
    areas = {name: near(opaque, tissue.colour) for name, tissue in TISSUES.items()}
    assert min(areas.values()) > 200
    assert areas["blood"] > areas["edema"]  # 0.28 of the disc against 0.11
    page.locator("#viewer-opacity").fill("0")
    bare = canvas(page)
    assert max(near(bare, tissue.colour) for tissue in TISSUES.values()) < 50
    assert np.ptp(bare, axis=-1).max() < 12  # nothing but grey is left
    assert bare.max() > 200


def test_the_viewer_changes_study_sequence_and_slice(page):
    page.wait_for_selector("#viewer-canvas[data-drawn='0/0']")
    page.locator("#viewer-opacity").fill("0")
    first = canvas(page)
    page.locator("#viewer-sequence").select_option(label="T2")
    page.wait_for_selector("#viewer-canvas[data-drawn='0/1']")
    assert np.abs(canvas(page) - first).max() > 50
    page.locator("#viewer-slice").press("ArrowRight")
    assert page.locator("#viewer-place").text_content() == "1 (3 of 3)"  # by the header, the apex
    page.locator("#study-1 a", has_text="viewer").click()
    page.wait_for_selector("#viewer-canvas[data-drawn='0/0']")
    page.locator("#viewer-study").select_option(label="p10")
    page.wait_for_selector("#viewer-canvas[data-drawn='2/0']")


def test_without_webgl_the_viewer_says_so(browser, report):
    page = browser.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto(report.as_uri(), wait_until="domcontentloaded")
    page.wait_for_selector("#viewer-message:not([hidden])")
    assert "needs WebGL 2" in page.locator("#viewer-message").text_content()
    page.close()


def colours_of(page, selector):
    """Colours that a part of the page is drawn with, as shown."""
    picture = page.locator(selector).first.screenshot(timeout=TIMEOUT_MS)
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


@pytest.mark.parametrize("width", [1400, 1280, 390])
def test_the_answer_is_in_sight_at_every_width(page, width):
    """Nothing scrolls sideways but the table on a phone; there study and infarct are in sight."""
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(50)
    table = page.locator("#cohort .scroll")
    wide, room = table.evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert (wide <= room) == (width > 1000)
    assert page.locator("#sideways").is_visible() == (wide > room)
    page.locator("#open-all").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    edge = table.evaluate("box => box.getBoundingClientRect().right")
    heads = page.locator("#cohort-table thead th:not(.more)")
    shown = heads.evaluate_all(
        "(cells, edge) => cells.filter((c) => c.getBoundingClientRect().right <= edge + 1)"
        ".map((c) => c.innerText)",
        edge,
    )
    names = [
        "study",
        "infarct (g)",
        "infarct (% of LV mass)",
        "LV mass (g)",
        "edema (g)",
        "MVO (g)",
        "warnings",
    ]
    shown = [" ".join(text.split()) for text in shown]
    assert shown == (names if width > 1000 else names[: len(shown)])
    assert len(shown) >= 2
    assert page.locator(".thumbs svg").first.is_visible()
    assert page.locator(".sizes circle").count() == 3
    tiles = page.locator("#study-1 .tiles").first
    filled = tiles.evaluate("box => box.lastElementChild.getBoundingClientRect().right")
    assert filled <= page.locator("#study-1").evaluate("box => box.getBoundingClientRect().right")
    if width > 1000:  # three slices across the card
        assert page.locator("#study-1 .tile").first.evaluate("tile => tile.clientWidth") > 300


def test_further_numbers_are_behind_a_switch(page):
    dice = page.locator("#cohort-table th", has_text="scar, Dice")
    assert not dice.is_visible()
    page.locator("#more").check()
    assert dice.is_visible()


def test_classes_are_drawn_as_outlines_or_filled_or_not_at_all(page):
    counts = {}
    for mode in ("line", "fill", "none"):
        page.locator(f"#mode-{mode}").check()
        counts[mode] = int((np.ptp(colours_of(page, "#study-1 .tile"), axis=-1) > 40).sum())
    assert counts["fill"] > 3 * counts["line"] > 9 * counts["none"]


def test_a_slice_is_enlarged_by_click_and_by_key(page):
    tile = page.locator("#study-1 .tile").first
    tile.click()
    large = page.locator("#large .tile")
    assert large.evaluate("tile => tile.clientWidth") > 1.5 * tile.evaluate("tile => tile.clientWidth")
    number = page.locator("#large .number")
    before = number.text_content()
    page.keyboard.press("ArrowRight")
    assert number.text_content() != before
    page.keyboard.press("ArrowDown")
    assert page.locator("#large .note").last.text_content() == "p1, T2"
    page.keyboard.press("Escape")
    assert not large.is_visible()
    tile.press("Enter")
    assert large.is_visible()
    page.locator("#large-close").click()
    assert not large.is_visible()


def test_figures_follow_the_dark_mode(page):
    page.locator("#study-1 .mixture summary").click()
    for scheme, dark in (("light", False), ("dark", True)):
        page.emulate_media(color_scheme=scheme)
        for figure in ("#study-1 .bulls-eye svg", ".sizes svg", "#study-1 .diagram"):
            shown = colours_of(page, figure)
            assert (np.median(shown) < 60) == dark, figure  # the ground


def test_in_print_a_study_takes_one_page_and_nothing_is_cut(page):
    page.set_viewport_size({"width": 710, "height": 1000})  # A4 without its margins
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    document = page.pdf(prefer_css_page_size=True)
    # The cohort, and the studies; what is said about the report follows the last.
    assert document.count(b"/Type /Page\n") + document.count(b"/Type /Page ") == 1 + 3
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
