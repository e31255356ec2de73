"""Methods on natural images with known segments: the questions of the seed slides, one table each.

    python scripts/benchmark_images.py -o images_benchmark                  # simulated images
    python scripts/benchmark_images.py -o bsd --folder BSDS500/data -k 5    # images/ and groundTruth/

writes images.json (every score) and images.md (tables). docs/photographs.md says what the numbers mean.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking import command_line, script_parser
from photographs.cases import SEEDS, Case, folder_cases, simulated_cases
from photographs.scoring import Score, score, summarise
from rich.console import Console

from mrigmm.data.files import atomic, write_text
from mrigmm.data.photographs import Photograph
from mrigmm.errors import InputError
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import versions
from mrigmm.jobs.segment_image import segment_photograph
from mrigmm.methods.registry import METHODS
from mrigmm.settings_yaml import parse_overrides

ERRORS = Console(stderr=True, soft_wrap=True)
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")  # in the wheel of scikit-image
PICTURE_SIDE = 160  # pixels of the longer side


@dataclass(frozen=True)
class Row:
    """A method with settings, under a name of its own."""

    label: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether this version has the method, its settings, and the method that it starts from."""
        fields = METHODS[self.method].fields if self.method in METHODS else {}
        start = self.settings.get("start", self.method)
        return self.method in METHODS and start in METHODS and set(self.settings) <= set(fields)

    def seeded(self, seed: int) -> dict[str, Any]:
        """Settings with that seed, where the method has one."""
        has_seed = self.method in METHODS and "seed" in METHODS[self.method].fields
        return {**self.settings, **({"seed": seed} if has_seed else {})}


def _plain(*names: str) -> tuple[Row, ...]:
    return tuple(Row(name, name) for name in names)


def _refined(*names: str) -> tuple[Row, ...]:
    """Each method, and k-means after it."""
    return tuple(
        row
        for name in names
        for row in (Row(name, name), Row(f"{name}, then kmeans", "kmeans-refined", {"start": name}))
    )


# Of the default's members two can do photographs, of which the one with hard labels would decide.
CONSENSUS = {"members": "kmeans,em-gmm,em-svgmm"}

QUESTIONS: Mapping[str, tuple[Row, ...]] = {
    "Does a CNN cluster better than a Gaussian mixture and k-means?": (
        *_plain("kmeans", "em-gmm", "em-gmm-sklearn", "em-svgmm"),
        Row("consensus, average", "consensus", {**CONSENSUS, "rule": "average"}),
        Row("consensus, staple", "consensus", {**CONSENSUS, "rule": "staple"}),
        *_plain("cnn-superpixels", "cnn-continuity", "dsp-kmeans", "dsp-gmm"),
    ),
    "Does spatial continuity matter?": (
        *_plain("kmeans", "slic-kmeans", "em-gmm"),
        Row("mrf-gmm, beta 0", "mrf-gmm", {"beta": 0.0}),
        *_plain("mrf-gmm", "cnn-superpixels"),
        Row("cnn-continuity, weight 0", "cnn-continuity", {"continuity": 0.0}),
        *_plain("cnn-continuity"),
    ),
    "Does k-means afterwards help?": (
        *_plain("kmeans"),
        *_refined("em-gmm", "cnn-superpixels", "cnn-continuity"),
    ),
}

PICTURE_ROWS = (
    *_plain("kmeans", "em-gmm"),
    Row("consensus of three", "consensus", CONSENSUS),
    *_plain("slic-kmeans", "mrf-gmm", "cnn-superpixels", "cnn-continuity"),
)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    add = parser.add_argument
    add("-o", "--out", type=Path, help="folder for images.json and images.md")
    add("--folder", type=Path, help="images/ and groundTruth/ instead of simulated images")
    add("--images", type=int, help="how many (default: 12 simulated, all of a folder)")
    add("--size", type=int, default=64, help="side of simulated images in pixels (default: %(default)s)")
    add("--tuning", action="store_true", help=f"simulate seed {SEEDS['tuning']}, not {SEEDS['report']}")
    add("-k", type=int, help="segments to find (default: the true number of simulated images, else 5)")
    add("--repeats", type=int, default=3, help="seeds 0, 1, ... of every method (default: %(default)s)")
    add(
        "--method",
        action="append",
        metavar="'NAME key=value ...'",
        help="a row of one table instead of the three questions",
    )
    add("--picture", type=Path, help="draw scikit-image's photographs by several methods into this PNG")
    add("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.out is None and options.picture is None:
        parser.error("nothing to do: give -o FOLDER, --picture FILE, or both")
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parse_arguments(given)
    try:
        if options.out is not None:
            benchmark(options, command_line(__file__, given))
        if options.picture is not None:
            draw(options.picture, options.device)
    except InputError as error:
        ERRORS.print(str(error), style="red", markup=False)
        return 2
    return 0


def benchmark(options: argparse.Namespace, command: str) -> None:
    """Score every row on every image with every seed, then write the tables."""
    seed = SEEDS["tuning" if options.tuning else "report"]
    if options.folder is not None:
        cases = folder_cases(options.folder, options.images)
        described = f"{len(cases)} images of {options.folder.name}"
    else:
        cases = simulated_cases(seed, options.images or 12, options.size)
        described = f"{len(cases)} simulated images of {options.size} x {options.size} pixels, seed {seed}"
    tables = {"Methods": _given_rows(options.method)} if options.method else dict(QUESTIONS)
    tables = {title: [row for row in rows if row.known] for title, rows in tables.items()}
    results: dict[str, dict[str, Any]] = {}
    for row in {row.label: row for rows in tables.values() for row in rows}.values():
        ERRORS.print(row.label, markup=False)
        results[row.label] = run(row, cases, options)
    k_text = str(options.k or (5 if options.folder else "the true number"))
    heading = f"{described}; k: {k_text}; seeds 0 to {options.repeats - 1} of every method"
    write_json(
        options.out / "images.json",
        {"command": command, "images": described, "k": k_text, "versions": versions(), "rows": results},
    )
    text = "\n\n".join(
        [f"```\n{command}\n```", heading]
        + [f"### {title}\n\n{_table(rows, results)}" for title, rows in tables.items()]
    )
    write_text(options.out / "images.md", text + "\n")
    sys.stdout.write(text + "\n")


def run(row: Row, cases: Sequence[Case], options: argparse.Namespace) -> dict[str, Any]:
    """Scores of one method by image and repeat; an image that it refuses is named and left out."""
    scores: dict[str, list[dict[str, float]]] = {}
    failures: dict[str, str] = {}
    started = time.perf_counter()
    for case in cases:
        try:
            found = [segmented(row, case, seed, options) for seed in range(options.repeats)]
            scores[case.id] = [asdict(one) for one in found]
        except InputError as error:
            failures[case.id] = error.problems[0].what
    runs = max(1, len(scores) * options.repeats)
    return {
        "method": row.method,
        "settings": dict(row.settings),
        "scores": scores,
        "failures": failures,
        "seconds_per_image": (time.perf_counter() - started) / runs,
    }


def segmented(row: Row, case: Case, seed: int, options: argparse.Namespace) -> Score:
    """Score of one method with one seed on one image."""
    k = options.k or (5 if options.folder else case.n_segments)
    found = segment_photograph(
        case.photograph,
        case.photograph.opaque,
        method=row.method,
        k=k,
        settings=row.seeded(seed),
        device=options.device,
    )
    return score(found.labels, case.references)


def draw(path: Path, device: str) -> None:
    """Photographs in rows, methods in columns; every segment in its mean colour."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from skimage import data

    rows = [row for row in PICTURE_ROWS if row.known]
    figure, axes = plt.subplots(
        len(PHOTOGRAPHS),
        1 + len(rows),
        figsize=(1.9 * (1 + len(rows)), 1.6 * len(PHOTOGRAPHS)),
        layout="constrained",
    )
    for line, photo in zip(axes, PHOTOGRAPHS, strict=True):
        pixels = getattr(data, photo)()
        step = -(-max(pixels.shape[:2]) // PICTURE_SIDE)
        pixels = _averaged(pixels, step)
        photograph = Photograph(Path(photo), pixels, ("R", "G", "B"), np.ones(pixels.shape[:2], dtype=bool))
        line[0].imshow(photograph.display)
        for axis, row in zip(line[1:], rows, strict=True):
            found = segment_photograph(
                photograph, photograph.opaque, method=row.method, k=5, settings=row.settings, device=device
            )
            axis.imshow(_in_mean_colours(found.labels, photograph.display))
    for axis, title in zip(axes[0], ["photograph", *(row.label for row in rows)], strict=True):
        axis.set_title(title, fontsize=9)
    for axis in axes.ravel():
        axis.set_axis_off()
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=100)
    plt.close(figure)


def _in_mean_colours(labels: np.ndarray, display: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) in which every segment has one colour."""
    flat = np.zeros_like(display)
    for label in np.unique(labels):
        flat[labels == label] = display[labels == label].mean(axis=0).round()
    return flat


def _averaged(pixels: np.ndarray, step: int) -> np.ndarray:
    """An image (H, W, C) of squares of `step` pixels."""
    height, width = (n // step * step for n in pixels.shape[:2])
    blocks = pixels[:height, :width].reshape(height // step, step, width // step, step, -1)
    return blocks.mean(axis=(1, 3)).astype(np.float32)


def _given_rows(texts: Sequence[str]) -> tuple[Row, ...]:
    """Rows from the command line: `NAME key=value ...`."""
    rows = []
    for text in texts:
        name, *settings = shlex.split(text) or [""]
        row = Row(text, name, parse_overrides(settings))
        if not row.known:
            raise InputError("this version has no such method or setting", got=text, remedy="see mrigmm info")
        rows.append(row)
    return tuple(rows)


def _table(rows: Sequence[Row], results: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| method | IoU, best cluster | SD of repeats | IoU, one to one | SD of repeats | s per image |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        result = results[row.label]
        if not result["scores"]:
            lines.append(f"| `{row.label}` | – | – | – | – | – |")
            continue
        cells = []
        for measure in ("best_cluster", "one_to_one"):
            table = np.array([[one[measure] for one in repeats] for repeats in result["scores"].values()])
            found = summarise(table)
            cells += [f"{found.mean:.3f} ± {found.sd_images:.3f}", f"{found.sd_repeats:.3f}"]
        missing = f" ({len(result['failures'])} images refused)" if result["failures"] else ""
        lines.append(f"| `{row.label}`{missing} | {' | '.join(cells)} | {result['seconds_per_image']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
