"""Paths and ids of manifests that were written on another computer."""

import json
import unicodedata

import pytest

from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError, grouped

KIND = "names and paths"
CHECK = (
    "the paths and ids of a manifest against the names on disk, whatever their form of Unicode and separator"
)


def manifest(folder, studies, root=None):
    path = folder / "m.json"
    path.write_text(json.dumps({"modality": {"0": "LGE"}, "test": studies}))
    return read_manifest(path, root)


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def image(cohort):
    (study,) = cohort.split("test")
    return study.images["LGE"]


def test_separators_of_windows(tmp_path):
    """a manifest with backslashes -> the files that are meant; what leads out is refused as with slashes"""
    file = put(tmp_path / "images" / "a.nii")
    assert image(manifest(tmp_path, [{"id": "a", "image": ["images\\a.nii"]}])) == file
    assert image(manifest(tmp_path, [{"id": "a", "image": ["images\\b.nii"]}])) == file.with_name("b.nii")
    odd = put(tmp_path / "images\\c.nii")  # a name that has one
    assert image(manifest(tmp_path, [{"id": "a", "image": ["images\\c.nii"]}])) == odd
    for out in (
        "..\\a.nii",
        "images\\..\\..\\a.nii",
        "C:\\data\\a.nii",
        "D:/a.nii",
        "\\\\server\\share\\a.nii",
    ):
        with pytest.raises(InputError, match="the path leads out of the data folder"):
            manifest(tmp_path, [{"id": "a", "image": [out]}])


@pytest.mark.parametrize(("on_disk", "written"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_in_paths(tmp_path, on_disk, written):
    """names on disk and in the manifest have accents in different forms -> the files that are meant"""
    name = "Clinique Générale/Müller_LGE.nii"
    file = put(tmp_path / unicodedata.normalize(on_disk, name))
    studies = [
        {"id": unicodedata.normalize(written, "Müller"), "image": [unicodedata.normalize(written, name)]}
    ]
    cohort = manifest(tmp_path, studies)
    assert image(cohort) == file
    assert cohort.split("test")[0].id == unicodedata.normalize("NFC", "Müller")


def test_an_accent_that_is_another_file(tmp_path):
    """two files whose names differ in the form of an accent only -> the one that is written"""
    files = [put(tmp_path / unicodedata.normalize(form, "é.nii")) for form in ("NFC", "NFD")]
    for file in files:
        assert image(manifest(tmp_path, [{"id": "a", "image": [file.name]}])) == file


def test_absolute_paths_inside_the_data_folder(tmp_path):
    """absolute paths inside the data folder -> accepted, also through a link to it"""
    file = put(tmp_path / "data" / "a.nii")
    assert image(manifest(tmp_path, [{"id": "a", "image": [str(file)]}])) == file
    (tmp_path / "link").symlink_to(tmp_path / "data")
    linked = tmp_path / "link" / "a.nii"
    assert image(manifest(tmp_path, [{"id": "a", "image": [str(linked)]}], tmp_path / "link")).samefile(file)


def test_one_cause_is_one_message(tmp_path):
    """45 studies with absolute paths elsewhere -> one error with their number and the first few"""
    studies = [
        {
            "id": f"s{n:02d}",
            "image": [f"/data/{n}.nii"],
            "region": f"/data/{n}_r.nii",
            "label": f"/data/{n}_l.nii",
        }
        for n in range(45)
    ]
    with pytest.raises(InputError) as caught:
        manifest(tmp_path, studies)
    assert len(caught.value.problems) == 135
    (problem,) = grouped(caught.value.problems)
    assert problem.study == "s00, s01, s02, s03, s04, ... (45 in all)"
    assert problem.got.startswith("LGE: /data/0.nii, region: /data/0_r.nii, ")
    assert problem.got.endswith(", ... (135 in all)")
    assert str(caught.value) == str(problem)  # what a notebook shows
