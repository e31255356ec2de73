import json
import logging
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mrigmm.errors import InputError
from mrigmm.export import onnx_model
from mrigmm.export.onnx_model import write_onnx
from mrigmm.networks.onnx_unet import OnnxUNet
from mrigmm.networks.unet import UNet

DIGEST = "0" * 64


def make_unet(norm="instance"):
    torch.manual_seed(4)
    unet = UNet(3, 4, filters=4, levels=2, norm=norm)
    with torch.no_grad():
        unet(3 + torch.randn(4, 3, 32, 32))  # running statistics, where there are some
    return unet.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An exported U-Net for each kind of normalisation."""
    return {norm: exported(make_unet(norm), tmp_path_factory) for norm in ("instance", "batch")}


@pytest.fixture(scope="module")
def file(files):
    return files["instance"]


def exported(unet, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    metadata = {"spacing_mm": 1.25, "input_channels": ("LGE", "T2", "Señal"), "disclaimer": "none"}
    write_onnx(path, unet, n_channels=3, weights_sha256=DIGEST, metadata=metadata)
    return path


@pytest.mark.parametrize(
    "shape", [(1, 3, 8, 8), (2, 3, 8, 12), (5, 3, 64, 24), (1, 3, 160, 160), (1, 3, 12, 512)]
)
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_onnx_runtime_repeats_torch_at_every_batch_and_size(files, shape, norm):
    image = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3
    session = onnxruntime.InferenceSession(files[norm], providers=["CPUExecutionProvider"])
    (found,) = session.run(["log_probabilities"], {"image": image.numpy()})
    with torch.inference_mode():
        expected = make_unet(norm)(image).log_softmax(dim=1)
    assert found.shape == (shape[0], 4, *shape[2:])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=0)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 10, 8), (1, 2, 8, 8)])
def test_a_size_or_a_channel_that_does_not_fit_is_refused(file, shape):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match=r"(?i)dimension|shape"):
        session.run(None, {"image": np.zeros(shape, dtype=np.float32)})


def test_the_file_says_what_goes_in_and_out(file):
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    properties = {p.key: p.value for p in model.metadata_props}
    assert json.loads(properties["input_channels"]) == ["LGE", "T2", "Señal"]
    assert json.loads(properties["spacing_mm"]) == 1.25
    assert properties["disclaimer"] == "none"
    assert properties["weights_sha256"] == DIGEST
    (image,), (output,) = model.graph.input, model.graph.output
    assert (image.name, output.name) == ("image", "log_probabilities")
    dims = image.type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, "4*x_blocks", "4*y_blocks"]


def test_the_file_names_no_file_of_this_machine(file):
    content = file.read_bytes()
    for trace in (b".py", b"site-packages", b"mrigmm/", str(file.parent).encode()):
        assert trace not in content, trace


@pytest.mark.gate
def test_the_exporter_is_quiet_and_the_log_level_comes_back(tmp_path, capfd):
    level = logging.getLogger("torch.onnx").level
    write_onnx(tmp_path / "n.onnx", make_unet(), n_channels=3, weights_sha256=DIGEST, metadata={})
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch.onnx").level == level


@pytest.mark.gate
def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    other = make_unet()
    with torch.no_grad():
        other.head.bias[0] += 0.01
    exact = onnx_model._model
    monkeypatch.setattr(
        onnx_model, "_model", lambda network, *a: exact(torch.nn.Sequential(other, network[1]).eval(), *a)
    )
    with pytest.raises(InputError, match="computes something else"):
        write_onnx(tmp_path / "n.onnx", make_unet(), n_channels=3, weights_sha256=DIGEST, metadata={})
    assert list(tmp_path.iterdir()) == []


def test_threads_are_those_of_torch(file):
    before = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            unet = OnnxUNet(file, divisor=4, weights_sha256=DIGEST)
            assert unet.session.get_session_options().intra_op_num_threads == n
            assert unet.session.get_session_options().inter_op_num_threads == 1
            assert unet.session.get_providers() == ["CPUExecutionProvider"]
    finally:
        torch.set_num_threads(before)


def test_a_network_of_other_weights_is_refused(file):
    with pytest.raises(InputError, match="does not belong to the run's weights") as caught:
        OnnxUNet(file, divisor=4, weights_sha256="1" * 64)
    problem = caught.value.problems[0]
    assert (problem.file, problem.expected, problem.got) == (str(file), f"weights_sha256 {'1' * 64}", DIGEST)
    assert "mrigmm export" in problem.remedy


def test_missing_and_damaged_files(file, tmp_path, capfd):
    with pytest.raises(InputError, match="the run has no network for ONNX Runtime"):
        OnnxUNet(tmp_path / "no.onnx", divisor=4, weights_sha256=DIGEST)
    content = file.read_bytes()
    for n in (0, 100, len(content) // 2):
        (tmp_path / "cut.onnx").write_bytes(content[:n])
        with pytest.raises(InputError):
            OnnxUNet(tmp_path / "cut.onnx", divisor=4, weights_sha256=DIGEST)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match="packages that are not installed") as caught:
        write_onnx(tmp_path / "n.onnx", make_unet(), n_channels=3, weights_sha256=DIGEST, metadata={})
    assert caught.value.problems[0].expected == "the extra [onnx]"
    assert caught.value.problems[0].remedy == "pip install 'mrigmm[onnx]'"
    assert list(tmp_path.iterdir()) == []
