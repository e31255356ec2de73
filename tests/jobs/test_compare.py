import json

import numpy as np
import pytest

import mrigmm
from mrigmm.errors import InputError

from ..conftest import oblique_affine, ventricle
from .test_evaluate import prediction

CLASSES = ("blood", "myocardium", "edema", "scar", "wall", "pathology")


@pytest.fixture
def folders(tmp_path):
    """Two folders: the first one's studies a, b and c are right, the second takes scar for edema in a."""
    truth = ventricle()
    made = [tmp_path / "first", tmp_path / "second"]
    for folder in made:
        folder.mkdir()
        for study in "abc":
            wrong = folder.name == "second" and study == "a"
            prediction(folder, study, np.where(truth == 4, 3, truth).astype(np.uint8) if wrong else truth)
    return made


def test_differences_and_files(workshop, folders):
    manifest = workshop.manifest([workshop.study(study) for study in "abc"])
    result = mrigmm.compare(*folders, manifest)
    assert result.output == folders[0] / "comparison.json"
    assert (result.done, result.problems, result.names) == (("a", "b", "c"), (), ("first", "second"))
    content = json.loads(result.output.read_text())
    assert content["folders"] == {folder.name: str(folder) for folder in folders}
    scar = content["metrics"]["dice"]["scar"]
    assert (scar["first_mean"], scar["second_mean"]) == (1, pytest.approx(2 / 3))
    assert scar["difference"]["mean"] == pytest.approx(1 / 3)
    assert scar["pairs"] == {"a": [1, 0], "b": [1, 1], "c": [1, 1]}
    assert list(content["metrics"]["dice"]) == list(CLASSES)
    # No boundary of the scar that is not there: that study is left out, and counted.
    hd95 = content["metrics"]["hd95_mm"]["scar"]
    assert (hd95["difference"]["n"], hd95["difference"]["n_unpaired"]) == (2, 1)
    error = content["metrics"]["volume_error_ml"]["scar"]["difference"]["mean"]
    assert error == pytest.approx(-(ventricle() == 4).sum() * 0.0144 / 3, rel=1e-5)
    table = (folders[0] / "comparison.md").read_text()
    assert "| scar | 1.000 | 0.667 | +0.333 | +0.000 to +1.000 | 1.000 | 1.000 | 3 | 0 |" in table
    assert "corrected for the 6 classes" in table
    assert (folders[0] / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_a_study_that_one_folder_lacks(workshop, folders, tmp_path):
    (folders[1] / "b.json").unlink()
    manifest = workshop.manifest([workshop.study(study) for study in "abc"])
    result = mrigmm.compare(*folders, manifest, out=tmp_path / "new")
    assert result.done == ("a", "c")
    assert [(p.study, p.what, p.file) for p in result.problems] == [
        ("b", "the study has no prediction", str(folders[1] / "b.json"))
    ]
    assert json.loads(result.output.read_text())["not_compared"] == ["b"]
    assert not (folders[0] / "comparison.json").exists()


def test_new_predictions_end_an_old_comparison(workshop, folders):
    manifest = workshop.manifest([workshop.study(study) for study in "abc"])
    mrigmm.compare(*folders, manifest)
    mrigmm.predict(manifest, folders[0], method="otsu", overwrite=True)
    assert not list(folders[0].glob("comparison.*"))


def test_what_cannot_be_compared(workshop, folders, tmp_path):
    manifest = workshop.manifest([workshop.study("a")])
    with pytest.raises(InputError, match="a folder is given twice"):
        mrigmm.compare(folders[0], tmp_path / "second" / ".." / "first", manifest)
    with pytest.raises(InputError, match="the folder of predictions does not exist"):
        mrigmm.compare(folders[0], tmp_path / "none", manifest)
    with pytest.raises(InputError, match="the study has no prediction"):
        mrigmm.compare(*folders, workshop.manifest([workshop.study("z")]))
    prediction(folders[1], "a", (ventricle() == 1).astype(np.uint8), oblique_affine(), {"blood": 1})
    only = np.where(ventricle() == 2, 2, 0).astype(np.uint8)
    prediction(folders[0], "a", only, oblique_affine(), {"myocardium": 2})
    with pytest.raises(InputError, match="no class in common"):
        mrigmm.compare(*folders, workshop.manifest([workshop.study("a")]))


def test_on_the_command_line(cli, workshop, folders):
    manifest = workshop.manifest([workshop.study(study) for study in "abc"])
    result = cli("compare", *folders, manifest)
    assert result.code == 0
    assert "+0.333" in result.out
    assert result.out.endswith(f"compared 3 studies; comparison: {folders[0] / 'comparison.json'}\n")
    (folders[1] / "c_labels.nii.gz").unlink()
    result = cli("compare", *folders, manifest)
    assert (result.code, "study: c" in result.err) == (2, True)
