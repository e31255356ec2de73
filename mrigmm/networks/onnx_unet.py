"""The U-Net of a run as ONNX Runtime computes it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mrigmm.errors import InputError, missing_extra

INPUT_NAME = "image"
OUTPUT_NAME = "log_probabilities"
# Metadata that says which weights an exported network was made from.
WEIGHTS_KEY = "weights_sha256"


class OnnxUNet(nn.Module):
    """Stands in for `UNet` at prediction: log-probabilities are logits of themselves.

    Computes on the CPU, with as many threads as torch. For networks of slices whose bottleneck nothing else
    uses: `mrigmm export` writes no others.

    Args:
        file: network that `mrigmm export` wrote.
        divisor: inputs must be divisible by it.
        weights_sha256: digest of the weights that the network must have been made from.

    Raises:
        InputError: missing extra, missing or damaged file, or a network of other weights.
    """

    spatial_dims = 2

    def __init__(self, file: Path, *, divisor: int, weights_sha256: str) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise missing_extra("onnx", error) from None
        remedy = "export the run's network: mrigmm export RUN -o RUN/network.onnx --format onnx"
        if not file.is_file():
            raise InputError("the run has no network for ONNX Runtime", file=file, remedy=remedy)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what goes wrong is raised
        try:
            self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own errors have no common class
            raise InputError(
                "the network for ONNX Runtime is damaged", file=file, got=str(error), remedy=remedy
            ) from None
        found = self.session.get_modelmeta().custom_metadata_map.get(WEIGHTS_KEY)
        if found != weights_sha256:
            raise InputError(
                "the network for ONNX Runtime does not belong to the run's weights",
                file=file,
                expected=f"{WEIGHTS_KEY} {weights_sha256}",
                got=str(found),
                remedy=remedy,
            )
        self.divisor = divisor
        self.runtime = f"onnxruntime {onnxruntime.__version__}"

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the whole pass, since the file has no other output than the last."""
        return [self(image)]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return the network's output from the features that `encode` gave."""
        return features[-1]

    def forward(self, image: Tensor) -> Tensor:
        """Return log-probabilities (B, channels_out, X, Y) of images (B, channels_in, X, Y)."""
        (log_probabilities,) = self.session.run([OUTPUT_NAME], {INPUT_NAME: image.contiguous().numpy()})
        return torch.from_numpy(log_probabilities)
