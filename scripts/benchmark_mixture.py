"""Speed, accuracy and memory of the mixture core against scikit-learn and against plain Python loops.

One process, one thread. The two programs of a case run in turn and the medians are compared, so that
a busy machine harms both alike. Both start from the same mixture and take the same number of iterations;
the time is that of the whole call. scikit-learn gets float64 (or float32, see --reference-dtype), our own
code float32 unless said otherwise.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import sklearn
import torch
from benchmarking import forget_peak, in_turn, machine, markdown_table, peak_mib, save_numbers, script_parser
from sklearn.mixture import GaussianMixture as Reference

from mrigmm.mixture import Covariance, Mixture, fit_gmm, log_gaussian, m_step, nll, safe_log, statistics

K, C = 4, 3
SLICE, STUDY, LARGE = 3_000, 45_000, 1_000_000
# What the arithmetic alone needs, per voxel and iteration (K = 4, C = 3).
FLOOR_NS = 2.0


@dataclass(frozen=True)
class Row:
    """One case: medians in milliseconds, their ratio, and what was asked for."""

    case: str
    reference_ms: float
    ours_ms: float
    ratio: float
    target: float | None
    ns_per_voxel_iteration: float | None = None
    nll_difference: float | None = None


def cohort(n: int, seed: int = 0) -> np.ndarray:
    """Centred voxels ``(n, C)`` of four overlapping classes, float64."""
    random = np.random.default_rng(seed)
    means = np.array([[1.1, -0.3, 1.5], [-0.4, 0.5, 0.0], [0.4, 1.2, 0.6], [1.2, 1.1, 0.4]])
    x = means[random.choice(K, n, p=[0.4, 0.38, 0.1, 0.12])] + 0.6 * random.standard_normal((n, C))
    return x - x.mean(0)


def start_mixture() -> Mixture:
    """The same start for both programs."""
    means = torch.tensor([[1.0, -1.0, 1.0], [-0.5, 0.0, -0.5], [0.0, 1.0, 0.0], [1.0, 0.5, -0.5]])
    return Mixture(torch.full((K,), 1.0 / K), means, torch.eye(C).repeat(K, 1, 1)).to(dtype=torch.float64)


def reference(covariance: Covariance, iterations: int) -> Reference:
    """scikit-learn, from the same start."""
    start = start_mixture()
    precisions = start.covariances.numpy() if covariance == "full" else np.ones((K, C))
    return Reference(
        K,
        covariance_type=covariance,
        tol=0.0,
        reg_covar=1e-3,
        max_iter=iterations,
        weights_init=start.weights.numpy(),
        means_init=start.means.numpy(),
        precisions_init=precisions,
    )


def alternately(one: Callable[[], object], other: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median milliseconds of two programs that run alternately."""
    times = in_turn({"one": one, "other": other}, repeats, time.perf_counter)
    return median(times["one"]), median(times["other"])


def em_case(
    name: str,
    x: np.ndarray,
    covariance: Covariance,
    iterations: int,
    target: float | None,
    repeats: int,
    dtype: torch.dtype,
    reference_dtype: str,
) -> Row:
    """One mixture against scikit-learn."""
    X, start = torch.from_numpy(x).to(dtype), start_mixture()
    given = x.astype(reference_dtype)

    def ours(limit: int = iterations) -> float:
        fitted = fit_gmm(X, start=start, covariance=covariance, max_iter=limit, tol=0.0)
        return fitted.lower_bounds[-1]

    slow, quick = alternately(lambda: reference(covariance, iterations).fit(given), ours, repeats)
    difference = abs(reference(covariance, iterations).fit(x).lower_bound_ - ours())
    per_iteration = 1e6 * quick / len(x) / (iterations + 1)
    return Row(name, slow, quick, slow / quick, target, per_iteration, float(difference))


def loop_loss(image: torch.Tensor, w: torch.Tensor, heart: torch.Tensor) -> torch.Tensor:
    """The published deepG objective the way it was published: image by image, class by class, channel by
    channel, each result assigned into a tensor made beforehand; densities multiplied, not their logs added.
    """
    values = torch.zeros(len(image))
    for b in range(len(image)):
        resp = torch.stack([w[b, k][heart[b]] for k in range(K)])  # (K, N)
        x = torch.stack([image[b, c][heart[b]] for c in range(C)])  # (C, N)
        means, variances, density = torch.zeros(K, C), torch.zeros(K, C), torch.zeros(K, C, x.shape[1])
        for k in range(K):
            for c in range(C):
                total = resp[k].sum() + 1e-10
                means[k, c] = (resp[k] * x[c]).sum() / total
                variances[k, c] = (resp[k] * (x[c] - means[k, c]) ** 2).sum() / total + 1e-3
        for k in range(K):
            for c in range(C):
                norm = torch.sqrt(2 * torch.pi * variances[k, c])
                density[k, c] = torch.exp(-((x[c] - means[k, c]) ** 2) / (2 * variances[k, c])) / norm
        mixed = (resp.mean(1)[:, None] * density.prod(1)).sum(0)
        values[b] = -torch.log(mixed + 1e-10).mean()
    return values.mean()


def core_loss(image: torch.Tensor, w: torch.Tensor, heart: torch.Tensor) -> torch.Tensor:
    """The same from the mixture core, on the region's voxels only."""
    inside = heart[0].flatten()  # the same in every image
    x, resp = (values.flatten(2)[..., inside].mT for values in (image, w))
    mixture = m_step(statistics(x, resp), covariance="diag")
    log_density = log_gaussian(x, mixture.means, mixture.covariances)
    return nll(
        safe_log(mixture.weights)[:, None, :].to(x.dtype),
        log_density,
        torch.ones(x.shape[:2], dtype=torch.bool),
    ).mean()


def loss_case(batch: int, target: float, repeats: int) -> Row:
    """Loss and backward pass to the network's responsibilities."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, C, 160, 160, generator=generator)
    logits = torch.randn(batch, K, 160, 160, generator=generator)
    w = logits.softmax(1).requires_grad_()
    grid = torch.arange(160) - 79.5
    # The 45 pixels that the left ventricle's outer radius has in the median study.
    heart = ((grid[:, None] ** 2 + grid**2).sqrt() < 45).expand(batch, 160, 160)

    def step(loss: Callable[..., torch.Tensor]) -> float:
        w.grad = None
        value = loss(image, w, heart)
        value.backward()
        return float(value.detach())

    slow, quick = alternately(lambda: step(loop_loss), lambda: step(core_loss), repeats)
    difference = abs(step(loop_loss) - step(core_loss))
    name = f"loss + backward, batch {batch}"
    return Row(name, slow, quick, slow / quick, target, None, difference)


def extra_peak_mib(program: str) -> float:
    """Peak memory of one fit at a million voxels beyond what the data and the libraries take, in MiB.

    In a process of its own, since a peak never falls.
    """
    command = [sys.executable, str(Path(__file__)), "--peak", program]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_peak(program: str) -> float:
    """The measurement itself, in the child process."""
    x = np.random.default_rng(0).random((LARGE, C), dtype=np.float32)
    if program == "scikit-learn":
        x = x.astype(np.float64)
        small, whole = (lambda: reference("diag", 2).fit(x[:1000])), (lambda: reference("diag", 2).fit(x))
    else:
        X = torch.from_numpy(x)

        def fit(values: torch.Tensor) -> object:
            return fit_gmm(values, start=start_mixture(), covariance="diag", max_iter=2, tol=0.0)

        small, whole = (lambda: fit(X[:1000])), (lambda: fit(X))
    small()  # libraries load lazily
    forget_peak()
    before = peak_mib()
    whole()
    return peak_mib() - before


def memory_row() -> Row:
    """Memory in MiB in the columns of the times."""
    theirs, ours = extra_peak_mib("scikit-learn"), extra_peak_mib("diag")
    return Row("extra peak memory (MiB), diag, 1,000,000", theirs, ours, theirs / ours, 3.0)


def run(repeats: int, reference_dtype: str, *, quick: bool) -> list[Row]:
    """All cases, or those that take seconds."""
    slice_, study = cohort(SLICE), cohort(STUDY)

    def em(
        name: str,
        x: np.ndarray,
        covariance: Covariance,
        iterations: int,
        target: float | None,
        dtype: torch.dtype = torch.float32,
    ) -> Row:
        return em_case(name, x, covariance, iterations, target, repeats, dtype, reference_dtype)

    rows = [
        em("diag, one slice (3,000)", slice_, "diag", 20, 6.0),
        em("diag, one study (45,000)", study, "diag", 20, 12.0),
        em("full, one slice (3,000)", slice_, "full", 20, None),
        em("full, one study (45,000)", study, "full", 20, 12.0),
        em("diag, one study, float64", study, "diag", 20, None, torch.float64),
        em("full, one study, float64", study, "full", 20, None, torch.float64),
        loss_case(4, 12.0, repeats),
        loss_case(32, 25.0, repeats),
    ]
    if not quick:
        rows.insert(2, em("diag, 1,000,000", cohort(LARGE), "diag", 10, 16.0))
        rows.append(memory_row())
    return rows


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = []
    for row in rows:
        target = "" if row.target is None else f"{row.target:g}x"
        pace = "" if row.ns_per_voxel_iteration is None else f"{row.ns_per_voxel_iteration:.1f}"
        difference = "" if row.nll_difference is None else f"{row.nll_difference:.1e}"
        times = f"{row.reference_ms:.2f}", f"{row.ours_ms:.2f}", f"{row.ratio:.1f}x"
        lines.append([row.case, *times, target, pace, difference])
    head = ("case", "reference ms", "ours ms", "ratio", "asked for", "ns/voxel/iteration", "NLL difference")
    paces = [row.ns_per_voxel_iteration for row in rows if row.ns_per_voxel_iteration]
    return (
        f"{markdown_table(head, lines)}\n\nArithmetic floor about {FLOOR_NS:g} ns per voxel and iteration; "
        f"the best case takes {min(paces):.1f} ns, {min(paces) / FLOOR_NS:.1f} times that."
    )


def main() -> None:
    """Parse, run, print, write."""
    parser = script_parser(__doc__)
    parser.add_argument("-o", "--output", type=Path, help="write the numbers as JSON")
    parser.add_argument("--repeats", type=int, default=9, help="runs per program, at least 7 (default 9)")
    parser.add_argument("--quick", action="store_true", help="leave out the cases of a million voxels")
    parser.add_argument(
        "--reference-dtype", choices=["float64", "float32"], default="float64", help="what scikit-learn gets"
    )
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn: tol = 0 never converges
    torch.set_num_threads(1)
    if options.peak:
        sys.stdout.write(f"{measure_peak(options.peak)}\n")
        return
    if options.repeats < 7:
        parser.error("--repeats must be at least 7")
    rows = run(options.repeats, options.reference_dtype, quick=options.quick)
    sys.stdout.write(table(rows) + "\n")
    report = {
        "rows": [asdict(row) for row in rows],
        "floor_ns": FLOOR_NS,
        "reference_dtype": options.reference_dtype,
        "repeats": options.repeats,
        "scikit-learn": sklearn.__version__,
        **machine(),
    }
    save_numbers(options.output, report)


if __name__ == "__main__":
    main()
