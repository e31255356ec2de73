"""How far the hottest loops are from what this machine can do: the U-Nets' passes and an EM iteration.

The machine's own limits come from the same run: arithmetic from a product of two large matrices, memory
bandwidth from copying an array that no cache holds, the exponential from NumPy's on an array that fits into
the cache. One thread, CPU time, medians of interleaved rounds.

U-Net: floating-point operations of its convolutions (counted by torch) over the time of a pass; that of the
default run, and the pretrained segmenter as `segment` uses it.
EM iteration (full covariance, float64): what a fit of `ITERATIONS` more takes longer, over their number. Per
voxel K densities as products with D = 1 + C + C (C + 1) / 2 features, the same for the sums, K exponentials
and a logarithm; from memory the features once.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmarking import in_turn, markdown_table, save_numbers, script_parser
from torch.utils.flop_counter import FlopCounterMode

from mrigmm.data.priors.shipped import default_prior
from mrigmm.mixture import fit_gmm
from mrigmm.networks.segmenter import N_PLANES
from mrigmm.networks.spatial_prior import N_ANATOMY_CHANNELS, SpatialPrior
from mrigmm.networks.unet import for_inference
from mrigmm.pretrained.networks import shipped_networks

C, K = 3, 4
D = 1 + C + C * (C + 1) // 2
SLICES, SIDE = 4, 128  # of a pass; pixels of the default's crop
MATRIX = 1024
COPY = 1 << 25  # float64: 256 MiB
IN_CACHE = 1 << 14
FEW, ITERATIONS = 2, 20
SEED = 3


def network_pass(filters: int) -> tuple[Callable[[], object], float]:
    """A pass of the default's U-Net, and its floating-point operations."""
    torch.manual_seed(SEED)
    network = SpatialPrior(C, K - 1, filters=filters, levels=4).eval()
    return counted_pass(network, torch.randn(SLICES, C + N_ANATOMY_CHANNELS, SIDE, SIDE))


def segmenter_pass() -> tuple[Callable[[], object], float]:
    """A pass of the first pretrained segmenter, and its floating-point operations."""
    network = for_inference(shipped_networks("cpu").segmenters[0].unet)
    return counted_pass(network, torch.randn(SLICES, N_PLANES, SIDE, SIDE))


def counted_pass(network: torch.nn.Module, x: torch.Tensor) -> tuple[Callable[[], object], float]:
    """A pass of a network, and its floating-point operations."""

    def run() -> object:
        with torch.inference_mode():
            return network(x)

    with FlopCounterMode(display=False) as counter:
        network(x)
    return run, float(counter.get_total_flops())


def em(n_voxels: int, iterations: int) -> Callable[[], object]:
    """Iterations of EM on draws of the population's mixture."""
    prior = default_prior()
    start = prior.mixture(torch.float64, torch.device("cpu"))
    generator = torch.Generator().manual_seed(SEED)
    classes = torch.multinomial(start.weights, n_voxels, replacement=True, generator=generator)
    noise = torch.randn(n_voxels, C, 1, generator=generator, dtype=torch.float64)
    factors = torch.linalg.cholesky(start.covariances)
    x = start.means[classes] + (factors[classes] @ noise)[..., 0]

    def run() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is stopped on purpose
            return fit_gmm(x, start=start, covariance="full", max_iter=iterations, tol=0.0)

    return run


def measured(rounds: int, filters: tuple[int, ...], voxels: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Milliseconds of everything, and the work in each of the loops."""
    a = torch.randn(MATRIX, MATRIX)
    source, target = np.ones(COPY), np.zeros(COPY)
    small = np.linspace(-5.0, 0.0, IN_CACHE)
    passes = {f"U-Net, {n} filters": network_pass(n) for n in filters}
    passes["pretrained segmenter, 12 filters"] = segmenter_pass()
    programs: dict[str, Callable[[], object]] = {
        "matrix product": lambda: a @ a,
        "copy": lambda: np.copyto(target, source),
        "exponential": lambda: [np.exp(small) for _ in range(100)],
        **{name: run for name, (run, _) in passes.items()},
        **{f"EM, {n:,} voxels": em(n, FEW + ITERATIONS) for n in voxels},
        **{f"few, {n:,} voxels": em(n, FEW) for n in voxels},
    }
    times = {name: float(np.median(t)) for name, t in in_turn(programs, rounds).items()}
    work = {name: flops for name, (_, flops) in passes.items()}
    return {"ms": times, "flops": work, "voxels": {f"EM, {n:,} voxels": float(n) for n in voxels}}


def tables(numbers: dict[str, dict[str, float]]) -> str:
    """Markdown."""
    ms = numbers["ms"]
    flops_per_ms = 2 * MATRIX**3 / ms["matrix product"]
    bytes_per_ms = 2 * 8 * COPY / ms["copy"]  # read and written
    exponential_ns = 1e6 * ms["exponential"] / (100 * IN_CACHE)
    passes = [
        [name, f"{ms[name]:.1f}", f"{flops / 1e9:.2f}", f"{100 * flops / ms[name] / flops_per_ms:.0f} %"]
        for name, flops in numbers["flops"].items()
    ]
    # float64 runs at half the rate of float32.
    arithmetic = 1e6 * 2 * 2 * K * D / (flops_per_ms / 2) + (K + 1) * exponential_ns
    bandwidth = 1e6 * 8 * D / bytes_per_ms
    per_voxel = {
        name: 1e6 * (ms[name] - ms[name.replace("EM", "few")]) / (n * ITERATIONS)
        for name, n in numbers["voxels"].items()
    }
    floors = [f"arithmetic floor, {arithmetic:.1f} ns", f"memory floor, {bandwidth:.1f} ns"]
    iterations = [
        [name, f"{ns:.1f}", f"{ns / arithmetic:.1f} times", f"{ns / bandwidth:.1f} times"]
        for name, ns in per_voxel.items()
    ]
    return "\n\n".join(
        [
            f"Limits: {flops_per_ms / 1e6:.0f} GFLOP/s (float32), {bytes_per_ms / 1e6:.1f} GB/s, "
            f"{exponential_ns:.1f} ns per exponential (float64).",
            markdown_table(["loop", "ms", "GFLOP", "of the arithmetic limit"], passes),
            markdown_table(["loop", "ns per voxel and iteration", *floors], iterations),
        ]
    )


def main() -> None:
    """Parse, measure, print, write."""
    parser = script_parser(__doc__)
    parser.add_argument("-o", "--out", type=Path, help="JSON file for the numbers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--filters", default="8,16", help="widths of the U-Net")
    parser.add_argument("--voxels", default="3000,45000,1000000", help="sizes of the EM")
    given = parser.parse_args()
    filters, voxels = (tuple(int(n) for n in text.split(",")) for text in (given.filters, given.voxels))
    numbers = measured(given.rounds, filters, voxels)
    print(tables(numbers))
    save_numbers(given.out, numbers)


if __name__ == "__main__":
    main()
