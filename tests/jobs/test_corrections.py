"""Registration and bias correction as a user asks for them."""

import json

import nibabel as nib
import numpy as np
import pytest

import mrigmm
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError

QUICK = ("filters=2", "levels=1", "spacing_mm=3", "epochs=1")


def side_file(out, study):
    return json.loads((out / f"{study}.json").read_text())


@pytest.fixture(scope="module")
def study_id(cohort):
    return json.loads(cohort.read_text())["test"][0]["id"]


@pytest.mark.gate
def test_what_was_done_is_written_beside_the_labels(cli, cohort, study_id, tmp_path):
    out = tmp_path / "out"
    result = cli(
        "predict", cohort, "-o", out, "--method", "map-em", "--register", "--bias-correct", "--quiet"
    )
    assert (result.code, result.err) == (0, "")
    side = side_file(out, study_id)
    assert set(side["motion"]) == {"T2", "bSSFP"}
    for slices in side["motion"].values():
        assert len(slices) == 3
        # nothing moved; at 1.5 mm a slice is found to within about a pixel
        assert all(np.hypot(*motion["shift_mm"]) < 1.5 and motion["degrees"] == 0 for motion in slices)
    assert set(side["bias_field"]) == {"LGE", "T2", "bSSFP"}
    assert all(0.5 < field["lowest"] < 1 < field["highest"] < 2 for field in side["bias_field"].values())
    assert (out / f"{study_id}_motion.png").read_bytes().startswith(b"\x89PNG")
    labels = nib.load(out / f"{study_id}_labels.nii.gz")
    lge = nib.load(cohort.parent / "images" / f"{study_id}_LGE.nii.gz")
    np.testing.assert_array_equal(labels.affine, lge.affine)
    assert labels.shape == lge.shape
    # Again without them: nothing of it is left.
    mrigmm.predict(cohort, out, method="map-em", overwrite=True)
    assert not {"motion", "bias_field"} & set(side_file(out, study_id))
    assert not (out / f"{study_id}_motion.png").exists()


def test_a_run_reads_studies_as_it_was_trained(workshop, tmp_path):
    """The hand-made study is too small for either step, and each says so, slice by slice."""
    manifest = workshop.manifest([], training=[workshop.study()])
    run, out = tmp_path / "run", tmp_path / "out"
    trained = mrigmm.train(
        manifest, run, preset="tiny", overrides=QUICK, register=True, bias_correct=True, device="cpu"
    )
    config = RunFolder(run).read()[0]
    assert config.registration
    assert config.bias_correction
    predicted = mrigmm.predict(manifest, out, run=run, split="training", device="cpu")
    for outcome in (trained, predicted):
        said = [(p.study, p.what) for p in outcome.problems if p.severity == "warning"]
        assert ("s1", "T2, slice 3: left unregistered, too little around the region was acquired") in said
        assert any(what.startswith("LGE: the bias field was not removed") for _, what in said)
    assert side_file(out, "s1")["motion"]["bSSFP"] == [{"shift_mm": [0, 0], "degrees": 0}] * 3


def test_resuming_with_another_way_of_reading_is_refused(workshop, tmp_path):
    manifest = workshop.manifest([], training=[workshop.study()])
    mrigmm.train(manifest, tmp_path / "run", preset="tiny", overrides=QUICK, device="cpu")
    with pytest.raises(InputError, match="differs") as caught:
        mrigmm.train(
            manifest,
            tmp_path / "run",
            preset="tiny",
            overrides=QUICK,
            register=True,
            device="cpu",
            resume=True,
        )
    assert caught.value.problems[0].got == "registration=True"
