"""The printed report, by a Chromium without a screen. Needs the extra `pdf`."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mrigmm.data.files import atomic
from mrigmm.errors import InputError, missing_extra

PDF_MARK = "(mrigmm report)"  # its title, near the beginning of the file
# Programs that a system may have; without one, the browser that playwright installs.
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")
_PATIENCE_MS = 600_000  # of hundreds of studies


def write_pdf(html: Path, path: Path) -> None:
    """Print a report: a study to a page, nothing that only works on a screen.

    Args:
        html: the page that `render_report` made.
        path: file to write.

    Raises:
        InputError: there is no such package or no browser, or it cannot print.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise missing_extra("pdf", error) from None

    def printed() -> None:
        with atomic(path) as temporary, sync_playwright() as engine:
            browser = engine.chromium.launch(
                executable_path=next(filter(None, map(shutil.which, _BROWSERS)), None)
            )
            page = browser.new_page(offline=True)
            page.set_default_timeout(_PATIENCE_MS)
            page.goto(html.resolve().as_uri())
            page.evaluate(
                "() => { document.title = 'mrigmm report'; dispatchEvent(new Event('beforeprint')); }"
            )
            page.evaluate("() => Promise.all([...document.images].map((image) => image.decode()))")
            page.pdf(path=temporary, prefer_css_page_size=True)
            browser.close()

    with ThreadPoolExecutor(1) as thread:  # notebooks have a loop of their own, in which it refuses to work
        try:
            thread.submit(printed).result()
        except Error as error:
            raise InputError(
                "the report cannot be printed",
                file=path,
                expected="Chromium, Chrome or Edge on the PATH, or the browser that playwright installs",
                got=error.message.splitlines()[0],
                remedy="install Chromium, or: playwright install chromium",
            ) from None
