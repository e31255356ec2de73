"""A trained run as a MONAI Bundle: weights as safetensors, and a configuration that calls mrigmm."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mrigmm.data.files import atomic, write_text
from mrigmm.data.run_folder import RunFolder
from mrigmm.export.side_files import write_json

_SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"
_INTENDED_USE = "Label blood, myocardium, edema and scar in studies of cardiac MR, for research."
_PACKAGES = ("mrigmm", "safetensors", "nibabel")
_NO_LICENCE = """\
The weights in this bundle belong to whoever trained them. No licence is given for them here: their owner
states one in this file before passing the bundle on. The terms of the training data may limit what can be
stated.

mrigmm, which is needed to run the bundle, is under the Apache License 2.0.
"""


@dataclass(frozen=True)
class BundleNetwork:
    """Input and output of the network.

    Attributes:
        channels: names of the input channels.
        classes: names of the output channels.
        divisor: in-plane sizes are multiples of it.
        spatial_dims: 2 or 3.
    """

    channels: Sequence[str]
    classes: Sequence[str]
    divisor: int
    spatial_dims: int


def write_bundle(out: Path, run: RunFolder, network: BundleNetwork, *, card: str, disclaimer: str) -> None:
    """Write the bundle of a finished run. The ids of its training studies stay behind.

    Args:
        out: new folder.
        run: what is exported.
        network: its interface.
        card: the model card.
        disclaimer: not for clinical use.

    Raises:
        InputError: the run is damaged, or the folder cannot be written.
    """
    record = run.read()[1]
    copy = RunFolder(out / "models")
    for file, there in (
        (run.config, copy.config),
        (run.prior, copy.prior),
        (run.multiscale_prior, copy.multiscale_prior),
        (run.weights, copy.weights),
    ):
        if file.exists():
            with atomic(there) as temporary:
                shutil.copyfile(file, temporary)
    copy.write_record(record.model_copy(update={"training_studies": (), "held_out_studies": ()}))
    write_text(out / "docs" / "README.md", card + _how_to_run(record.sequences))
    write_text(out / "LICENSE", _NO_LICENCE)
    write_json(out / "configs" / "metadata.json", _metadata(network, disclaimer))
    write_json(out / "configs" / "inference.json", _inference(record.sequences))


def _metadata(network: BundleNetwork, disclaimer: str) -> dict[str, Any]:
    """Return the metadata that MONAI's specification asks for."""
    in_plane = [f"{network.divisor}*n", f"{network.divisor}*m"]
    tensor = {
        "type": "image",
        "modality": "MR",
        "spatial_shape": in_plane if network.spatial_dims == 2 else [*in_plane, "*"],
        "dtype": "float32",
        "is_patch_data": True,
    }
    return {
        "schema": _SCHEMA,
        "version": version("mrigmm"),
        "changelog": {version("mrigmm"): "written by mrigmm export"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch"),
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in _PACKAGES},
        "task": "Infarct and edema maps from cardiac MR without pixel labels",
        "description": f"A network and a Gaussian mixture trained by mrigmm. {disclaimer}",
        "authors": "not stated",
        "copyright": "not stated, see LICENSE",
        "intended_use": f"{_INTENDED_USE} {disclaimer}",
        "network_data_format": {
            "inputs": {
                "image": {
                    **tensor,
                    "format": "magnitude",
                    "num_channels": len(network.channels),
                    "value_range": [],
                    "channel_def": _numbered(network.channels),
                }
            },
            "outputs": {
                "pred": {
                    **tensor,
                    "format": "labels",
                    "num_channels": len(network.classes),
                    "value_range": [0, 1],
                    "channel_def": _numbered(network.classes),
                }
            },
        },
    }


def _numbered(names: Sequence[str]) -> dict[str, str]:
    return {str(index): name for index, name in enumerate(names)}


def _inference(sequences: Sequence[str]) -> Mapping[str, Any]:
    """Return the configuration that `monai.bundle run` reads: one study, given by its files."""
    return {
        "imports": ["$import mrigmm"],
        "bundle_root": ".",
        "model": "$@bundle_root + '/models'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "auto",
        "images": dict.fromkeys(sequences),
        "region": None,
        "study_id": None,
        "run": [
            "$mrigmm.predict_study({name: file for name, file in @images.items() if file}, @region, "
            "@output_dir, run=@model, device=@device, study_id=None if @study_id is None else str(@study_id))"
        ],
    }


def _how_to_run(sequences: Sequence[str]) -> str:
    images = " ".join(f"{shlex.quote(f'--images#{name}')} FILE" for name in sequences)
    where = "--config_file configs/inference.json --bundle_root . --output_dir OUT"
    return f"""
## How to run this bundle

In its folder, with mrigmm and fire installed (`pip install 'mrigmm[bundle]'`):

```
python -m monai.bundle run {where} {images} --region lv.nii.gz
```

This predicts one study; leave out images that it does not have. For a cohort give `models/` to
`mrigmm predict --run`. The weights are safetensors, not a pickled `model.pt`: MONAI's own loaders of weights
do not apply.
"""
