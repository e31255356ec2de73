"""Score the pretrained networks on the redistributable real images, with nothing given.

Cavity: 15 patients of Sunnybrook (CC0) whose slices the shipped networks were not trained on, both heart
phases; the slices come without a size, 1.3 mm and 10 mm are assumed. Wall: four end-diastolic stacks with
epicardial contours. Brain: three patients, as one and as three sequences; none has a ventricle.
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

import mrigmm
from mrigmm.data.files import write_text
from mrigmm.errors import InputError
from mrigmm.evaluation.overlap import overlap

PIXEL_MM, DISTANCE_MM = 1.3, 10.0
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


def cavities(data: Path, out: Path, networks: Path | None) -> dict[str, float]:
    """Return the Dice of the cavity by patient and phase; slices without a contour are left out."""
    scores = {}
    for study, files in track(stacks(data).items(), description="cavity"):
        image = out / f"{study}.nii.gz"
        nib.save(volume(files), image)
        truth = volume([data / "endocardium" / file.name for file in files])
        found = found_region({"bSSFP": image}, out, study, networks)
        scores[study] = dice(None if found is None else found == 1, np.asarray(truth.dataobj) > 0)
    return scores


def walls(data: Path, out: Path, networks: Path | None) -> dict[str, dict[str, float]]:
    """Return Dice of cavity, wall and both of the four stacks."""
    scores = {}
    for label in track(sorted(data.glob("*_ED_label.nii.gz")), description="wall"):
        study = label.name.removesuffix("_ED_label.nii.gz")
        found = found_region({"bSSFP": data / f"{study}_ED.nii.gz"}, out, study, networks)
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
    cavity = np.array(list(results["cavity"].values()))
    low, middle, high = np.quantile(cavity, (0.25, 0.5, 0.75))
    lines = [
        "| real images, nothing given | found | Dice |",
        "|---|---|---|",
        f"| cavity, 15 patients in {cavity.size} stacks | {(cavity > 0).sum()} of {cavity.size} | "
        f"median {middle:.2f}, quartiles {low:.2f} to {high:.2f}, worst {cavity.min():.2f} |",
    ]
    for part in ("cavity", "wall", "ventricle"):
        values = [row[part] for row in results["wall"].values()]
        lines.append(
            f"| {part}, 4 stacks | {sum(v > 0 for v in values)} of 4 | "
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
    parts = {"cavity": cavities, "wall": walls, "brain": brains}
    folders = {"cavity": "sunnybrook45_cc0", "wall": "sunnybrook_hfi_cc0", "brain": "ms_brain_ccby"}
    results = {
        name: part(options.data / folders[name], options.out, options.networks)
        for name, part in parts.items()
    }
    write_text(options.out / "results.json", json.dumps(results, indent=1))
    write_text(options.out / "results.md", summary(results))
    print(summary(results))


if __name__ == "__main__":
    main()
