"""`mrigmm report --pdf`: the printed report, by the browser that is there."""

import re
import sys

import pytest

import mrigmm
from mrigmm.errors import InputError
from mrigmm.jobs import report
from tests.browsing import CHROMIUM
from tests.conftest import Workshop

needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pdf")
    (folder / "data").mkdir()
    workshop = Workshop(folder / "data")
    manifest = workshop.manifest([workshop.study(name, seed=i) for i, name in enumerate(("p1", "p2", "p3"))])
    mrigmm.predict(manifest, folder / "Ödem", method="map-em")
    return folder / "Ödem"


@pytest.mark.gate
@needs_browser
def test_a_page_for_the_cohort_and_one_for_each_study(cli, predictions):
    html, paper = predictions / "report.html", predictions / "report.pdf"
    result = cli("report", predictions, "--pdf")
    assert (result.code, result.out) == (0, f"report: {html}, {paper}\n")
    content = paper.read_bytes()
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", content)) == 1 + 3
    assert len(re.findall(rb"/Subtype /Image\b", content)) > 3  # of slices
    sizes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox \[([^\]]+)\]", content)}
    assert {(round(w), round(h)) for _, _, w, h in sizes} == {(595, 842)}  # A4
    assert not [file for file in predictions.iterdir() if file.name.startswith(".")]
    mrigmm.report(predictions, pdf=True)  # its own is made anew
    assert paper.read_bytes().startswith(b"%PDF-")


def test_a_file_of_somebody_else_is_not_replaced(predictions, tmp_path):
    (tmp_path / "r.pdf").write_bytes(b"%PDF-1.4 my paper")
    with pytest.raises(InputError, match="did not write"):
        mrigmm.report(predictions, out=tmp_path / "r.html", pdf=True)
    assert not (tmp_path / "r.html").exists()
    with pytest.raises(InputError, match=r"ends in \.html"):
        mrigmm.report(predictions, out=tmp_path / "s.pdf", pdf=True)


def test_without_the_package_or_a_browser_the_page_is_written_and_the_remedy_told(
    predictions, tmp_path, monkeypatch
):
    monkeypatch.setattr(report, "_BROWSERS", ("no-such-browser",))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    with pytest.raises(InputError, match="playwright install chromium"):
        mrigmm.report(predictions, out=tmp_path / "r.html", pdf=True)
    assert (tmp_path / "r.html").exists()
    assert not (tmp_path / "r.pdf").exists()
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(InputError, match=r"mrigmm\[pdf\]"):
        mrigmm.report(predictions, out=tmp_path / "r.html", pdf=True)
