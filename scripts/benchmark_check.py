"""False alarms and detections of `mrigmm check` on simulated patients.

Cohorts of every preset, with both kinds of region map and with phase-sensitive LGE, are written to a
temporary folder and checked as they are, with sequences left out, and with two sequences exchanged. Then
region maps are moved in plane, or taken from the next study of the cohort, and the findings that look at
images and region together are asked whether they notice.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarking import markdown_table, save_numbers, script_parser
from numpy.typing import NDArray

from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.quality.regions import cavity_contrast, misplaced, swapped
from mrigmm.data.study import load_study
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.jobs.check import check
from mrigmm.labels import TISSUES
from mrigmm.phantom import PRESETS, simulate_cohort

# Preset, region map, phase-sensitive LGE.
COHORTS = (
    ("small", "lv", False),
    ("small", "cavity-wall", False),
    ("cohort", "lv", False),
    ("cohort", "cavity-wall", True),
    ("hard-acquisition", "lv", True),
    ("hard-acquisition", "cavity-wall", False),
    ("myops-like", "lv", False),
    ("thin-slices", "lv", False),
)
SEQUENCES = ("LGE", "T2", "bSSFP")
LEFT_OUT = (("T2",), ("bSSFP",), ("T2", "bSSFP"), ("LGE", "T2"))
MOVED_MM = (10, 20, 30)
# What check says of a missing sequence is true, and no false alarm.
TRUE_WARNINGS = ("no LGE", "no T2", "no bSSFP", "edema cannot be told", "scar cannot be told")


def write_cohort(folder: Path, preset: str, region: str, psir: bool, studies: int, seed: int) -> Path:
    """Simulate one cohort; phase-sensitive LGE has no preset of its own."""
    name = f"{preset}-psir" if psir else preset
    PRESETS[name] = replace(PRESETS[preset], psir=psir)
    try:
        return simulate_cohort(
            folder / f"{name}-{region}", n_studies=studies, seed=seed, preset=name, region=region
        )
    finally:
        if psir:
            del PRESETS[name]


def changed(manifest: Path, name: str, change: Any) -> tuple[Path, int]:
    """A copy of a manifest with changed images, and how many of its studies were changed."""
    content = json.loads(manifest.read_text(encoding="utf-8"))
    count = 0
    for split in ("training", "test"):
        for entry in content.get(split, []):
            image = entry["image"]
            named = image if isinstance(image, dict) else dict(zip(SEQUENCES, image, strict=True))
            named = {sequence: file for sequence, file in named.items() if file}
            entry["image"] = change(dict(named)) or named
            count += entry["image"] != named
    path = manifest.with_name(f"{name}.json")
    path.write_text(json.dumps(content), encoding="utf-8")
    return path, count


def without(*names: str) -> Any:
    """Leave sequences out, where others remain."""
    return lambda image: {name: file for name, file in image.items() if name not in names}


def exchanged(one: str, other: str) -> Any:
    """Exchange two sequences in the studies that have both."""

    def change(image: dict[str, str]) -> dict[str, str]:
        if one in image and other in image:
            image[one], image[other] = image[other], image[one]
        return image

    return change


def false_alarms(manifest: Path) -> tuple[int, Counter[str]]:
    """How many studies were checked, and what was said about them beside notes and missing sequences."""
    result = check(manifest)
    said = [p.what for p in result.problems if p.severity != "note" and not p.what.startswith(TRUE_WARNINGS)]
    return len(result.done), Counter(said)


def noticed(study: StudyTensors, region: NDArray[np.uint8]) -> bool:
    """Whether a finding tells that this region does not belong to the study."""
    contrasts = {
        name: contrast
        for name, image, seen in zip(
            study.sequences, study.image.numpy(), study.observed.numpy(), strict=True
        )
        if (contrast := cavity_contrast(image, region, seen, study.spacing_mm)) is not None
    }
    return bool(list(swapped(contrasts))) or misplaced(contrasts) is not None


def wrong_regions(studies: list[StudyTensors]) -> Iterator[tuple[str, bool]]:
    """Kind of wrong region, and whether it was noticed."""
    for index, study in enumerate(studies):
        region = study.region.numpy()
        for mm in MOVED_MM:
            voxels = round(mm / study.spacing_mm[index % 2]) * (1 if index % 3 else -1)
            yield f"moved by {mm} mm", noticed(study, np.roll(region, voxels, index % 2))
        other = studies[(index + 1) % len(studies)].region.numpy()
        slices = min(other.shape[2], region.shape[2])
        start = (region.shape[2] - slices) // 2
        taken = np.zeros_like(region)
        taken[..., start : start + slices] = other[..., :slices]
        yield "of another patient", noticed(study, taken)


def measure(studies: int, seed: int) -> dict[str, Any]:
    """All counts."""
    checked: dict[str, int] = Counter()
    alarms: dict[str, Counter[str]] = {"as they are": Counter(), "sequences left out": Counter()}
    swaps: dict[str, list[int]] = {}
    regions: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for index, (preset, region, psir) in enumerate(COHORTS):
            manifest = write_cohort(Path(folder), preset, region, psir, studies, seed + index)
            count, said = false_alarms(manifest)
            checked["as they are"] += count
            alarms["as they are"] += said
            # With a grid per sequence, the region would no longer lie on the reference's: a true error.
            lge_bound = {"LGE"} if preset == "hard-acquisition" else set()
            for names in LEFT_OUT:
                if lge_bound & {*names}:
                    continue
                count, said = false_alarms(changed(manifest, "left_out", without(*names))[0])
                checked["sequences left out"] += count
                alarms["sequences left out"] += said
            for one, other in combinations(SEQUENCES, 2):
                if lge_bound & {one, other}:
                    continue
                path, count = changed(manifest, "exchanged", exchanged(one, other))
                named = {p.study for p in check(path).problems if "does not look like" in p.what}
                total = swaps.setdefault(f"{one} and {other}", [0, 0])
                total[0] += len(named)
                total[1] += count
            cohort = read_manifest(manifest)
            loaded = [load_study(s, cohort.sequences, tuple(TISSUES)) for s in cohort.split("all")]
            for kind, found in wrong_regions(loaded):
                total = regions.setdefault(kind, [0, 0])
                total[0] += found
                total[1] += 1
    return {
        "checked": dict(checked),
        "false_alarms": {name: dict(said) for name, said in alarms.items()},
        "exchanged_noticed": swaps,
        "region_noticed": regions,
    }


def table(counts: dict[str, Any]) -> str:
    """Markdown."""
    alarms = []
    for name, count in counts["checked"].items():
        said = [f"{n} x {what}" for what, n in counts["false_alarms"][name].items()]
        alarms.append([name, str(count), "; ".join(said) or "none"])
    wrong = {f"{name} exchanged": found for name, found in counts["exchanged_noticed"].items()}
    wrong |= {f"region {name}": found for name, found in counts["region_noticed"].items()}
    noticed = [[name, *map(str, found)] for name, found in wrong.items()]
    first = markdown_table(["cohort", "studies", "false alarms"], alarms)
    return f"{first}\n\n{markdown_table(['wrong', 'noticed', 'of'], noticed)}"


def main() -> None:
    """Parse, run, print, write."""
    parser = script_parser(__doc__)
    parser.add_argument("-o", "--output", type=Path, help="write the counts as JSON")
    parser.add_argument("--studies", type=int, default=12, help="per cohort (default 12)")
    parser.add_argument("--seed", type=int, default=301, help="of the first cohort (default 301)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = measure(options.studies, options.seed)
    sys.stdout.write(table(counts) + "\n")
    save_numbers(options.output, {"studies_per_cohort": options.studies, "seed": options.seed} | counts)


if __name__ == "__main__":
    main()
