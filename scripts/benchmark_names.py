"""How often is a sequence under another name told, and how often a right one doubted?

    python scripts/benchmark_names.py --data DATA -o names.md

The first studies of every shifted cohort (seed 901), located with nothing given: as they are, with LGE and
T2 exchanged, and with one sequence alone under its own and under another name. Real: the cine stacks of
`real_networks.py` (DATA/sunnybrook45_cc0) as bSSFP, and as T2.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import nibabel as nib
import torch
from benchmarking import markdown_table, script_parser
from real_networks import stacks, volume
from rich.progress import track

from mrigmm.data.manifest import Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.whole import load_whole
from mrigmm.methods.located_contrast import misnamed
from mrigmm.methods.network_finder import NetworkFinder
from mrigmm.phantom import simulate_cohort
from mrigmm.phantom.config import SHIFTED

SEED = 901
GIVEN: Mapping[str, Mapping[str, str]] = {  # name -> what it really is
    "all, as they are": {"LGE": "LGE", "T2": "T2", "bSSFP": "bSSFP"},
    "LGE and T2 exchanged": {"LGE": "T2", "T2": "LGE", "bSSFP": "bSSFP"},
    "LGE alone": {"LGE": "LGE"},
    "T2 alone": {"T2": "T2"},
    "LGE alone, as T2": {"T2": "LGE"},
    "T2 alone, as LGE": {"LGE": "T2"},
}


def doubted(finder: NetworkFinder, images: Mapping[str, Path]) -> bool:
    """Return whether any sequence of a study is said to look like another one."""
    whole = load_whole(Study("study", dict(images), None), tuple(images), {})
    return any(misnamed(finder.locate(whole).contrasts))


def simulated(finder: NetworkFinder, work: Path, studies: int) -> Iterator[tuple[str, bool]]:
    """Yield what was given, and whether it was doubted."""
    for cohort in track(SHIFTED, description="shifted cohorts"):
        simulate_cohort(work / cohort, n_studies=studies, seed=SEED, preset=cohort)
        for study in read_manifest(work / cohort / "manifest.json", None).split("all"):
            for given, names in GIVEN.items():
                if set(names.values()) <= set(study.images):
                    yield given, doubted(finder, {n: study.images[real] for n, real in names.items()})


def real(finder: NetworkFinder, work: Path, data: Path) -> Iterator[tuple[str, bool]]:
    """Yield the same of real cine stacks."""
    for name, files in track(stacks(data / "sunnybrook45_cc0").items(), description="cine"):
        image = work / f"{name}.nii.gz"
        nib.save(volume(files), image)
        for given in ("bSSFP", "T2"):
            yield f"real cine as {given}", doubted(finder, {given: image})


def main() -> None:
    """Count and write."""
    parser = script_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real images")
    parser.add_argument("--studies", type=int, default=4, help="per shifted cohort")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    finder, counts = NetworkFinder(), {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for rows in (simulated(finder, work, options.studies), real(finder, work, options.data)):
            for given, found in rows:
                said, n = counts.get(given, (0, 0))
                counts[given] = (said + found, n + 1)
    table = [[given, f"{said} of {n}"] for given, (said, n) in counts.items()]
    options.out.write_text(markdown_table(["given", "said to look like another sequence"], table) + "\n")


if __name__ == "__main__":
    main()
