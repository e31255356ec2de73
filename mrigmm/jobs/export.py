"""`mrigmm export`: a trained run, or predictions, as files for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mrigmm.config import RunConfig
from mrigmm.data.files import require_new_folder, require_not_input
from mrigmm.data.run_folder import RunFolder
from mrigmm.data.standardise import STANDARDISATIONS, UNITS
from mrigmm.errors import InputError, near_misses
from mrigmm.export.bundle import BundleNetwork, write_bundle
from mrigmm.export.onnx_model import write_onnx
from mrigmm.jobs.common import DISCLAIMER, LABELS_SUFFIX, Outcome, Track, no_progress
from mrigmm.jobs.export_predictions import FORMATS as PREDICTION_FORMATS
from mrigmm.jobs.export_predictions import export_predictions
from mrigmm.labels import wall_classes
from mrigmm.methods.deep_gem import UNIT_SDS, DeepGEMMethod
from mrigmm.methods.deep_gmm import DeepGMMMethod
from mrigmm.methods.registry import method_of_run
from mrigmm.networks.spatial_prior import ANATOMY_CHANNELS

FORMATS = ("onnx", "bundle")


def export(
    source: Path | str,
    out: Path | str,
    *,
    format: str,
    scheme: str | None = None,
    dicom: Path | str | None = None,
    record: Path | str | None = None,
    studies: Sequence[str] = (),
    track: Track = no_progress,
) -> Outcome:
    """Write a run or a folder of predictions in a format; the format says which of the two it takes.

    Args:
        source: folder of a run (`FORMATS`) or of predictions (`export_predictions.FORMATS`).
        out: file or folder to write.
        format: one of either.
        scheme: as `export_predictions`.
        dicom: as `export_predictions`.
        record: as `export_predictions`.
        studies: as `export_predictions`.
        track: progress bar.

    Raises:
        InputError: as the two; the wrong kind of folder; options that a run does not have.
    """
    source = Path(source)
    if format in PREDICTION_FORMATS:
        if RunFolder(source).config.exists():
            raise InputError(
                f"the format '{format}' is written from predictions, and this is a run",
                file=source,
                expected="a folder that mrigmm predict wrote",
                remedy=f"predict with it first, or choose one of {', '.join(FORMATS)}",
            )
        return export_predictions(
            source,
            out,
            format=format,
            scheme=scheme,
            dicom=dicom,
            record=record,
            studies=studies,
            track=track,
        )
    if format not in FORMATS:
        raise InputError(
            f"unknown format '{format}'", remedy=near_misses(format, [*FORMATS, *PREDICTION_FORMATS])
        )
    if scheme is not None or dicom is not None or record is not None or studies:
        raise InputError(
            f"the format '{format}' is written from a run, which has no label ids and no studies",
            remedy="leave out --scheme, --dicom, --record and --study",
        )
    if not RunFolder(source).config.exists() and any(source.glob(f"*{LABELS_SUFFIX}")):
        raise InputError(
            f"the format '{format}' is written from a run, and this folder has predictions",
            file=source,
            expected="a folder that mrigmm train wrote",
            remedy=f"give the run, or choose one of {', '.join(PREDICTION_FORMATS)}",
        )
    return export_run(source, out, format=format)


def export_run(run: Path | str, out: Path | str, *, format: str) -> Outcome:
    """Write the network of a finished run.

    Examples:
        >>> mrigmm.export_run("runs/first", "runs/first/network.onnx", format="onnx")  # doctest: +SKIP

    Args:
        run: folder that `train` wrote.
        out: file, or for a bundle new folder, to write.
        format: "onnx": inputs, outputs and metadata as docs/onnx.md says; "bundle": a MONAI Bundle
            (docs/exports.md).

    Returns:
        What was written.

    Raises:
        InputError: no such format; the run or a package is missing; the run is unfinished or damaged; for
            "onnx", its network is 3-D or has a parameter head; a bundle's folder that has files.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format '{format}'", remedy=near_misses(format, FORMATS))
    folder, out = RunFolder(Path(run)), Path(out)
    method = method_of_run(folder, torch.device("cpu")).method
    assert isinstance(method, DeepGEMMethod | DeepGMMMethod)
    interface = _interface(method)
    if format == "bundle":
        _write_bundle(out, folder, method, interface)
        return Outcome(out, ())
    require_not_input(out, inputs=[file for file in folder.path.iterdir() if file != folder.onnx])
    _require_exportable(folder, method.config)
    write_onnx(
        out,
        method.network.unet,
        n_channels=len(interface.channels),
        weights_sha256=folder.weights_sha256(),
        metadata=_metadata(method, interface),
    )
    return Outcome(out, ())


def _write_bundle(
    out: Path, run: RunFolder, method: DeepGEMMethod | DeepGMMMethod, interface: _Interface
) -> None:
    # Only here: it reads the log of training, which brings Lightning along.
    from mrigmm.jobs.training.model_card import model_card

    require_new_folder(out, holds="*")
    network = BundleNetwork(
        interface.channels, interface.classes, method.network.unet.divisor, method.config.spatial_dims
    )
    write_bundle(out, run, network, card=model_card(run), disclaimer=DISCLAIMER)


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
    """Inputs and outputs of a network, channel by channel."""

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
    """Return what stands in the file; see docs/onnx.md."""
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
