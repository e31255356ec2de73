import csv
import json

import nibabel as nib
import numpy as np
import pytest

import mrigmm
from mrigmm.errors import InputError

from ..conftest import oblique_affine, ventricle
from .test_evaluate import CLASSES, prediction


@pytest.fixture
def folders(tmp_path):
    """Three folders with studies a and b; the third takes the scar of a for edema."""
    truth = ventricle()
    made = [tmp_path / name for name in ("x", "y", "z")]
    for folder in made:
        folder.mkdir()
        prediction(folder, "a", np.where((truth == 4) & (folder.name == "z"), 3, truth).astype(np.uint8))
        prediction(folder, "b", truth)
    return made


def test_maps_and_numbers(folders, tmp_path):
    truth = ventricle()
    e, s = int((truth == 3).sum()), int((truth == 4).sum())
    result = mrigmm.agreement(folders, tmp_path / "out")
    assert (result.done, result.names) == (("a", "b"), ("x", "y", "z"))
    image = nib.load(tmp_path / "out" / "a_agreement.nii.gz")
    expected = np.where(truth == 4, 2 / 3, truth > 0)
    np.testing.assert_allclose(image.get_fdata(), expected, rtol=1e-6)
    label = nib.load(folders[0] / "a_labels.nii.gz")
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(image.affine, label.affine)
    assert int(image.header["sform_code"]) == int(label.header["sform_code"])
    assert int(image.header["intent_code"]) == 0  # no label map
    content = json.loads((tmp_path / "out" / "agreement.json").read_text())
    n = int((truth > 0).sum())
    assert content["studies"]["a"]["unanimous"] == pytest.approx(1 - s / n)
    assert content["studies"]["a"]["mean"] == pytest.approx(1 - s / n / 3)
    assert content["studies"]["a"]["dice"]["scar"] == pytest.approx((1 + 0 + 0) / 3)
    assert content["summary"]["edema"]["dice"]["mean"] == pytest.approx(
        ((1 + 2 * 2 * e / (2 * e + s)) / 3 + 1) / 2
    )
    assert content["summary"]["scar"]["volume_icc"]["value"] is None  # of two studies
    rows = list(csv.DictReader((tmp_path / "out" / "agreement.csv").read_text().splitlines()))
    assert [r["dice"] for r in rows if (r["study"], r["class"]) == ("a", "scar")] == ["1", "0", "0"]
    assert (rows[1]["first"], rows[1]["second"]) == ("x", "z")


def test_studies_that_cannot_be_compared_do_not_stop_the_others(folders, tmp_path):
    truth = ventricle()
    for folder in folders:
        for study in ("classes", "grid", "alone"):
            prediction(folder, study, truth)
    prediction(folders[1], "grid", truth, oblique_affine(origin_mm=(0, 0, 0)))
    prediction(folders[2], "classes", truth, classes={"a": 1, "b": 2, "c": 3, "d": 4})
    (folders[0] / "alone_labels.nii.gz").unlink()
    (folders[0] / "alone.json").unlink()
    result = mrigmm.agreement(folders, tmp_path / "out")
    assert result.done == ("a", "b")
    assert [(p.study, p.what) for p in result.problems] == [
        ("alone", "the study has no prediction"),
        ("classes", "the folders have other classes"),
        ("grid", "the predicted label map is not on the grid of the reference sequence"),
    ]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.nii.gz")) == [
        "a_agreement.nii.gz",
        "b_agreement.nii.gz",
    ]


def test_ids_are_matched_by_name(folders, tmp_path):
    shifted = np.where(ventricle() > 0, ventricle() + 10, 0).astype(np.uint8)
    prediction(folders[1], "b", shifted, classes={name: i + 10 for name, i in reversed(CLASSES.items())})
    result = mrigmm.agreement(folders, tmp_path / "out")
    assert result.studies["b"].unanimous == 1


def test_what_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match="two folders at least"):
        mrigmm.agreement(folders[:1], tmp_path / "out")
    with pytest.raises(InputError, match="a folder is given twice"):
        mrigmm.agreement([folders[0], folders[0]], tmp_path / "out")
    with pytest.raises(InputError, match="does not exist"):
        mrigmm.agreement([folders[0], tmp_path / "no"], tmp_path / "out")
    with pytest.raises(InputError, match="would replace an input"):
        mrigmm.agreement(folders, folders[1])
    for name in ("empty", "bare"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="there are no label maps"):
        mrigmm.agreement([tmp_path / "empty", tmp_path / "bare"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_on_the_command_line(cli, folders, tmp_path):
    out = tmp_path / "out"
    result = cli("agreement", *folders, "-o", out)
    assert result.code == 0, result.err
    assert result.out.endswith(f"compared 2 studies; agreement: {out / 'agreement.json'}\n")
    assert "scar" in result.out
    again = cli("agreement", *folders, "-o", out)
    assert (again.code, "--overwrite" in again.err) == (2, True)
    assert cli("agreement", *folders, "-o", out, "--overwrite").code == 0
