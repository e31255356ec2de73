"""Take the pictures of the report and of the page of `mrigmm review`: the demo's cohort in headless Chromium.

Needs Chromium and the extra `pdf`, and the folder of the demo:

    mrigmm demo
    python scripts/make_screenshots.py mrigmm_demo -o docs/images
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
from benchmarking import script_parser
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from playwright.sync_api import Browser, Page, sync_playwright

import mrigmm
from mrigmm.jobs.reviewing.server import ReviewServer
from mrigmm.jobs.reviewing.workbench import Workbench
from mrigmm.labels import TISSUES
from mrigmm.reporting.figures import png, shown

WIDTH = 1280
SEQUENCES = ("LGE", "T2", "bSSFP")
STUDY = "study-2"  # shown in the pictures of the report
OTHERS = "#agreement, #training, #viewer, #about, details.study:not([open])"
ARGUMENTS = ["--no-sandbox", "--no-first-run", "--disable-gpu", "--enable-unsafe-swiftshader"]
TIMEOUT_MS = 300_000


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("demo", type=Path, help="folder that mrigmm demo wrote")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the PNG files")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser")
    args = parser.parse_args()
    if args.chromium is None:
        parser.error("no Chromium is installed (apt-get install chromium)")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as engine:
        report = make_report(args.demo, Path(temporary) / "cohort")
        browser = engine.chromium.launch(executable_path=args.chromium, args=ARGUMENTS, timeout=TIMEOUT_MS)
        page = open_page(browser, report, "light")
        page.wait_for_selector("#viewer-canvas[data-drawn]")
        page.locator("#viewer").screenshot(path=args.out / "viewer.png")
        show(page, hidden=OTHERS, height=1480)
        page.screenshot(path=args.out / "report.png")
        page.locator(f"#{STUDY} .bulls-eye").screenshot(path=args.out / "bulls_eye.png")
        dark = open_page(browser, report, "dark")
        show(dark, hidden=f"header, #cohort, {OTHERS}", height=1300)
        dark.locator("#mode-fill").check()
        dark.screenshot(path=args.out / "report_dark.png")
        review_page(browser, report.parent, args.out / "review.png")
        browser.close()
    (args.out / "demo_study.png").write_bytes(study_picture(args.demo, "study_001"))


def study_picture(demo: Path, study: str) -> bytes:
    """A row per slice: the sequences, the label map from nothing but these, and the reference, on LGE."""
    cohort = demo / "cohort"
    with tempfile.TemporaryDirectory() as temporary:
        files = {name: cohort / "images" / f"{study}_{name}.nii.gz" for name in SEQUENCES}
        mrigmm.predict_study(files, None, temporary, study_id=study, device="cpu")
        found = read(Path(temporary) / f"{study}_labels.nii.gz")
    images = {name: read(file) for name, file in files.items()}
    maps = {"label map": found, "reference": read(cohort / "labels" / f"{study}.nii.gz")}
    x, y = (np.flatnonzero((found > 0).any(axis=axes)) for axes in ((1, 2), (0, 2)))
    box = np.s_[max(x[0] - 15, 0) : x[-1] + 15, max(y[0] - 15, 0) : y[-1] + 15]
    figure = Figure(figsize=(10, 2.05 * found.shape[2]), layout="constrained")
    axes = figure.subplots(found.shape[2], len(images) + len(maps), squeeze=False)
    for z, row in enumerate(axes):
        for ax, name in zip(row, [*images, *maps], strict=True):
            lge = images.get(name, images["LGE"])[..., z]
            ax.imshow(shown(lge[box]), cmap="gray", vmax=np.quantile(lge[box], 0.995))
            for tissue in TISSUES.values() if name in maps else ():
                colour = np.array(tissue.colour) / 255
                mask = shown(maps[name][..., z][box] == tissue.id)
                ax.imshow(np.where(mask[..., None], [*colour, 0.6], 0.0))
            ax.set(xticks=[], yticks=[], title=name if z == 0 else None)
    handles = [Patch(color=np.array(t.colour) / 255, label=name) for name, t in TISSUES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return png(figure)


def read(file: Path) -> np.ndarray:
    """Return the array of an image."""
    return np.asarray(nib.load(file).dataobj)


def make_report(demo: Path, out: Path) -> Path:
    """All studies of the demo's cohort, with nothing given."""
    manifest = demo / "cohort" / "images_alone.json"
    mrigmm.predict(manifest, out, split="all", device="cpu")
    mrigmm.evaluate(out, manifest, split="all")
    return mrigmm.report(out, interactive=True).output


def review_page(browser: Browser, predictions: Path, out: Path) -> None:
    """The first study, as the page opens it."""
    server = ReviewServer(Workbench(predictions, "A. Reader"))
    thread = threading.Thread(target=server.run)
    thread.start()
    page = browser.new_context(viewport={"width": WIDTH, "height": 760}).new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(server.url)
    page.locator("#panels[data-drawn]").wait_for()
    page.wait_for_timeout(1000)
    page.screenshot(path=out)
    page.close()
    server.close()
    thread.join()


def open_page(browser: Browser, report: Path, scheme: str) -> Page:
    context = browser.new_context(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.goto(report.as_uri(), wait_until="load")
    return page


def show(page: Page, *, hidden: str, height: int, width: int = WIDTH) -> None:
    """One study open, and parts of the page left out, so that a picture has room for the others."""
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate(
        """([study, hidden]) => {
            for (const part of document.querySelectorAll('details.study')) part.open = part.id === study;
            for (const part of document.querySelectorAll(hidden)) part.style.display = 'none';
            for (const image of document.images) image.loading = 'eager';
            scrollTo(0, 0);
        }""",
        [STUDY, hidden],
    )
    page.wait_for_function("[...document.images].every((image) => image.complete)")


if __name__ == "__main__":
    main()
