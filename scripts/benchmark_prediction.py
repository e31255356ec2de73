"""How long a network's prediction takes beside EM, and a training step beside the published one.

Prediction. A run of random weights (time does not depend on them) segments a simulated study: one forward
pass per slice and one M-step, with torch and with ONNX Runtime. Beside it EM on the same voxels to
convergence (tolerance 2e-4 per voxel as published, one mixture per study, started at the population's means),
by the package and by scikit-learn. Reading, resampling and writing are left out on both sides.

Training step. Batch 4 of 160 x 160, forward, loss, backward, clipping, AdamW. The peer is the published
U-Net and the published loss as they were published: nearest upsampling before its 1x1 convolution; the loss
image by image, class by class and channel by channel, densities multiplied instead of their logs added.
The published augmentation is left out of the peer's step and of deepsvg's; the default's own is in its step.

One process, one thread; times are CPU time, which other work on the machine disturbs less than the clock. All
programs of a table run in turn, and a ratio is the median over the rounds of the ratio within a round
(quartiles in brackets), so that what disturbs them harms all alike.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import onnxruntime
import sklearn
import torch
from benchmarking import Ratio, Times, in_turn, machine, markdown_table, save_numbers, script_parser
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from mrigmm.config import make_config
from mrigmm.data.crops import network_view
from mrigmm.data.manifest import Study
from mrigmm.data.priors.shipped import default_prior
from mrigmm.data.run_folder import RunFolder, RunRecord
from mrigmm.data.standardise import STANDARDISATIONS
from mrigmm.data.study import load_study
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.jobs.export import export_run
from mrigmm.labels import allowed_classes
from mrigmm.methods.base import Method, responsible_mixture
from mrigmm.methods.deep_gem import build_spatial_prior
from mrigmm.methods.deep_gmm import build_network
from mrigmm.methods.registry import RUNTIMES, method_of_run
from mrigmm.mixture import Mixture, fit_gmm
from mrigmm.networks.deep_gmm import negative_log_likelihood
from mrigmm.networks.spatial_prior import N_ANATOMY_CHANNELS
from mrigmm.networks.unet import UNet
from mrigmm.phantom import PRESETS, simulate_study
from mrigmm.training.batches import TrainingBatch
from mrigmm.training.gem_module import DeepGEMModule
from mrigmm.training.module import DeepGMMModule, EpochModule

SEQUENCES, CLASSES = ("LGE", "T2", "bSSFP"), ("blood", "myocardium", "edema", "scar")
C, K = len(SEQUENCES), len(CLASSES)
FILTERS, SLICES = (8, 16, 32), (3, 10)
SEED = 11
# The published stop rule of EM.
TOLERANCE, MAX_ITER = 2e-4, 100
VARIANCE_FLOOR = 1e-3
# The 45 pixels that the left ventricle's outer radius has in the median study.
BATCH, SIDE, RADIUS = 4, 160, 45


def ratio(times: Times, slow: str, quick: str) -> Ratio:
    """`slow / quick` within each round."""
    return Ratio.of(times[slow], times[quick])


# Prediction


def simulated_study(n_slices: int, folder: Path) -> StudyTensors:
    """A study of thin slices, 0.75 mm in plane, undivided left ventricle."""
    study = simulate_study(replace(PRESETS["thin-slices"], slices=(n_slices, n_slices)), seed=SEED, index=0)

    def written(name: str, data: np.ndarray, affine: np.ndarray) -> Path:
        path = folder / f"{n_slices}_{name}.nii.gz"
        nib.save(nib.Nifti1Image(data, affine), path)
        return path

    images = {
        name: written(name, study.sequences[name].astype(np.float32), study.affines[name])
        for name in SEQUENCES
    }
    region = written("region", study.region, study.affines["LGE"])
    return load_study(Study(study.id, images, region), SEQUENCES, CLASSES)


def random_run(folder: Path, filters: int) -> RunFolder:
    """A finished run of `deepsvg` with random weights, exported."""
    config = make_config("deepsvg").model_copy(
        update={"sequences": SEQUENCES, "classes": CLASSES, "spacing_mm": 0.75, "filters": filters}
    )
    run = RunFolder(folder / f"filters_{filters}")
    torch.manual_seed(SEED)
    prior = default_prior(STANDARDISATIONS[config.standardise])
    run.write_settings(config, prior, None)
    run.write_weights(build_network(config, prior))
    run.write_record(
        RunRecord(
            classes=CLASSES,
            sequences=SEQUENCES,
            component_order=tuple(range(K)),
            training_studies=(),
            versions={},
        )
    )
    export_run(run.path, run.onnx, format="onnx")
    return run


def one_pass(method: Any, study: StudyTensors) -> Callable[[], object]:
    """Forward pass slice by slice and one full-covariance M-step on the region's pixels."""
    view = network_view(study, spacing_mm=0.75, crop_mm=120.0, divisor=method.network.unet.divisor)
    image, inside = view.image.float(), view.region > 0
    x = image[:, inside].T

    def run() -> Mixture:
        with torch.inference_mode():
            slices = [
                method.network.unet(image[None, ..., z])[0].softmax(dim=0) for z in range(image.shape[-1])
            ]
            resp = torch.stack(slices, dim=-1)[:, inside].T
            return responsible_mixture(x, resp, None)

    return run


def em_start(covariance: str) -> Mixture:
    """The population's mixture, from which all EM programs start."""
    known = default_prior().mixture(torch.float64, torch.device("cpu"))
    if covariance == "full":
        return known
    return replace(known, covariances=torch.diag_embed(known.covariances.diagonal(dim1=1, dim2=2)))


def own_em(x: Tensor, covariance: Any) -> Callable[[], int]:
    """EM of the package; returns its iterations."""
    start = em_start(covariance)

    def run() -> int:
        fitted = fit_gmm(
            x,
            start=start,
            covariance=covariance,
            max_iter=MAX_ITER,
            tol=TOLERANCE,
            variance_floor=VARIANCE_FLOOR,
        )
        return fitted.n_iter

    return run


def scikit_learn_em(x: Tensor, covariance: str) -> Callable[[], int]:
    """EM of scikit-learn; returns its iterations."""
    start, given = em_start(covariance), x.numpy()
    precisions = np.linalg.inv(start.covariances.numpy())

    def run() -> int:
        fitted = GaussianMixture(
            K,
            covariance_type=covariance,
            tol=TOLERANCE,
            max_iter=MAX_ITER,
            reg_covar=VARIANCE_FLOOR,
            weights_init=start.weights.numpy(),
            means_init=start.means.numpy(),
            precisions_init=precisions if covariance == "full" else np.diagonal(precisions, axis1=1, axis2=2),
        ).fit(given)
        return int(fitted.n_iter_)

    return run


EM_PROGRAMS = {
    "EM full": (own_em, "full"),
    "EM diag": (own_em, "diag"),
    "scikit-learn full": (scikit_learn_em, "full"),
    "scikit-learn diag": (scikit_learn_em, "diag"),
}


def predictions(repeats: int, filters: Sequence[int], slices: Sequence[int]) -> list[dict[str, Any]]:
    """Times and ratios of every study size."""
    report = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = {n: random_run(folder, n) for n in filters}
        for n_slices in slices:
            study = simulated_study(n_slices, folder)
            report.append(_one_size(study, runs, repeats))
    return report


def _one_size(study: StudyTensors, runs: Mapping[int, RunFolder], repeats: int) -> dict[str, Any]:
    cpu = torch.device("cpu")
    x = study.voxels.double()
    em = {name: make(x, covariance) for name, (make, covariance) in EM_PROGRAMS.items()}
    methods: dict[str, Method] = {
        f"{n} filters, {runtime}": method_of_run(run, cpu, runtime=runtime).method
        for n, run in runs.items()
        for runtime in RUNTIMES
    }
    programs = {**em, **{name: one_pass(method, study) for name, method in methods.items()}}
    times = in_turn(programs, repeats)
    return {
        "slices": int(study.region.shape[-1]),
        "voxels": len(x),
        "iterations": {name: program() for name, program in em.items()},
        "pass_ms": times,
    }


# Training step


class PublishedUNet(UNet):
    """The U-Net with each 1x1 convolution after the upsampling, as published."""

    def __init__(self, channels_in: int, channels_out: int, *, filters: int, levels: int) -> None:
        super().__init__(channels_in, channels_out, filters=filters, levels=levels)
        width = [filters * 2**level for level in range(levels + 1)]
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(width[level + 1], width[level], 1))
            for level in reversed(range(levels))
        )
        self.to(memory_format=torch.contiguous_format)  # channels last is ours


def published_loss(image: Tensor, w: Tensor, heart: Tensor, prior_means: Tensor) -> tuple[Tensor, Tensor]:
    """NLL_V in loops, and the distance of the batch's mean class means from the population's.

    Args:
        image: (B, C, X, Y).
        w: (B, K, X, Y) responsibilities.
        heart: (B, X, Y) bool.
        prior_means: (K, C).
    """
    values, means = torch.zeros(len(image)), torch.zeros(len(image), K, C)
    for b in range(len(image)):
        mixed = torch.zeros(int(heart[b].sum()))
        for k in range(K):
            resp = w[b, k][heart[b]]
            total = resp.sum() + 1e-10
            density = torch.ones_like(resp)
            for c in range(C):
                x = image[b, c][heart[b]]
                mean = (resp * x).sum() / total
                variance = (resp * (x - mean) ** 2).sum() / total + VARIANCE_FLOOR
                density = density * torch.exp(-((x - mean) ** 2) / (2 * variance))
                density = density / torch.sqrt(2 * torch.pi * variance)
                means[b, k, c] = mean
            mixed = mixed + resp * density
        values[b] = -torch.log(mixed + 1e-10).mean()
    distance = torch.zeros(())
    for k in range(K):
        for c in range(C):
            distance = distance + (prior_means[k, c] - means[:, k, c].mean()) ** 2
    return values.mean(), distance


def training_batch() -> TrainingBatch:
    """Noise in a disc: the time does not depend on the values."""
    generator = torch.Generator().manual_seed(SEED)
    grid = torch.arange(SIDE) - (SIDE - 1) / 2
    heart = (grid[:, None] ** 2 + grid**2).sqrt() < RADIUS
    return TrainingBatch(
        image=torch.randn(BATCH, C, SIDE, SIDE, generator=generator),
        region=heart.expand(BATCH, SIDE, SIDE).to(torch.uint8),
        mixture_index=torch.arange(BATCH),
        present=torch.ones(BATCH, C, dtype=torch.bool),
        allowed=torch.tensor(allowed_classes(CLASSES), dtype=torch.bool),
        rows=torch.arange(BATCH),
        n_rows=BATCH,
        n_groups=BATCH,
        counts=True,
    )


def optimiser_step(network: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Loss, backward pass, clipping and AdamW with the published settings."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-3)

    def run() -> None:
        optimiser.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimiser.step()

    return run


def peer_step(filters: int, batch: TrainingBatch) -> Callable[[], None]:
    """A training step of the peer."""
    torch.manual_seed(SEED)
    network = PublishedUNet(C, K, filters=filters, levels=4)
    heart, prior_means = batch.region > 0, torch.tensor(default_prior().means, dtype=torch.float32)

    def loss() -> Tensor:
        w = network(batch.image).softmax(dim=1)
        likelihood, distance = published_loss(batch.image, w, heart, prior_means)
        return likelihood + distance

    return optimiser_step(network, loss)


def own_step(preset: str, filters: int, batch: TrainingBatch) -> Callable[[], None]:
    """A training step of one of our presets, without the published augmentation, as the peer's."""
    config = make_config(preset).model_copy(
        update={
            "sequences": SEQUENCES,
            "classes": CLASSES,
            "filters": filters,
            "published_augmentation": False,
        }
    )
    torch.manual_seed(SEED)
    module: EpochModule
    if config.objective == "gem":
        module = DeepGEMModule(build_spatial_prior(config), config)
        batch = gem_batch(batch)
    else:
        means = torch.tensor(default_prior().means, dtype=torch.float32)
        module = DeepGMMModule(build_network(config, default_prior()), config, means)
    # Without the logging of `training_step`, which needs a trainer.
    return optimiser_step(module.network, lambda: module.objectives(module.augmented(batch))[0]["objective"])


def gem_batch(batch: TrainingBatch) -> TrainingBatch:
    """The same with anatomy channels and responsibilities to learn."""
    generator = torch.Generator().manual_seed(SEED)
    inside = (batch.region > 0).unsqueeze(1)
    anatomy = inside.expand(-1, N_ANATOMY_CHANNELS, -1, -1).float()
    target = torch.randn(BATCH, K - 1, SIDE, SIDE, generator=generator).softmax(dim=1) * inside
    return replace(batch, image=torch.cat([batch.image, anatomy, target], dim=1))


def training_steps(repeats: int, widths: tuple[int, int] = (8, 32)) -> dict[str, Any]:
    """Times of a step: the peer at two widths, `deepsvg` at the wide one, the default at the narrow one."""
    batch, (narrow, wide) = training_batch(), widths
    programs = {
        f"published, {wide} filters": peer_step(wide, batch),
        f"published, {narrow} filters": peer_step(narrow, batch),
        f"deepsvg, {wide} filters": own_step("deepsvg", wide, batch),
        f"default, {narrow} filters": own_step("default", narrow, batch),
    }
    return {"step_ms": in_turn(programs, repeats), "widths": widths, "nll_difference": nll_difference(batch)}


def nll_difference(batch: TrainingBatch) -> float:
    """How far peer and `deepsvg` differ in NLL_V for the same responsibilities."""
    torch.manual_seed(SEED)
    config = make_config("deepsvg").model_copy(
        update={"sequences": SEQUENCES, "classes": CLASSES, "filters": 4}
    )
    network = build_network(config, None)
    with torch.no_grad():
        output = network(batch)
        prior_means = torch.zeros(K, C)
        peer, _ = published_loss(batch.image, output.resp, batch.region > 0, prior_means)
        return abs(float(peer - negative_log_likelihood(output, batch, "nll_v")))


# Tables


def pass_table(report: Sequence[Mapping[str, Any]]) -> str:
    """One forward pass and one M-step beside EM to convergence."""
    header = ["slices", "network", "median ms", *(f"{name} / network" for name in EM_PROGRAMS)]
    rows = []
    for part in report:
        times = part["pass_ms"]
        for name in times:
            if name not in EM_PROGRAMS:
                ratios = [str(ratio(times, em, name)) for em in EM_PROGRAMS]
                rows.append([str(part["slices"]), name, f"{np.median(times[name]):.0f}", *ratios])
    return markdown_table(header, rows)


def em_table(report: Sequence[Mapping[str, Any]]) -> str:
    """EM itself."""
    rows = [
        [
            *(str(part["slices"]), str(part["voxels"])),
            *(name, str(part["iterations"][name]), f"{np.median(part['pass_ms'][name]):.0f}"),
        ]
        for part in report
        for name in EM_PROGRAMS
    ]
    return markdown_table(["slices", "voxels", "EM", "iterations", "median ms"], rows)


def step_table(report: Mapping[str, Any]) -> str:
    """The peer's step beside ours, and which share is the width's and which the loss's."""
    times, (narrow, wide) = report["step_ms"], report["widths"]
    peer = f"published, {wide} filters"
    rows = [
        [name, f"{np.median(times[name]):.0f}", "" if name == peer else str(ratio(times, peer, name))]
        for name in times
    ]
    shares = [
        (f"deepsvg, {wide} filters", peer, "loss and upsampling, same width"),
        (f"published, {narrow} filters", peer, "width, same loss"),
        (f"default, {narrow} filters", f"published, {narrow} filters", "loss and upsampling, same width"),
        (f"default, {narrow} filters", peer, "both"),
    ]
    rows_of_shares = [[slow, quick, why, str(ratio(times, slow, quick))] for quick, slow, why in shares]
    return (
        markdown_table(["step", "median ms", f"{peer} / this"], rows)
        + "\n\n"
        + markdown_table(["slower", "quicker", "what differs", "ratio"], rows_of_shares)
    )


def main() -> None:
    """Parse, run, print, write."""
    parser = script_parser(__doc__)
    parser.add_argument("-o", "--output", type=Path, help="write the numbers as JSON")
    parser.add_argument("--repeats", type=int, default=15, help="rounds, at least 7 (default 15)")
    options = parser.parse_args()
    if options.repeats < 7:
        parser.error("--repeats must be at least 7")
    warnings.simplefilter("ignore")  # of convergence; iterations are in the table
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        "repeats": options.repeats,
        "seed": SEED,
        "onnxruntime": onnxruntime.__version__,
        "scikit-learn": sklearn.__version__,
        **machine(),
    }
    report["training"] = training_steps(options.repeats)
    sys.stdout.write(step_table(report["training"]) + "\n\n")
    sys.stdout.flush()  # the rest takes long
    report["prediction"] = predictions(options.repeats, FILTERS, SLICES)
    sys.stdout.write(em_table(report["prediction"]) + "\n\n" + pass_table(report["prediction"]) + "\n")
    save_numbers(options.output, report)


if __name__ == "__main__":
    main()
