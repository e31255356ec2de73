"""A network as an ONNX file that says what goes in and what comes out."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mrigmm.data.files import atomic
from mrigmm.errors import InputError, missing_extra
from mrigmm.networks.onnx_unet import INPUT_NAME, OUTPUT_NAME, WEIGHTS_KEY, OnnxUNet
from mrigmm.networks.unet import UNet

# Probabilities of the file and of torch may differ by this much.
TOLERANCE = 1e-4


def write_onnx(
    path: Path, unet: UNet, *, n_channels: int, weights_sha256: str, metadata: Mapping[str, Any]
) -> None:
    """Write a U-Net followed by log-softmax as ONNX, and compare what ONNX Runtime makes of the file.

    Input `image` (batch, n_channels, X, Y) float32, output `log_probabilities` (batch, K, X, Y); batch, X and
    Y are free, X and Y divisible by the U-Net's divisor.

    Args:
        path: file to write.
        unet: with the weights to export, on the CPU.
        n_channels: of the input.
        weights_sha256: digest of the weights' file.
        metadata: stands in the file: texts as they are, other values as JSON.

    Raises:
        InputError: missing extra, a file that cannot be written, or one that computes something else.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 - for the comparison
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise missing_extra("onnx", error) from None
    network = nn.Sequential(unet, nn.LogSoftmax(dim=1)).eval()
    model = _model(network, n_channels, unet.divisor)
    _forget_sources(model)
    texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in metadata.items()}
    onnx.helper.set_model_props(model, {**texts, WEIGHTS_KEY: weights_sha256})
    with atomic(path) as temporary:
        onnx.save(model, temporary)
        exported = OnnxUNet(temporary, divisor=unet.divisor, weights_sha256=weights_sha256)
        _compare(network, exported, n_channels, unet.divisor)


def _model(network: nn.Module, n_channels: int, divisor: int) -> Any:
    """Return the network as an ONNX model with free batch and in-plane size."""
    image = torch.zeros(2, n_channels, 2 * divisor, 3 * divisor)
    x, y = divisor * torch.export.Dim("x_blocks"), divisor * torch.export.Dim("y_blocks")
    with _quiet_exporter():
        program = torch.onnx.export(
            network,
            (image,),
            dynamo=True,
            optimize=True,
            verbose=False,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=({0: torch.export.Dim("batch"), 2: x, 3: y},),
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Torch's exporter tells of its own future and of packages it could use; no user can act on that."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logger.setLevel(level)


def _forget_sources(model: Any) -> None:
    """Remove the exporter's notes, which name files and folders of this machine."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _compare(network: nn.Module, exported: OnnxUNet, n_channels: int, divisor: int) -> None:
    """Refuse a file that computes something else than torch."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, n_channels, 4 * divisor, 2 * divisor, generator=generator)
    with torch.inference_mode():
        difference = float((network(image).exp() - exported(image).exp()).abs().max())
    if not difference <= TOLERANCE:
        raise InputError(
            "the exported network computes something else than torch",
            expected=f"probabilities that differ by at most {TOLERANCE:g}",
            got=f"{difference:g}",
            remedy="install the versions of torch, onnx and onnxruntime in constraints.txt",
        )
