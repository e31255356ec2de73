"""Files of one study id that are not of one study."""

import pytest

import mrigmm
from mrigmm.errors import InputError

from ...conftest import PATIENT

KIND = "files of one id"
CHECK = "the digests of the images in a side file with the images of the manifest, and of other predictions"


@pytest.fixture
def two(workshop, tmp_path):
    """Manifests of two patients of one id, and a folder of predictions of each."""
    folders = [tmp_path / "p0", tmp_path / "p1"]
    manifests = []
    for seed, folder in enumerate(folders):
        study = workshop.study(f"x{seed}", seed=seed, affine=PATIENT) | {"id": "s1"}
        manifests.append(workshop.manifest([study], name=f"m{seed}.json"))
        mrigmm.predict(manifests[-1], folder, method="map-em")
    return manifests, folders


def warned(found, what):
    return [(p.study, p.severity) for p in found.problems if what in p.what]


def test_predictions_of_another_patient(two, tmp_path):
    """predictions of another cohort with the same ids -> a warning by evaluate, compare and quantify"""
    manifests, folders = two
    what = "the LGE that the manifest names is not the one that was segmented"
    assert warned(mrigmm.evaluate(folders[0], manifests[1]), what) == [("s1", "warning")]
    assert not warned(mrigmm.evaluate(folders[0], manifests[0]), what)
    what = "the predictions are of other images: two files of LGE"
    assert warned(mrigmm.compare(*folders, out=tmp_path / "c"), what) == [("s1", "warning")]
    assert warned(mrigmm.quantify(folders[0], members=[folders[1]]), what) == [("s1", "warning")]


def test_a_member_that_is_the_folder(two):
    """`quantify --member` of the folder itself -> refused: it agrees with itself"""
    with pytest.raises(InputError, match="a folder is given twice"):
        mrigmm.quantify(two[1][0], members=[two[1][0]])


def test_a_label_map_that_is_gone(workshop, tmp_path):
    """a side file whose label map was moved away -> named by quantify and report, not passed over"""
    studies = [workshop.study(name, seed=i, affine=PATIENT) for i, name in enumerate(("a", "b"))]
    mrigmm.predict(workshop.manifest(studies), tmp_path / "out", method="map-em")
    (tmp_path / "out" / "a_labels.nii.gz").unlink()
    for found in (mrigmm.quantify(tmp_path / "out"), mrigmm.report(tmp_path / "out")):
        assert warned(found, "no prediction: the label map is not there any more") == [("a", "warning")]
