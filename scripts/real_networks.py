"""Score the pretrained networks on the redistributable real images, with nothing given.

Cavity: 15 patients of Sunnybrook (CC0) whose slices the shipped networks were not trained on, both heart
phases; the slices come without a size, 1.3 mm and 10 mm are assumed. Wall: four end-diastolic stacks with
epicardial contours. Both are given as they are (bSSFP) and, with noise, as LGE, whose contrast between blood
and healthy wall they have: real anatomy in poor images. Brain: three patients, as one and as three sequences;
none has a ventricle.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import nibabel as nib
import numpy as np
from pack_backgrounds import HELD_OUT
from PIL import Image
from rich.progress import track
from scipy.ndimage import gaussian_filter

import mrigmm
from mrigmm.data.files import write_text
from mrigmm.errors import InputError
from mrigmm.evaluation.overlap import overlap

PIXEL_MM, DISTANCE_MM = 1.3, 10.0
NOISE = 0.06  # SD, of an image's range of intensities
PHASES = 20  # images of a cine: slices of one phase have the same number modulo this


def stacks(folder: Path) -> dict[str, list[Path]]:
    """Return the slices of every patient and phase, base to apex."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in sorted((folder / "images").glob("*.png")):
        patient, number = file.stem.split("-IM-")
        if patient in HELD_OUT:
            found[f"{patient}_{int(number.split('-')[1]) % PHASES:02}"].append(file)
    return found


def volume(files: list[Path]) -> nib.Nifti1Image:
    """Return slices as an image of the assumed size."""
    slices = [np.asarray(Image.open(file).convert("L")).T for file in files]
    affine = np.diag([-PIXEL_MM, -PIXEL_MM, DISTANCE_MM, 1])
    return nib.Nifti1Image(np.stack(slices, axis=-1), affine)


def noisy(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return a magnitude image with noise of 6 % of its range, correlated over a pixel."""
    values = np.asarray(image.dataobj, dtype=np.float32)
    low, high = np.quantile(values, (0.02, 0.98))
    noise = np.random.default_rng(0).normal(size=values.shape)
    noise = gaussian_filter(noise, (1.0, 1.0, 0.0))
    smooth = gaussian_filter(values, (0.6, 0.6, 0.0))
    seen = np.abs(smooth - low + NOISE * (high - low) * noise / noise.std())
    return nib.Nifti1Image(seen.astype(np.float32), image.affine)


def found_region(images: dict[str, Path], out: Path, study: str, networks: Path | None) -> np.ndarray | None:
    """Return what is called cavity (1) and wall (2), or None where no ventricle was found."""
    settings = {} if networks is None else {"networks": networks}
    try:
        mrigmm.predict_study(
            images, None, out, study_id=study, method="pretrained", overrides=settings, overwrite=True
        )
    except InputError as error:
        if "ventricle" not in str(error):
            raise
        return None
    return np.asarray(nib.load(out / f"{study}_region.nii.gz").dataobj)


def dice(found: np.ndarray | None, true: np.ndarray) -> float:
    """Return the Dice of two masks; 0 where nothing was found."""
    return 0.0 if found is None else overlap(found, true, 1.0).dice


def given_as(image: nib.Nifti1Image, sequence: str, file: Path) -> dict[str, Path]:
    """Write an image as it is, or as a noisy LGE; return the study's images."""
    nib.save(noisy(image) if sequence == "LGE" else image, file)
    return {sequence: file}


def cavities(data: Path, out: Path, networks: Path | None, sequence: str) -> dict[str, float]:
    """Return the Dice of the cavity by patient and phase; slices without a contour are left out."""
    scores = {}
    for study, files in track(stacks(data).items(), description=f"cavity, {sequence}"):
        images = given_as(volume(files), sequence, out / f"{study}_{sequence}.nii.gz")
        truth = volume([data / "endocardium" / file.name for file in files])
        found = found_region(images, out, study, networks)
        scores[study] = dice(None if found is None else found == 1, np.asarray(truth.dataobj) > 0)
    return scores


def walls(data: Path, out: Path, networks: Path | None, sequence: str) -> dict[str, dict[str, float]]:
    """Return Dice of cavity, wall and both of the four stacks."""
    scores = {}
    for label in track(sorted(data.glob("*_ED_label.nii.gz")), description=f"wall, {sequence}"):
        study = label.name.removesuffix("_ED_label.nii.gz")
        image = nib.load(data / f"{study}_ED.nii.gz")
        images = given_as(image, sequence, out / f"{study}_{sequence}.nii.gz")
        found = found_region(images, out, study, networks)
        true = np.asarray(nib.load(label).dataobj)
        parts = {"cavity": (1,), "wall": (2,), "ventricle": (1, 2)}
        scores[study] = {
            name: dice(None if found is None else np.isin(found, ids), np.isin(true, ids))
            for name, ids in parts.items()
        }
    return scores


def brains(data: Path, out: Path, networks: Path | None) -> dict[str, bool]:
    """Return whether a ventricle was found in each brain, by what it was given as."""
    found = {}
    for patient in ("07", "19", "26"):
        files = {name: data / f"patient{patient}_{name}.nii.gz" for name in ("T1", "T2", "FLAIR")}
        given = {
            "as LGE": {"LGE": files["T1"]},
            "as all": {"LGE": files["FLAIR"], "T2": files["T2"], "bSSFP": files["T1"]},
        }
        for name, images in given.items():
            region = found_region(images, out, f"brain_{patient}", networks)
            found[f"{patient} {name}"] = region is not None
    return found


def summary(results: dict[str, dict]) -> str:
    """Return the figures in Markdown."""
    lines = ["| real images, nothing given | found | Dice |", "|---|---|---|"]
    for kind in ("", ", as noisy LGE"):
        cavity = np.array(list(results[f"cavity{kind}"].values()))
        low, middle, high = np.quantile(cavity, (0.25, 0.5, 0.75))
        lines.append(
            f"| cavity, 15 patients in {cavity.size} stacks{kind} | {(cavity > 0).sum()} of {cavity.size} | "
            f"median {middle:.2f}, quartiles {low:.2f} to {high:.2f}, worst {cavity.min():.2f} |"
        )
        for part in ("cavity", "wall", "ventricle"):
            values = [row[part] for row in results[f"wall{kind}"].values()]
            lines.append(
                f"| {part}, 4 stacks{kind} | {sum(v > 0 for v in values)} of 4 | "
                f"{', '.join(f'{v:.2f}' for v in values)} |"
            )
    brain = results["brain"].values()
    lines.append(f"| brain, 3 patients as 1 and 3 sequences | {sum(brain)} of {len(brain)} | – |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Segment, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the three data sets")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for maps and results")
    parser.add_argument("--networks", type=Path, help="folder of mrigmm pretrain (default: those shipped)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cine, hearts = options.data / "sunnybrook45_cc0", options.data / "sunnybrook_hfi_cc0"
    given = (options.out, options.networks)
    results: dict[str, dict] = {}
    for kind, sequence in (("", "bSSFP"), (", as noisy LGE", "LGE")):
        results[f"cavity{kind}"] = cavities(cine, *given, sequence)
        results[f"wall{kind}"] = walls(hearts, *given, sequence)
    results["brain"] = brains(options.data / "ms_brain_ccby", *given)
    write_text(options.out / "results.json", json.dumps(results, indent=1))
    write_text(options.out / "results.md", summary(results))
    print(summary(results))


if __name__ == "__main__":
    main()
