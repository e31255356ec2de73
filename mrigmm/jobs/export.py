"""`mrigmm export`: the network of a trained run as a file for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mrigmm.config import RunConfig
from mrigmm.data.files import require_not_input
from mrigmm.data.run_folder import RunFolder
from mrigmm.data.standardise import STANDARDISATIONS, UNITS
from mrigmm.errors import InputError, near_misses
from mrigmm.export.onnx_model import write_onnx
from mrigmm.jobs.common import DISCLAIMER, Outcome
from mrigmm.labels import wall_classes
from mrigmm.methods.deep_gem import UNIT_SDS, DeepGEMMethod
from mrigmm.methods.deep_gmm import DeepGMMMethod
from mrigmm.methods.registry import method_of_run
from mrigmm.networks.spatial_prior import ANATOMY_CHANNELS

FORMATS = ("onnx",)


def export_run(run: Path | str, out: Path | str, *, format: str) -> Outcome:
    """Write the network of a finished run.

    Example:
        >>> mrigmm.export_run("runs/first", "runs/first/network.onnx", format="onnx")  # doctest: +SKIP

    Args:
        run: folder that `train` wrote.
        out: file to write.
        format: "onnx": inputs, outputs and metadata as docs/onnx.md says.

    Raises:
        InputError: no such format; the run or a package is missing; the run is unfinished or damaged; its
            network is 3-D or has a parameter head.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format '{format}'", remedy=near_misses(format, FORMATS))
    folder, out = RunFolder(Path(run)), Path(out)
    method, _ = method_of_run(folder, torch.device("cpu"))
    require_not_input(out, [file for file in folder.path.iterdir() if file != folder.onnx])
    assert isinstance(method, DeepGEMMethod | DeepGMMMethod)
    _require_exportable(folder, method.config)
    interface = _interface(method)
    write_onnx(
        out,
        method.network.unet,
        n_channels=len(interface.channels),
        weights_sha256=folder.weights_sha256(),
        metadata=_metadata(method, interface),
    )
    return Outcome(out, ())


def _require_exportable(run: RunFolder, config: RunConfig) -> None:
    """The file holds a U-Net of slices and nothing beside it."""
    found = {"spatial_dims": config.spatial_dims, "parameters": config.parameters}
    wanted = {"spatial_dims": 2, "parameters": "mstep"}
    if found != wanted:
        raise InputError(
            "this network cannot be exported: it is 3-D, or has means and covariances as a second output",
            file=run.config,
            expected=", ".join(f"{key}={value}" for key, value in wanted.items()),
            got=", ".join(f"{key}={value}" for key, value in found.items()),
            remedy="predict with torch, or train without these settings",
        )


@dataclass(frozen=True)
class _Interface:
    """What goes into a network and what comes out, channel by channel."""

    channels: tuple[str, ...]
    units: str
    classes: tuple[str, ...]


def _interface(method: DeepGEMMethod | DeepGMMMethod) -> _Interface:
    record = method.record
    if isinstance(method, DeepGEMMethod):
        return _Interface(
            channels=(*record.sequences, *ANATOMY_CHANNELS),
            units=f"sequences: distance from the mean of the study's normal wall in {UNIT_SDS:g} of its SDs, "
            "0 where not acquired; cavity and wall: 0 or 1; "
            "depth: 0 at the epicardium to 1 at the endocardium, 0 outside the wall",
            classes=wall_classes(record.classes),
        )
    class_of_output = dict(zip(record.component_order, record.classes, strict=True))
    return _Interface(
        channels=record.sequences,
        units=f"{UNITS[STANDARDISATIONS[method.config.standardise]]}, 0 where not acquired",
        classes=tuple(name for _, name in sorted(class_of_output.items())),
    )


def _metadata(method: DeepGEMMethod | DeepGMMMethod, interface: _Interface) -> dict[str, Any]:
    """What stands in the file; see docs/onnx.md."""
    return {
        "mrigmm_version": version("mrigmm"),
        "method": method.name,
        "input_channels": interface.channels,
        "input_units": interface.units,
        "input_axes": "x, y: of right, anterior, superior the two along the slices' plane, in this order",
        "output_classes": interface.classes,
        "sequences": method.record.sequences,
        "classes": method.record.classes,
        "spacing_mm": method.config.spacing_mm,
        "crop_mm": method.config.crop_mm,
        "divisible_by": method.network.unet.divisor,
        "config": method.config.model_dump(mode="json"),
        "disclaimer": DISCLAIMER,
    }
