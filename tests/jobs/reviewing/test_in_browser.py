"""`mrigmm review` as a reader has it: in Chromium, without a screen."""

import io
import re
import signal
import subprocess
import sys
import threading

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from mrigmm.jobs.reviewing.server import ReviewServer
from mrigmm.jobs.reviewing.workbench import Workbench
from tests.browsing import TIMEOUT_MS, Messages

from .conftest import STUDY, TURNED, voxel_ml

pytestmark = pytest.mark.gate

EVIL = "<img src=x onerror=\"document.title='run'\">"


@pytest.fixture
def address(folder):
    """Of a server of the folder, in a thread of this process."""
    server = ReviewServer(Workbench(folder, "Ann"))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.url
    server.close()
    thread.join()
    server.bench.tables.finish()


@pytest.fixture
def opened(browser):
    """Opens the page; at the end nothing may have been complained about, and nothing asked for elsewhere."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    messages, addresses = Messages(), []

    def open_page(address, study=STUDY, **options):
        addresses.append(address)
        page = context.new_page()
        messages.watch(page)
        page.goto(address)
        page.locator(f"#studies button:has-text('{study}')").click()
        page.locator(f"#panels[data-drawn='{study}']").wait_for()
        return page

    yield open_page
    context.close()
    refused = "Failed to load resource"  # of answers that the test wants
    strange = [
        text for text in messages if not text.startswith((*addresses, refused)) and text[:5] != "data:"
    ]
    assert strange == []


def ids_of(folder, study=STUDY, kind="labels"):
    return np.asarray(nib.load(folder / f"{study}_{kind}.nii.gz").dataobj).copy()


def stroke(page, *places, panel=0):
    """Draw between places, in shares of a picture's width and height."""
    box = page.locator(".over").nth(panel).bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def saved(page, key="Control+s"):
    page.keyboard.press(key)
    page.locator("#saved", has_text="Saved,").wait_for()


def number(page, title):
    cells = page.locator("#numbers tbody tr", has=page.get_by_text(title, exact=True)).locator("td")
    return cells.nth(0).text_content()


def drawn_with(page, panel=0):
    """Share of a picture in the colour of scar at full opacity."""
    page.locator("#opacity").fill("100")
    picture = page.locator(".frame").nth(panel).screenshot(timeout=TIMEOUT_MS)
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    return float((np.abs(pixels - (213, 94, 0)).max(axis=-1) < 30).mean())


def test_open_draw_save_and_the_numbers_change(address, folder, opened):
    page = opened(address)
    before = ids_of(folder)
    image = nib.load(folder / f"{STUDY}_labels.nii.gz")
    assert number(page, "infarct (g)") == f"{(before == 4).sum() * voxel_ml(image) * 1.05:.1f}"
    share = drawn_with(page, panel=1)
    page.keyboard.press("4")
    stroke(page, (0.4, 0.4), (0.6, 0.6))
    assert drawn_with(page, panel=1) > share + 0.005  # on the other sequences, too
    page.keyboard.press("Control+z")
    assert drawn_with(page, panel=1) == pytest.approx(share, abs=1e-3)
    page.keyboard.press("Control+y")
    saved(page)
    after = ids_of(folder)
    changed = before != after
    assert 3 < changed.sum() < 60  # a brush of 6 mm on pixels of 4.5 mm
    assert set(after[changed]) == {4}
    assert len(np.unique(np.argwhere(changed)[:, 2])) == 1  # one slice
    assert number(page, "infarct (g)") == f"{(after == 4).sum() * voxel_ml(image) * 1.05:.1f}"
    np.testing.assert_array_equal(ids_of(folder, kind="labels_original"), before)
    assert "edited by Ann" in page.locator("#state").text_content()
    page.locator("#original").click()
    saved(page)
    np.testing.assert_array_equal(ids_of(folder), before)


def test_a_closed_stroke_is_filled_and_erased(address, folder, opened):
    page = opened(address, TURNED)
    before = ids_of(folder, TURNED)
    page.locator("#fill").check()
    page.locator("#brush").fill("0.5")
    page.keyboard.press("e")
    corners = [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75), (0.25, 0.25)]
    stroke(page, *corners)
    saved(page)
    after = ids_of(folder, TURNED)
    assert set(after[before != after]) == {0}
    slices = (before != after).any(axis=(0, 1))
    assert slices.sum() == 1
    assert (after[..., slices] == 1).sum() == 0  # all of the cavity lay inside


def test_by_keyboard_alone(address, folder, opened):
    page = opened(address)
    before = ids_of(folder)
    page.locator(".over").first.focus()
    page.keyboard.press("1")
    for key in ("ArrowRight", "ArrowRight", "Space", "PageDown", "Space"):
        page.keyboard.press(key)
    saved(page)
    after = ids_of(folder)
    changed = before != after
    assert set(after[changed]) <= {1}
    page.keyboard.press("4")
    page.keyboard.press("Space")
    saved(page)
    assert (ids_of(folder) != after).sum() >= 1
    page.locator("#comment").fill(EVIL)
    page.locator("#comment").press("Control+s")
    page.locator("#saved", has_text="Saved,").wait_for()
    page.locator("#study").click()
    page.keyboard.press("a")
    page.locator("#counts", has_text="1 accepted").wait_for()
    assert page.locator("#accept").get_attribute("aria-pressed") == "true"
    page.keyboard.press("p")
    page.locator(f"#panels[data-drawn='{TURNED}']").wait_for()
    page.keyboard.press("n")
    page.locator(f"#panels[data-drawn='{STUDY}']").wait_for()
    assert page.locator("#comment").input_value() == EVIL
    assert page.title() == "mrigmm review"
    assert "corrected.json --labels" in page.locator("#train").text_content()


def test_the_insertion_is_placed_by_click(address, folder, opened):
    page = opened(address)
    assert not page.locator("#bulls-eye").is_visible()
    page.locator("#base").select_option("first")
    page.keyboard.press("Escape")
    page.locator("#place-insertion").click()
    stroke(page, (0.3, 0.35))
    saved(page)
    assert page.locator("#bulls-eye path").count() == 17
    assert "insertion point that was given" in page.locator("#bulls-eye figcaption").text_content()
    page.locator("#automatic").click()
    saved(page)
    assert not page.locator("#bulls-eye").is_visible()


def test_two_tabs_do_not_overwrite_each_other(address, folder, opened):
    first, second = opened(address), opened(address)
    first.bring_to_front()
    first.keyboard.press("4")
    stroke(first, (0.45, 0.5), (0.5, 0.5))
    saved(first)
    kept = ids_of(folder)
    second.bring_to_front()
    second.keyboard.press("1")
    stroke(second, (0.2, 0.5), (0.8, 0.5))
    second.keyboard.press("Control+s")
    second.locator("#message", has_text="Not saved: the study was changed by Ann").wait_for()
    np.testing.assert_array_equal(ids_of(folder), kept)
    assert second.locator("#saved").text_content() == "Not saved"
    second.locator("#reload").click()
    second.locator("#message").wait_for(state="hidden")
    stroke(second, (0.2, 0.5), (0.8, 0.5))
    saved(second)
    assert (ids_of(folder) != kept).any()


def test_a_killed_server_loses_no_saved_edit(folder, opened):
    command = [sys.executable, "-m", "mrigmm", "review", str(folder), "--no-browser", "--by", "Ben"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        address = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", process.stderr.readline())[0]
        page = opened(address)
        page.keyboard.press("4")
        stroke(page, (0.45, 0.5), (0.5, 0.5))
        saved(page)
        kept = ids_of(folder)
        process.send_signal(signal.SIGKILL)
        process.wait()
    page.keyboard.press("1")
    stroke(page, (0.2, 0.5), (0.8, 0.5))
    page.keyboard.press("Control+s")
    page.locator("#message", has_text="The server does not answer").wait_for()
    np.testing.assert_array_equal(ids_of(folder), kept)
    bench = Workbench(folder, "Ann")
    shown = bench.shown(STUDY)
    bench.tables.finish()
    assert (shown["edited"], shown["review"]["edited_by"]) == (True, "Ben")


@pytest.mark.parametrize("width", [1400, 900, 390])
def test_nothing_lies_beside_the_page(address, opened, width):
    page = opened(address)
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_timeout(50)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    frame = page.locator(".frame").first.bounding_box()
    assert frame["width"] > 200
    button = page.locator("#panels figcaption button").first
    button.click()
    assert page.locator(".frame:visible").count() == 1
    button.click()
    assert page.locator(".frame:visible").count() == 3
