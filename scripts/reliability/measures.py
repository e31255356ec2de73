"""Peak memory and determinism of whole commands in fresh processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from mrigmm.phantom import PRESETS, simulate_study
from reliability.commands import Measured, measure
from reliability.results import differences

SEQUENCES = ("LGE", "T2", "bSSFP")
LABELS = {"background": 0, "blood": 1, "myocardium": 2, "edema": 3, "scar": 4}


def written_study(folder: Path, *, matrix: int, spacing_mm: float, slices: int, seed: int) -> dict[str, Any]:
    """A simulated study on disk, as the entry of a manifest; made once."""
    names = {name: f"{name}.nii.gz" for name in SEQUENCES}
    if not (folder / "region.nii.gz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        config = replace(
            PRESETS["thin-slices"],
            matrix=matrix,
            spacing_mm=spacing_mm,
            slices=(slices, slices),
            slice_distance_mm=(6.0, 6.0),
        )
        study = simulate_study(config, seed=seed, index=0)
        for name, file in names.items():
            image = nib.Nifti1Image(study.sequences[name].astype(np.float32), study.affines[name])
            nib.save(image, folder / file)
        nib.save(nib.Nifti1Image(study.region, study.affines["LGE"]), folder / "region.nii.gz")
    return {"image": names, "region": "region.nii.gz"}


def written_cohort(folder: Path, split: str, entry: dict[str, Any], count: int) -> Path:
    """A manifest with a study so many times, under ids of their own."""
    studies = [{"id": f"s{index:02d}", **entry} for index in range(count)]
    content = {
        "modality": {str(i): sequence for i, sequence in enumerate(SEQUENCES)},
        "labels": LABELS,
        split: studies,
    }
    path = folder / f"{split}_{count}.json"
    path.write_text(json.dumps(content))
    return path


def checked(measured: Measured) -> Measured:
    """The same; raises RuntimeError when the command failed."""
    if measured.code:
        raise RuntimeError(f"exit code {measured.code}: {measured.text}")
    return measured


def peaks_of_predict(
    folder: Path, counts: Sequence[int], how: dict[str, Sequence[object]], seed: int
) -> dict[str, dict[str, float]]:
    """Peak memory in MiB of `predict` by number of studies, for each way to segment."""
    data = folder / "memory"
    entry = written_study(data, matrix=192, spacing_mm=0.75, slices=10, seed=seed)
    peaks: dict[str, dict[str, float]] = {}
    for name, arguments in how.items():
        peaks[name] = {}
        for count in counts:
            manifest = written_cohort(data, "test", entry, count)
            out = folder / "memory_out" / f"{name}_{count}"
            rest = ["-o", out, "--device", "cpu", "--quiet", "--overwrite", *arguments]
            peaks[name][str(count)] = checked(measure(["predict", manifest, *rest])).peak_mib
    return peaks


def peaks_of_train(folder: Path, counts: Sequence[int], seed: int) -> dict[str, dict[str, float]]:
    """Peak memory in MiB of `train` by number of studies, with either cache."""
    data = folder / "memory"
    entry = written_study(data, matrix=192, spacing_mm=0.75, slices=10, seed=seed)
    peaks: dict[str, dict[str, float]] = {}
    for cache in ("memory", "disk"):
        peaks[cache] = {}
        for count in counts:
            manifest = written_cohort(data, "training", entry, count)
            out = folder / "memory_out" / f"train_{cache}_{count}"
            rest = ["--preset", "tiny", "--set", "epochs=1", "--set", "filters=4", "--cache", cache]
            where = ["--device", "cpu", "--quiet", "-o", out]
            shutil.rmtree(out, ignore_errors=True)
            peaks[cache][str(count)] = checked(measure(["train", manifest, *where, *rest])).peak_mib
    return peaks


def peaks_of_large(folder: Path, how: dict[str, Sequence[object]], seed: int) -> dict[str, float]:
    """Peak memory in MiB of `predict` on one study of 512 x 512 x 20."""
    data = folder / "large"
    entry = written_study(data, matrix=512, spacing_mm=0.7, slices=20, seed=seed)
    manifest = written_cohort(data, "test", entry, 1)
    peaks = {}
    for name, arguments in how.items():
        rest = ["-o", folder / "large_out" / name, "--device", "cpu", "--quiet", "--overwrite"]
        peaks[name] = checked(measure(["predict", manifest, *rest, *arguments])).peak_mib
    return peaks


def threads(
    folder: Path, how: dict[str, Sequence[object]], counts: Sequence[int], seed: int
) -> list[dict[str, Any]]:
    """Labels by number of threads, and whether the same number gives the same bytes."""
    data = folder / "memory"
    entry = written_study(data, matrix=192, spacing_mm=0.75, slices=10, seed=seed)
    manifest = written_cohort(data, "test", entry, 1)
    rows = []
    for name, arguments in how.items():
        outs: dict[int, Path] = {}
        for n in counts:
            twice = [folder / "threads" / f"{name}_{n}_{again}" for again in (0, 1)]
            for out in twice:
                environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(n))
                rest = ["-o", out, "--device", "cpu", "--quiet", "--overwrite", "--save-probabilities"]
                checked(measure(["predict", manifest, *rest, *arguments], environment=environment))
            outs[n] = twice[0]
            same = not differences(*twice)
            rows.append({"how": name, "threads": n, "same_bytes_twice": same, **_against(outs, counts[0], n)})
    return rows


def _against(outs: dict[int, Path], first: int, n: int) -> dict[str, int]:
    """Voxels of the region, and how many of them have another label than with the first number of threads."""
    labels = [np.asanyarray(nib.load(outs[i] / "s00_labels.nii.gz").dataobj) for i in (first, n)]
    return {"voxels": int((labels[0] > 0).sum()), "other_labels": int((labels[0] != labels[1]).sum())}
