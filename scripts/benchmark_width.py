r"""How much Dice a wider network buys, and what it costs.

Reads `benchmark.json` of `benchmark_quality.py`, in which the default was trained at several widths:

    python scripts/benchmark_quality.py -o widths --tuning --protocols lv,cavity-wall,healthy \
        --methods map-em-2step --no-oracle --train-studies 24 --train-seeds 1 \
        --train w4=default:filters=4 --train w8=default:filters=8 --train w16=default:filters=16
    python scripts/benchmark_width.py widths/benchmark.json --widths 4,8,16 --reference 16

For every width: operations and CPU time of the network's pass over a slice, and Dice minus that of the
reference width, study by study (training seeds averaged first), with the 95 % bootstrap interval.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmark_limits import network_pass
from benchmarking import in_turn, markdown_table, script_parser

from mrigmm.evaluation.intervals import paired_difference

METRICS = ("dice/edema", "dice/scar", "dice/pathology")
HEALTHY = ("volume_ml/scar", "volume_ml/edema")

Scores = Mapping[str, Mapping[str, float]]  # study -> metric -> value


def seed_means(studies: Mapping[str, Scores], row: str) -> dict[str, dict[str, float]]:
    """Values (study -> metric -> value) of a row, averaged over its training seeds."""
    seeds = [scores for name, scores in studies.items() if name.split(", seed ")[0] == row]
    if not seeds:
        raise SystemExit(f"no row '{row}' in the benchmark: it has {', '.join(studies)}")
    return {
        # None: not defined in this study (JSON has no NaN), as surface distances of what is not there.
        study: {metric: _mean([scores[study][metric] for scores in seeds]) for metric in values}
        for study, values in seeds[0].items()
    }


def _mean(values: Sequence[float | None]) -> float:
    return math.nan if None in values else fmean(v for v in values if v is not None)


def differences(benchmark: Mapping[str, Any], row: str, reference: str) -> list[str]:
    """Cells of a row: a protocol's metrics one after the other."""
    cells = []
    for name, protocol in benchmark["protocols"].items():
        ours, theirs = (seed_means(protocol["studies"], r) for r in (row, reference))
        for metric in HEALTHY if name.startswith("healthy") else METRICS:
            one, other = (
                {study: values.get(metric, math.nan) for study, values in scores.items()}
                for scores in (ours, theirs)
            )
            pair = paired_difference(one, other)
            cells.append(f"{pair.mean:+.3f} [{pair.low:+.3f}, {pair.high:+.3f}]")
    return cells


def heading(benchmark: Mapping[str, Any]) -> list[str]:
    """Columns of `differences`."""
    return [
        f"{name}: {metric.split('/')[1]}{', ml' if metric in HEALTHY else ''}"
        for name in benchmark["protocols"]
        for metric in (HEALTHY if name.startswith("healthy") else METRICS)
    ]


def table(benchmark: Mapping[str, Any], widths: Sequence[int], reference: int, rounds: int) -> str:
    """Costs and differences of all widths."""
    passes = {width: network_pass(width) for width in widths}
    times = in_turn({str(width): run for width, (run, _) in passes.items()}, rounds)
    rows = []
    for width, (_, flops) in passes.items():
        ms = median(t / r for t, r in zip(times[str(width)], times[str(reference)], strict=True))
        found = (
            ["reference"] * len(heading(benchmark))
            if width == reference
            else differences(benchmark, f"w{width}", f"w{reference}")
        )
        rows.append([str(width), f"{flops / passes[reference][1]:.2f}", f"{ms:.2f}", *found])
    head = ["filters", "operations", "time of a pass", *heading(benchmark)]
    return markdown_table(head, rows)


def main() -> None:
    """Parse, measure, print."""
    parser = script_parser(__doc__)
    parser.add_argument("benchmark", type=Path, help="benchmark.json with rows w4, w8, ...")
    parser.add_argument("--widths", default="4,8,16,32", help="filters at full resolution")
    parser.add_argument("--reference", type=int, default=16, help="width that the others are compared with")
    parser.add_argument("--rounds", type=int, default=7, help="of the time of a pass")
    given = parser.parse_args()
    widths = [int(width) for width in given.widths.split(",")]
    print(table(json.loads(given.benchmark.read_text()), widths, given.reference, given.rounds))


if __name__ == "__main__":
    main()
