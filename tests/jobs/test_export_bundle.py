"""A run as a MONAI Bundle that MONAI itself executes."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError
from mrigmm.phantom import simulate_cohort

QUICK = ("filters=4", "levels=2", "spacing_mm=2", "epochs=1")


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    return simulate_cohort(tmp_path_factory.mktemp("c") / "cohort", n_studies=4, seed=2, preset="small")


@pytest.fixture(scope="module")
def run(studies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    mrigmm.train(studies, folder, overrides=QUICK, device="cpu")
    return folder


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    mrigmm.export_run(run, folder, format="bundle")
    return folder


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.gate
def test_monai_runs_it_on_a_study_and_writes_the_label_map_of_predict(studies, run, bundle, tmp_path):
    (study,) = read_manifest(studies).split("test")
    mrigmm.predict_study(study.images, study.region, tmp_path / "ours", study_id="7", run=run, device="cpu")
    images = [text for name, file in study.images.items() for text in (f"--images#{name}", str(file))]
    where = ["--bundle_root", str(bundle), "--output_dir", str(tmp_path / "theirs"), "--device", "cpu"]
    result = subprocess.run(
        [
            *(sys.executable, "-m", "monai.bundle", "run"),
            *("--config_file", str(bundle / "configs" / "inference.json")),
            *("--region", str(study.region), "--study_id", "7", *where, *images),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    ours, theirs = (nib.load(tmp_path / name / "7_labels.nii.gz") for name in ("ours", "theirs"))
    assert np.asarray(ours.dataobj).tobytes() == np.asarray(theirs.dataobj).tobytes()
    np.testing.assert_array_equal(ours.affine, theirs.affine)
    assert np.asarray(ours.dataobj).any()


def test_what_it_holds(run, bundle):
    assert files_in(bundle) == [
        "LICENSE",
        *("configs/inference.json", "configs/metadata.json"),
        "docs/README.md",
        *(f"models/{name}" for name in ("config.yaml", "multiscale_prior.json", "prior.json", "run.json")),
        "models/weights.safetensors",
    ]
    weights = RunFolder(bundle / "models").weights.read_bytes()
    assert weights == RunFolder(run).weights.read_bytes()
    card = (run / "model_card.md").read_text()
    readme = (bundle / "docs" / "README.md").read_text()
    assert readme.startswith(card)
    assert "python -m monai.bundle run" in readme
    assert "No licence is given" in (bundle / "LICENSE").read_text()


def test_the_training_studies_stay_behind(run, bundle):
    ids = RunFolder(run).read()[1].training_studies
    assert ids
    for file in files_in(bundle):
        content = (bundle / file).read_bytes()
        assert not any(study.encode() in content for study in ids), file


def test_metadata(bundle):
    found = json.loads((bundle / "configs" / "metadata.json").read_text())
    wanted = ("version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version")
    wanted += ("task", "description", "authors", "copyright", "network_data_format", "schema")
    assert set(wanted) <= set(found)
    assert found["required_packages_version"]["mrigmm"] == mrigmm.__version__
    assert "ot for clinical use" in found["intended_use"]
    image = found["network_data_format"]["inputs"]["image"]
    assert image["num_channels"] == 6
    assert image["spatial_shape"] == ["4*n", "4*m"]  # two poolings
    assert list(image["channel_def"].values()) == ["LGE", "T2", "bSSFP", "cavity", "wall", "depth"]
    pred = found["network_data_format"]["outputs"]["pred"]
    assert pred["channel_def"] == {"0": "myocardium", "1": "edema", "2": "scar"}


def test_bad_requests(cli, run, bundle, tmp_path):
    with pytest.raises(InputError, match="already has results"):
        mrigmm.export_run(run, bundle, format="bundle")
    unfinished = RunFolder(tmp_path / "unfinished")
    unfinished.write_settings(RunFolder(run).read()[0], None, None)
    with pytest.raises(InputError, match="the run is not finished"):
        mrigmm.export_run(unfinished.path, tmp_path / "b", format="bundle")
    with pytest.raises(InputError, match="the run folder does not exist"):
        mrigmm.export_run(tmp_path / "no", tmp_path / "b", format="bundle")
    result = cli("export", run, "-o", tmp_path / "b", "--format", "bundle", "--scheme", "myops")
    assert result.code == 2
    assert not (tmp_path / "b").exists()
    result = cli("export", run, "-o", tmp_path / "b", "--format", "bundle")
    assert (result.code, result.out) == (0, f"exported: {tmp_path / 'b'}\n")
