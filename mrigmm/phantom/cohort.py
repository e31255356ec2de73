"""A simulated cohort on disk: NIfTI files, truth side files and the manifest."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mrigmm.errors import InputError, near_misses
from mrigmm.labels import SCHEMES
from mrigmm.phantom.config import PRESETS, REFERENCE_SEQUENCE, SEQUENCES, preset_hash
from mrigmm.phantom.population import population
from mrigmm.phantom.semi_real import read_hearts, simulate_semi_real
from mrigmm.phantom.study import SimulatedStudy, simulate_study

Track = Callable[[Iterable[int], str, int], Iterable[int]]


def no_track(iterable: Iterable[int], description: str, total: int) -> Iterable[int]:
    """Show no progress."""
    del description, total
    return iterable


def simulate_cohort(
    out_dir: Path,
    *,
    n_studies: int,
    seed: int,
    preset: str = "cohort",
    region: Literal["lv", "cavity-wall"] = "lv",
    test_share: float = 0.25,
    anatomy_dir: Path | None = None,
    track: Track | None = None,
) -> Path:
    """Write a cohort with known truth; the same arguments give the same bytes.

    Args:
        out_dir: new or empty folder.
        n_studies: how many studies.
        seed: of everything.
        preset: name in `PRESETS`.
        region: values of the region maps.
        test_share: share of studies under "test" in the manifest; at least one study of two or more.
        anatomy_dir: folder of real hearts (see `mrigmm.phantom.semi_real`), used in turn; their contours
            and bSSFP frames replace the simulated ones.
        track: wraps the iteration for a progress bar: `track(iterable, description, total)`.

    Returns:
        Path of `manifest.json`.

    Raises:
        InputError: unknown preset, no studies asked for, or a folder that is not empty.
    """
    if preset not in PRESETS:
        raise InputError(f"unknown phantom preset '{preset}'", remedy=near_misses(preset, list(PRESETS)))
    config = replace(PRESETS[preset], region=region)
    if n_studies < 1:
        raise InputError("cannot simulate a cohort", expected="1 study or more", got=str(n_studies))
    if not 0 <= test_share < 1:
        raise InputError("cannot split the cohort", expected="test share in [0, 1)", got=str(test_share))
    hearts = read_hearts(anatomy_dir) if anatomy_dir is not None else []
    _prepare_folder(out_dir)
    entries = []
    for index in (track or no_track)(range(n_studies), "simulating", n_studies):
        if hearts:
            study = simulate_semi_real(hearts[index % len(hearts)], config, seed=seed, index=index)
        else:
            study = simulate_study(config, seed=seed, index=index)
        entries.append(_write_study(study, out_dir))
    unknown = () if population(config.centre).edema_share.any() else ("edema",)
    test = _choose_test(n_studies, test_share=test_share, seed=seed)
    manifest = {
        "name": f"{'semi-real' if hearts else 'phantom'}-{preset}-{seed}",
        "modality": {str(channel): name for channel, name in enumerate(SEQUENCES)},
        "labels": {name: ids[0] for name, ids in SCHEMES["mrigmm"].items() if name not in unknown},
        "training": [entry for index, entry in enumerate(entries) if index not in test],
        "test": [entry for index, entry in enumerate(entries) if index in test],
    }
    origin = {"preset": preset, "seed": seed, "preset_hash": preset_hash(PRESETS[preset])}
    origin["anatomy"] = "real" if hearts else "parametric"
    _write(out_dir / "truth" / "cohort.json", _json(origin))
    # last, and in one step: a folder without it is an unfinished cohort
    return _write(out_dir / "manifest.json", _json(manifest))


def _prepare_folder(out_dir: Path) -> None:
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise InputError(
            "will not write a cohort over existing files",
            file=out_dir,
            expected="a new or empty folder",
            remedy="name another folder or empty this one",
        )
    for name in ("images", "regions", "labels", "truth"):
        (out_dir / name).mkdir(parents=True, exist_ok=True)


def _choose_test(n_studies: int, *, test_share: float, seed: int) -> set[int]:
    """Return indices of the test studies."""
    count = min(max(1, round(test_share * n_studies)), n_studies - 1)
    order = np.random.default_rng([seed, n_studies]).permutation(n_studies)
    return {int(index) for index in order[:count]}


def _write_study(study: SimulatedStudy, folder: Path) -> dict[str, Any]:
    """Write one study's files and return its entry in the manifest."""
    affine = study.affines[REFERENCE_SEQUENCE]
    images = {name: f"images/{study.id}_{name}.nii.gz" for name in study.sequences}
    region, label = f"regions/{study.id}.nii.gz", f"labels/{study.id}.nii.gz"
    for name, relative in images.items():
        rounded = np.rint(study.sequences[name]).astype(np.int16)
        _write(folder / relative, _nifti(rounded, study.affines[name]))
    _write(folder / region, _nifti(study.region, affine))
    _write(folder / label, _nifti(study.label, affine))
    for name, mask in (("mvo", study.mvo), ("rv_blood", study.rv_blood)):
        _write(folder / f"truth/{study.id}_{name}.nii.gz", _nifti(mask.astype(np.uint8), affine))
    _write(folder / f"truth/{study.id}.json", _json(_truth(study)))
    return {"id": study.id, "image": images, "region": region, "label": label}


def _truth(study: SimulatedStudy) -> dict[str, Any]:
    infarct = asdict(study.infarct)
    del infarct["ripples"]
    return {
        "infarct": infarct,
        "motion_mm": {name: np.round(shift, 4).tolist() for name, shift in study.motion.items()},
        "mixture": {
            "classes": study.mixture.classes,
            "sequences": study.mixture.sequences,
            "weights": np.round(study.mixture.weights, 6).tolist(),
            "means": np.round(study.mixture.means, 4).tolist(),
            "covariances": np.round(study.mixture.covariances, 4).tolist(),
        },
    }


def _nifti(data: NDArray[Any], affine: NDArray[Any]) -> bytes:
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _write(path: Path, content: bytes) -> Path:
    """Write in one step, so that a killed run leaves no half file."""
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content)
    partial.replace(path)
    return path
