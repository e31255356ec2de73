"""Whether files are whole, and whether two folders hold the same results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from mrigmm.jobs.reading.failures import FAILED_SUFFIX

# What may differ between two runs that did the same: times, and how they were started.
_TIMES = ("seconds", "command", "hardware")
_TIME_LINES = ("time of all epochs",)


def _nifti(path: Path) -> None:
    np.asanyarray(nib.load(path).dataobj)


def _picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def _onnx(path: Path) -> None:
    import onnx

    onnx.checker.check_model(onnx.load(path))


def _text(path: Path) -> None:
    if not path.read_text(encoding="utf-8").endswith("\n"):
        raise ValueError("the last line has no end")


_READERS: dict[str, Callable[[Path], object]] = {
    ".gz": _nifti,
    ".png": _picture,
    ".onnx": _onnx,
    ".json": lambda path: json.loads(path.read_text()),
    ".yaml": lambda path: yaml.safe_load(path.read_text()),
    ".csv": _text,
    ".txt": _text,
    ".ctbl": _text,
    ".md": _text,
    ".safetensors": load_file,
    ".ckpt": lambda path: torch.load(path, weights_only=True),
}


def visible(folder: Path) -> list[Path]:
    """Files of a folder and of those in it, without hidden ones."""
    inside = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return sorted(p for p in inside if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def hidden(folder: Path) -> list[Path]:
    """Temporary files and locks."""
    return sorted(path for path in folder.rglob(".*") if path.is_file()) if folder.is_dir() else []


def broken(folder: Path) -> list[str]:
    """Files under a final name that cannot be read to the end."""
    problems = []
    for path in visible(folder):
        try:
            _READERS[path.suffix](path)
        except Exception as error:  # whatever a reader makes of half a file
            problems.append(f"{path.relative_to(folder)}: {type(error).__name__}: {error}")
    return problems


def side_files(folder: Path) -> list[Path]:
    """Side files, which say that a study is finished; not those of studies that could not be processed."""
    files = [path for path in visible(folder) if path.suffix == ".json" and path.name not in _NO_STUDY]
    return [path for path in files if not path.name.endswith(FAILED_SUFFIX)]


def half_studies(folder: Path) -> list[str]:
    """Side files without their label map."""
    return [
        f"{side.name} without its label map"
        for side in side_files(folder)
        if not side.with_name(f"{side.stem}_labels.nii.gz").exists()
    ]


_NO_STUDY = ("quantities.json", "metrics.json")


def half_run(folder: Path) -> list[str]:
    """A record, which says that a run is finished, without what belongs to it."""
    if not (folder / "run.json").exists():
        return []
    names = ("config.yaml", "weights.safetensors", "prior.json", "log.csv", "loss.png")
    return [f"run.json without {name}" for name in names if not (folder / name).exists()]


def content(path: Path) -> Any:
    """Return the content of a file, without times."""
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text()))
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(path.read_text()))
        return [{key: value for key, value in row.items() if key not in _TIMES} for row in rows]
    if path.suffix == ".md":
        return [line for line in path.read_text().splitlines() if not any(t in line for t in _TIME_LINES)]
    if path.suffix == ".ckpt":
        state = torch.load(path, weights_only=True)["state_dict"]
        return {name: tensor.numpy().tobytes() for name, tensor in state.items()}
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in _TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def differences(expected: Path, got: Path) -> list[str]:
    """Files that are missing, too many or of other content; a single file is compared as it is."""
    if expected.is_file():
        return [] if got.is_file() and content(expected) == content(got) else [f"{got.name} differs"]
    names = [{str(path.relative_to(folder)) for path in visible(folder)} for folder in (expected, got)]
    problems = [f"{name} is missing" for name in sorted(names[0] - names[1])]
    problems += [f"{name} is too many" for name in sorted(names[1] - names[0])]
    problems += [f"{path.relative_to(got)} is left over" for path in hidden(got)]
    for name in sorted(names[0] & names[1]):
        if content(expected / name) != content(got / name):
            problems.append(f"{name} differs")
    return problems
