"""`mrigmm export` and prediction with what it wrote."""

import hashlib
import json
import shutil

import nibabel as nib
import numpy as np
import onnx
import pytest

import mrigmm
from mrigmm.config import make_config
from mrigmm.data.run_folder import RunFolder, RunRecord
from mrigmm.errors import InputError
from mrigmm.methods.deep_gmm import build_network
from mrigmm.phantom import simulate_cohort

DEFAULT = ("filters=4", "levels=2", "spacing_mm=2", "epochs=2")
# Without a prior the components are put in order after training.
PUBLISHED = ("mean_regulariser=0", "filters=4", "levels=2", "spacing_mm=2", "epochs=2", "order_by=[LGE]")


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    return simulate_cohort(tmp_path_factory.mktemp("c") / "cohort", n_studies=4, seed=6, preset="small")


@pytest.fixture(scope="module", params=["default", "deepsvg"])
def run(request, studies, tmp_path_factory):
    """A trained run with its exported network."""
    folder = tmp_path_factory.mktemp("run") / "run"
    overrides = DEFAULT if request.param == "default" else PUBLISHED
    mrigmm.train(studies, folder, preset=request.param, overrides=overrides, device="cpu")
    mrigmm.export_run(folder, folder / "network.onnx", format="onnx")
    return folder


def properties(file):
    return {p.key: p.value for p in onnx.load(file).metadata_props}


def maps(folder, suffix):
    files = sorted(folder.glob(f"*_{suffix}.nii.gz"))
    assert files
    return [np.asarray(nib.load(file).dataobj) for file in files]


def test_metadata(run):
    found = properties(run / "network.onnx")
    config, record, _ = RunFolder(run).read()
    assert json.loads(found["config"]) == config.model_dump(mode="json")
    assert json.loads(found["sequences"]) == ["LGE", "T2", "bSSFP"]
    assert json.loads(found["classes"]) == ["blood", "myocardium", "edema", "scar"]
    assert json.loads(found["spacing_mm"]) == 2.0
    assert json.loads(found["divisible_by"]) == 4
    assert found["mrigmm_version"] == mrigmm.__version__
    assert "ot for clinical use" in found["disclaimer"]
    channels, classes = json.loads(found["input_channels"]), json.loads(found["output_classes"])
    if config.objective == "gem":
        assert channels == ["LGE", "T2", "bSSFP", "cavity", "wall", "depth"]
        assert classes == ["myocardium", "edema", "scar"]
        assert "normal wall in 2 of its SDs" in found["input_units"]
    else:
        assert channels == ["LGE", "T2", "bSSFP"]
        assert found["input_units"] == "z-score over the crop, per slice, 0 where not acquired"
        assert found["method"] == "deepsvg"
        assert [classes[output] for output in record.component_order] == list(record.classes)
    assert not any(study in str(found) for study in record.training_studies)


def test_output_classes_stand_in_the_order_of_the_outputs(tmp_path):
    """Entry k of the component order is the output that is class k: here blood is output 2."""
    folder = untrained(tmp_path / "run", component_order=(2, 0, 1))
    mrigmm.export_run(folder, tmp_path / "n.onnx", format="onnx")
    assert json.loads(properties(tmp_path / "n.onnx")["output_classes"]) == ["myocardium", "scar", "blood"]


def untrained(path, *overrides, component_order=(0, 1, 2)):
    """A finished run of three classes with random weights."""
    config = make_config("deepsvg", (*PUBLISHED, *overrides))
    config = config.model_copy(
        update={"sequences": ("LGE",), "classes": ("blood", "myocardium", "scar"), "spacing_mm": 2.0}
    )
    folder = RunFolder(path)
    folder.write_settings(config, None, None)
    folder.write_weights(build_network(config, None))
    folder.write_record(
        RunRecord(
            classes=config.classes,
            sequences=config.sequences,
            component_order=component_order,
            training_studies=(),
            versions={},
        )
    )
    return path


@pytest.mark.parametrize(
    ("overrides", "got"),
    [
        (("spatial_dims=3", "scope=study"), "spatial_dims=3, parameters=mstep"),
        (("parameters=head",), "spatial_dims=2, parameters=head"),
    ],
)
def test_networks_that_are_more_than_a_unet_of_slices_are_refused(tmp_path, overrides, got):
    folder = untrained(tmp_path / "run", *overrides)
    with pytest.raises(InputError, match="this network cannot be exported") as caught:
        mrigmm.export_run(folder, tmp_path / "n.onnx", format="onnx")
    assert caught.value.problems[0].got == got
    assert not (tmp_path / "n.onnx").exists()


def test_prediction_is_that_of_torch(run, studies, tmp_path):
    for runtime in ("torch", "onnx"):
        mrigmm.predict(
            studies, tmp_path / runtime, run=run, split="all", runtime=runtime, save_probabilities=True
        )
    one, other = maps(tmp_path / "torch", "labels"), maps(tmp_path / "onnx", "labels")
    differing = sum(int((a != b).sum()) for a, b in zip(one, other, strict=True))
    inside = sum(int((a > 0).sum()) for a in one)
    assert inside > 5_000
    assert differing <= inside / 10_000
    probabilities = (maps(tmp_path / name, "probabilities") for name in ("torch", "onnx"))
    for a, b in zip(*probabilities, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    side = [json.loads(next((tmp_path / n).glob("study*.json")).read_text()) for n in ("torch", "onnx")]
    assert [s["settings"]["runtime"].split()[0] for s in side] == ["torch", "onnxruntime"]


def test_the_onnx_file_is_what_predicts(run, studies, tmp_path):
    """A network of other weights under the run's digest gives other labels: torch is not used beside it."""
    copy = shutil.copytree(run, tmp_path / "run")
    model = onnx.load(copy / "network.onnx")
    bias = next(t for t in model.graph.initializer if t.name.endswith("head.bias"))
    array = onnx.numpy_helper.to_array(bias).copy()
    array[0] += 100
    bias.CopyFrom(onnx.numpy_helper.from_array(array, bias.name))
    onnx.save(model, copy / "network.onnx")
    mrigmm.predict(studies, tmp_path / "one", run=run, runtime="onnx")
    mrigmm.predict(studies, tmp_path / "other", run=copy, runtime="onnx")
    assert (maps(tmp_path / "one", "labels")[0] != maps(tmp_path / "other", "labels")[0]).any()


def test_a_run_that_was_not_exported_names_the_command(run, studies, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "network.onnx").unlink()
    with pytest.raises(InputError, match="has no network for ONNX Runtime") as caught:
        mrigmm.predict(studies, tmp_path / "out", run=copy, runtime="onnx")
    assert "mrigmm export RUN -o RUN/network.onnx --format onnx" in caught.value.problems[0].remedy
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("run", ["default"], indirect=True)
def test_weights_trained_after_the_export_are_noticed(run, studies, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(bytes(weights))
    record = json.loads((copy / "run.json").read_text())
    digest = hashlib.sha256(weights).hexdigest()
    (copy / "run.json").write_text(json.dumps({**record, "weights_sha256": digest}))
    with pytest.raises(InputError, match="does not belong to the run's weights"):
        mrigmm.predict(studies, tmp_path / "out", run=copy, runtime="onnx")
    mrigmm.export_run(copy, copy / "network.onnx", format="onnx")  # the remedy
    assert mrigmm.predict(studies, tmp_path / "out", run=copy, runtime="onnx").done


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "onxn"}, "unknown runtime 'onxn'"),
        ({"runtime": "onnx", "device": "cuda"}, "ONNX Runtime predicts on the CPU"),
    ],
)
def test_runtimes_that_cannot_be(run, studies, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        mrigmm.predict(studies, tmp_path / "out", run=run, **options)


def test_a_method_has_no_runtime(studies, tmp_path):
    with pytest.raises(InputError, match="--runtime belongs to a trained run"):
        mrigmm.predict(studies, tmp_path / "out", method="map-em", runtime="onnx")


def test_export_refuses_what_it_cannot_do(run, tmp_path):
    with pytest.raises(InputError, match="unknown format 'onx'"):
        mrigmm.export_run(run, tmp_path / "n.onnx", format="onx")
    with pytest.raises(InputError, match="the run folder does not exist"):
        mrigmm.export_run(tmp_path / "no", tmp_path / "n.onnx", format="onnx")
    before = (run / "weights.safetensors").read_bytes()
    with pytest.raises(InputError, match="would replace an input"):
        mrigmm.export_run(run, run / "weights.safetensors", format="onnx")
    assert (run / "weights.safetensors").read_bytes() == before
    with pytest.raises(InputError, match="cannot be written"):
        mrigmm.export_run(run, tmp_path, format="onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("run", ["default"], indirect=True)
def test_the_commands(cli, run, studies, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "network.onnx").unlink()
    result = cli("export", copy, "-o", copy / "network.onnx", "--format", "onnx")
    assert (result.code, result.out, result.err) == (0, f"exported: {copy / 'network.onnx'}\n", "")
    result = cli("predict", studies, "-o", tmp_path / "out", "--run", copy, "--runtime", "onnx", "--quiet")
    assert result.code == 0, result.err
    assert len(list((tmp_path / "out").glob("*_labels.nii.gz"))) == 1
    assert cli("export", copy, "-o", copy / "network.onnx", "--format", "other").code == 2
