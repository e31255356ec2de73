"""The server of `mrigmm review` without a browser: what it writes, and whom it refuses."""

import base64
import csv
import gzip
import io
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import nibabel as nib
import numpy as np
import pytest
from werkzeug.test import Client

import mrigmm
from mrigmm.data.files import locked
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError
from mrigmm.jobs.reviewing.server import ReviewServer
from mrigmm.jobs.reviewing.workbench import Workbench

from ...conftest import hear_interrupts
from .conftest import STUDY, TURNED, voxel_ml

EVIL = "</script><script>document.title='run'</script>"


class Page:
    """Speaks to a server as its page does."""

    def __init__(self, folder):
        self.server = ReviewServer(Workbench(folder, "Ann"))
        self.client = Client(self.server)
        self.own = f"http://127.0.0.1:{self.server.port}"

    def ask(self, path, method="GET", token=None, **options):
        token = self.server.token if token is None else token
        return self.client.open(
            f"/{token}/{path}", method=method, **{"base_url": self.own, "headers": {}, **options}
        )

    def show(self, study=STUDY):
        answer = self.ask(f"studies/{study}")
        assert answer.status_code == 200, answer.text
        return answer.json

    def save(self, study=STUDY, *, shown=None, **changes):
        body = {"revision": (shown or self.show(study))["revision"], **changes}
        return self.ask(f"studies/{study}", "POST", json=body)

    def close(self):
        self.server.close()
        self.server.bench.tables.finish()


@pytest.fixture
def page(folder):
    page = Page(folder)
    yield page
    page.close()


def volume(text):
    """A volume of the viewer: (to the right, up, slice)."""
    file = nib.Nifti1Image.from_stream(io.BytesIO(gzip.decompress(base64.b64decode(text))))
    return np.asarray(file.dataobj)


def sent(ids):
    return base64.b64encode(ids.astype(np.uint8).tobytes(order="F")).decode()


def on_disk(folder, study=STUDY, kind="labels"):
    return nib.load(folder / f"{study}_{kind}.nii.gz")


def review_of(folder, study=STUDY):
    return json.loads((folder / f"{study}.json").read_text())["review"]


def direction(letters):
    """Main direction (RAS+) of an edge of the picture."""
    return {"R": (1, 0), "L": (-1, 0), "A": (1, 1), "P": (-1, 1), "S": (1, 2), "I": (-1, 2)}[letters[0]]


def test_the_page_comes_with_its_policy(page):
    answer = page.ask("")
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert (answer.headers["Referrer-Policy"], answer.headers["Cache-Control"]) == ("no-referrer", "no-store")
    for name in ("review.js", "review.css", "niivue.js"):
        assert page.ask(name).status_code == 200
    listed = page.ask("studies").json
    assert [study["id"] for study in listed["studies"]] == [TURNED, STUDY]
    assert (listed["by"], listed["train"]) == ("Ann", None)


@pytest.mark.parametrize("study", [STUDY, TURNED])
def test_a_voxel_is_saved_where_it_is_shown(page, folder, study):
    """Two corners of the picture, whose places in the world the letters at its edges name."""
    shown = page.show(study)
    ids = volume(shown["labels"])
    before = np.asarray(on_disk(folder, study).dataobj)
    places = {}
    for name, corner in {"origin": (0, 0), "right": (-1, 0), "up": (0, -1)}.items():
        drawn = ids.copy()
        drawn[(*corner, 1)] = 4
        answer = page.save(study, labels=sent(drawn))
        assert answer.status_code == 200, answer.text
        written = on_disk(folder, study)
        (changed,) = np.argwhere(np.asarray(written.dataobj) != before)
        places[name] = nib.affines.apply_affine(written.affine, changed)
    assert ids[0, 0, 1] == 0
    top, right, _, _ = shown["edges"]
    for name, letters in {"right": right, "up": top}.items():
        sign, axis = direction(letters)
        step = places[name] - places["origin"]
        assert np.argmax(np.abs(step)) == axis
        assert np.sign(step[axis]) == sign


def test_what_is_saved_lies_on_the_grid_and_beside_the_programs_own_map(page, folder):
    program = (folder / f"{STUDY}_labels.nii.gz").read_bytes()
    before = on_disk(folder)
    old = np.asarray(before.dataobj)
    shown = page.show()
    drawn = volume(shown["labels"]).copy()
    drawn[drawn == 2] = 4
    answer = page.save(labels=sent(drawn), comment=EVIL).json
    written = on_disk(folder)
    assert written.header == before.header
    assert (folder / f"{STUDY}_labels_original.nii.gz").read_bytes() == program
    ids = np.asarray(written.dataobj)
    np.testing.assert_array_equal(ids, np.where(old == 2, 4, old))
    # All of the wall but edema is infarct now.
    numbers = {row["title"]: row for row in answer["quantities"]}
    grams = (ids == 4).sum() * voxel_ml(written) * 1.05
    assert numbers["infarct (g)"]["value"] == pytest.approx(grams)
    assert numbers["infarct (g)"]["program"] == pytest.approx((old == 4).sum() * voxel_ml(written) * 1.05)
    assert (answer["edited"], answer["review"]["edited_by"]) == (True, "Ann")
    assert review_of(folder)["edited_at"] == review_of(folder)["at"] > "2026"
    assert review_of(folder)["comment"] == EVIL
    assert base64.b64decode(answer.get("original") or page.show()["original"]) == volume(
        shown["labels"]
    ).tobytes(order="F")
    # Back to the program's map: no longer edited, and the copy stays.
    answer = page.save(labels=page.show()["original"]).json
    assert not answer["edited"]
    assert (folder / f"{STUDY}_labels_original.nii.gz").read_bytes() == program


def test_of_a_map_that_another_program_changed_no_copy_is_called_the_programs(page, folder):
    image = on_disk(folder)
    ids = np.asarray(image.dataobj).copy()
    ids[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(ids, image.affine, image.header), folder / f"{STUDY}_labels.nii.gz")
    shown = page.show()
    assert (shown["edited"], shown["original"]) == (True, None)
    drawn = volume(shown["labels"]).copy()
    drawn[1, 1, 1] = 4
    assert page.save(labels=sent(drawn)).status_code == 200
    assert not (folder / f"{STUDY}_labels_original.nii.gz").exists()


def test_tables_and_the_manifest_of_checked_maps(page, folder, predicted):
    mrigmm.quantify(folder, manifest=predicted / "data" / "manifest.json")
    shown = page.show()
    drawn = volume(shown["labels"]).copy()
    drawn[drawn == 2] = 4
    told = page.save(labels=sent(drawn)).json
    page.save(verdict="accepted")
    page.save(TURNED, verdict="rejected", comment="motion")
    page.server.bench.tables.finish()
    with (folder / "quantities.csv").open() as file:
        rows = {row["study"]: row for row in csv.DictReader(file)}
    assert (rows[STUDY]["edited"], rows[STUDY]["review"]) == ("yes", "accepted")
    assert (rows[TURNED]["edited"], rows[TURNED]["review"]) == ("no", "rejected")
    value = next(row["value"] for row in told["quantities"] if row["title"] == "infarct (g)")
    assert float(rows[STUDY]["infarct_mass_g"]) == pytest.approx(value, rel=1e-5)
    assert rows[STUDY]["reference_infarct_mass_g"] == rows[TURNED]["reference_infarct_mass_g"] != ""
    command = shlex.split(told["train"])
    assert command[:4] == ["mrigmm", "train", str(folder / "corrected.json"), "--labels"]
    root = Path(command[command.index("--data-root") + 1])
    manifest = read_manifest(folder / "corrected.json", data_root=root)
    (study,) = manifest.split("training")
    assert (study.id, study.label) == (STUDY, (folder / f"{STUDY}_labels.nii.gz").resolve())
    assert all(file.exists() for file in study.images.values())
    assert dict(manifest.labels)["scar"] == (4,)
    page.save(verdict="rejected")
    page.server.bench.tables.finish()
    assert not (folder / "corrected.json").exists()
    assert page.ask("studies").json["checked"] == 0


def test_an_insertion_numbers_the_segments_as_quantify_does(page, folder):
    shown = page.show()
    assert shown["bulls_eye"] is None  # nothing tells base and septum
    ids = volume(shown["labels"])
    x = int(np.flatnonzero((ids[..., 1] > 0).any(axis=1))[0])  # at the left edge of the wall
    y = (ids.shape[1] - 1) / 2
    answer = page.save(insertion=[x, y, 1], base="first").json
    assert "by the insertion point that was given" in answer["bulls_eye"]["numbered_by"]
    assert answer["insertion"]["given"] == pytest.approx([x, y, 1], abs=1e-3)
    assert len(answer["insertion"]["slices"]) == 3
    assert all(abs(place[0] - x) <= 1 for place in answer["insertion"]["slices"])
    page.server.bench.tables.finish()
    point = review_of(folder)["insertion_mm"]
    table = folder.parent / "points.csv"
    table.write_text(f"study,x_mm,y_mm,z_mm\n{STUDY},{','.join(map(str, point))}\n")
    review = json.loads((folder / "quantities.json").read_text())["studies"][STUDY]["segments"]
    mrigmm.quantify(folder)
    assert json.loads((folder / "quantities.json").read_text())["studies"][STUDY]["segments"] == review
    side = folder / f"{STUDY}.json"
    side.write_text(json.dumps({**json.loads(side.read_text()), "review": None}))
    mrigmm.quantify(folder, rv_insertion=table, base="first")
    assert json.loads((folder / "quantities.json").read_text())["studies"][STUDY]["segments"] == review
    assert len(review) == 16
    answer = page.save(insertion=None).json
    assert answer["bulls_eye"] is None


def test_who_comes_second_is_refused(page, folder):
    shown = page.show()
    drawn = volume(shown["labels"]).copy()
    drawn[0, 0, 0] = 4
    assert page.save(shown=shown, labels=sent(drawn)).status_code == 200
    kept = (folder / f"{STUDY}_labels.nii.gz").read_bytes()
    answer = page.save(shown=shown, labels=sent(np.zeros_like(drawn)), comment="second")
    assert answer.status_code == 409
    assert "changed by Ann at" in answer.text
    assert (folder / f"{STUDY}_labels.nii.gz").read_bytes() == kept
    assert review_of(folder)["comment"] == ""


def test_while_another_process_writes_nothing_is_saved(page, folder):
    with locked(folder):
        answer = page.save(comment="x")
    assert answer.status_code == 422
    assert "another process is writing" in answer.text
    assert "review" not in json.loads((folder / f"{STUDY}.json").read_text())


def test_that_tables_cannot_be_written_is_told(page, folder):
    (folder / "quantities.json").unlink()
    (folder / "quantities.json").mkdir()
    assert page.save(verdict="accepted").status_code == 200
    with pytest.raises(InputError, match="quantities"):
        page.server.bench.tables.finish()
    assert "quantities" in page.ask("studies").json["tables_failed"]
    (folder / "quantities.json").rmdir()
    page.save(verdict="rejected")
    page.server.bench.tables.finish()
    assert page.ask("studies").json["tables_failed"] is None


def test_predict_replaces_no_review(page, folder, predicted):
    page.save(comment="kept")
    with pytest.raises(InputError, match="what a reviewer decided") as caught:
        mrigmm.predict(predicted / "data" / "manifest.json", folder, method="map-em", overwrite=True)
    assert [problem.study for problem in caught.value.problems] == [STUDY]
    assert review_of(folder)["comment"] == "kept"


def test_reviews_that_a_killed_server_left_get_into_the_tables(page, folder):
    page.save(verdict="accepted")
    page.server.bench.tables.finish()
    (folder / "quantities.json").unlink()
    (folder / "corrected.json").unlink()
    Workbench(folder, "Ben").tables.finish()
    assert STUDY in json.loads((folder / "quantities.json").read_text())["studies"]
    assert (folder / "corrected.json").exists()


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"token": "wrong"}, 403),
        ({"token": ""}, 403),
        ({"token": "tökén"}, 403),
        ({"base_url": "http://example.org"}, 421),
        ({"base_url": "http://127.0.0.1"}, 421),  # another port
        ({"headers": {"Origin": "https://example.org"}}, 403),
        ({"headers": {"Origin": "null"}}, 403),
        ({"headers": {"Sec-Fetch-Site": "cross-site"}}, 403),
    ],
    ids=str,
)
def test_strangers_are_refused(page, folder, options, status):
    for path, method in (("", "GET"), ("studies", "GET"), (f"studies/{STUDY}", "POST")):
        answer = page.ask(path, method, json={} if method == "POST" else None, **options)
        assert answer.status_code == status
        assert STUDY not in answer.text
    assert "review" not in json.loads((folder / f"{STUDY}.json").read_text())


@pytest.mark.parametrize(
    "study",
    ["..", "../out/p1", "..%2f..%2fdata%2fp1", "%2e%2e%2fp1", "/etc/passwd", "p1%00", "p1_labels", "p3"],
)
def test_ids_are_no_paths(page, study):
    assert page.ask(f"studies/{study}").status_code in (404, 405)
    answer = page.ask(f"studies/{study}", "POST", json={"revision": ""})
    assert answer.status_code in (404, 405)
    for name in ("..%2freview.js", "../__init__.py", "index.html", "%2e%2e"):
        assert page.ask(name).status_code == 404


def _sent(page, change):
    shown = page.show()
    return change(shown, volume(shown["labels"]).copy())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda _, ids: {"labels": sent(np.where(ids == 4, 9, ids))}, "id of no class"),
        (lambda _, ids: {"labels": sent(ids[1:])}, "not one of this study"),
        (lambda _, ids: {"labels": "?" * 10}, "not one of this study"),
        (lambda *_: {"labels": [1, 2]}, "labels"),
        (lambda *_: {"verdict": "maybe"}, "verdict"),
        (lambda *_: {"comment": "x" * 5001}, "comment"),
        (lambda *_: {"insertion": [1, 2]}, "three finite numbers"),
        (lambda *_: {"insertion": [900, 900, 1]}, "more than 40 mm"),
        (lambda *_: {"insertion": "there"}, "insertion"),
        (lambda *_: {"path": "/tmp/x"}, "path"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(page, folder, change, text):
    files = {file: file.read_bytes() for file in folder.iterdir()}
    answer = page.save(**_sent(page, change))
    assert answer.status_code == 422
    assert text in answer.text
    assert {file: file.read_bytes() for file in folder.iterdir()} == files


def test_bodies_that_are_too_large_or_no_json(page):
    body = b"{" + b" " * 200_000
    assert page.ask(f"studies/{STUDY}", "POST", data=body, content_type="application/json").status_code == 413
    assert page.ask(f"studies/{STUDY}", "POST", data=b"{}", content_type="text/plain").status_code == 415
    broken = page.ask(f"studies/{STUDY}", "POST", data=b"{", content_type="application/json")
    assert broken.status_code == 422
    nan = b'{"revision": "", "insertion": [NaN, 1, 1]}'
    assert page.ask(f"studies/{STUDY}", "POST", data=nan, content_type="application/json").status_code in (
        409,
        422,
    )


def test_a_damaged_study_does_not_stop_the_others(page, folder):
    (folder / f"{TURNED}.json").write_text("{")
    assert [study["id"] for study in page.ask("studies").json["studies"]] == [TURNED, STUDY]
    answer = page.ask(f"studies/{TURNED}")
    assert answer.status_code == 422
    assert "damaged" in answer.text
    assert page.save(comment="x").status_code == 200


def test_studies_without_images_are_shown_all_the_same(page, folder):
    side = folder / f"{STUDY}.json"
    side.write_text(json.dumps({**json.loads(side.read_text()), "inputs": {"LGE": "/nowhere/lge.nii.gz"}}))
    shown = page.show()
    assert "does not exist" in shown["images_note"]
    assert volume(shown["sequences"][0]["data"]).max() == 0


def test_a_port_that_is_taken_and_a_folder_without_predictions(page, folder, tmp_path):
    with pytest.raises(InputError, match="port"):
        ReviewServer(page.server.bench, page.server.port)
    with pytest.raises(InputError, match="port"):
        ReviewServer(page.server.bench, 70_000)
    with pytest.raises(InputError, match="no label maps"):
        mrigmm.review(tmp_path / "out" / "..", browser=False)


def test_the_command_tells_the_address_and_opens_it(cli, folder, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(ReviewServer, "run", lambda server: None)  # ended at once
    result = cli("review", folder, "--by", "Ann")
    assert (result.code, result.out) == (0, f"reviewed 0 studies: {folder}\n")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", opened[0])
    assert f"review: {opened[0]}\n" in result.err
    assert cli("review", folder, "--no-browser").code == 0
    assert len(opened) == 1


@pytest.mark.gate
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_in_order(folder, number):
    command = [sys.executable, "-m", "mrigmm", "review", str(folder), "--no-browser"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=hear_interrupts) as process:
        address = process.stderr.readline().removeprefix("review: ").strip()
        with urlopen(address, timeout=600) as answer:  # it is running
            assert answer.status == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=600)
    assert (process.returncode, out) == (0, f"reviewed 0 studies: {folder}\n")
    assert "Traceback" not in err
