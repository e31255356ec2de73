"""Screening of the segmenter's architecture: what network learns most from the same simulated slices.

    python scripts/screen_networks.py -o screening
    python scripts/screen_networks.py -o screening --variants base residual --seeds 0 1

Variants see the same slices in the same order (drawn once, seed 77), for the same number of steps, and are
scored on shifted cohorts of the tuning seed 900, by the most probable class of the network alone, with
nothing given (the square at the true centre), the ventricle given, and cavity and wall given. Every variant
is scored with its last weights and with the moving average. Finished ones are kept in `results.jsonl`; the
table is `networks.md`. Use one core and one thread: `OMP_NUM_THREADS=1`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarking import dice, script_parser
from monai.networks.blocks import Convolution
from rich.progress import track
from torch import Tensor, nn

from mrigmm.config_pretrain import PretrainConfig
from mrigmm.data.crops import network_view
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import load_study
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.labels import SEGMENTER_CLASSES, Region
from mrigmm.methods.study_views import PIXEL_MM, SQUARE_MM, centred_view, given_view
from mrigmm.networks import unet
from mrigmm.networks.segmenter import N_PLANES, N_SEQUENCES, Segmenter, SegmenterInput
from mrigmm.phantom import simulate_cohort
from mrigmm.phantom.generator import allowed_table, draw_examples, read_backgrounds
from mrigmm.pretrained.networks import shipped_networks
from mrigmm.training.pretraining import segmenter_loss

CLASSES = ("blood", "myocardium", "edema", "scar")
COHORTS = (
    *("myops-like", "second-centre", "low-contrast", "noisy", "coarse", "thin-wall", "bright-blood"),
    *("psir", "heavy-tails"),
)
PROTOCOLS = ("nothing", "ventricle", "wall")
SCORES = ("wall", "scar", "scar + edema", "edema")
TUNING_SEED, SLICES_SEED = 900, 77
STUDIES = 6
_FORBIDDEN = -1e4
_FIELDS = ("image", "present", "region", "given", "codes")


@dataclass(frozen=True)
class Slices:
    """Training slices; neighbours of a study lie beside one another.

    Attributes:
        arrays: by the names of `phantom.generator.Examples`, first axis slices.
        study: (N,) which study a slice is of.
    """

    arrays: Mapping[str, np.ndarray]
    study: np.ndarray

    def batch(self, step: int, size: int) -> tuple[SegmenterInput, Tensor, Tensor]:
        """Input, codes, and the images of the two neighbours (B, 6, A, A) of a step."""
        first = step * size % (len(self.study) - size)
        part = {name: np.array(values[first : first + size]) for name, values in self.arrays.items()}
        image = part["image"].astype(np.float32)
        x = SegmenterInput(
            torch.from_numpy(image),
            torch.from_numpy(part["present"]),
            torch.from_numpy(part["region"]),
            torch.from_numpy(part["given"].astype(np.int64)),
        )
        around = neighbours(x.image, torch.from_numpy(self.study[first : first + size]))
        return x, torch.from_numpy(part["codes"]), around


@dataclass(frozen=True)
class Scored:
    """A study of a tuning cohort.

    Attributes:
        cohort: preset.
        protocol: what is given.
        slices: as the network sees them.
        truth: (Z, A, A) 0 background, then `CLASSES`.
        edema: whether its sequences show edema.
    """

    cohort: str
    protocol: str
    slices: SegmenterInput
    truth: np.ndarray
    edema: bool


def neighbours(image: Tensor, study: Tensor) -> Tensor:
    """Images (B, 2 C, A, A) of the slices above and below, 0 where the study ends."""
    same = (study[1:] == study[:-1])[:, None, None, None]
    above, below = torch.zeros_like(image), torch.zeros_like(image)
    above[1:] = torch.where(same, image[:-1], 0.0)
    below[:-1] = torch.where(same, image[1:], 0.0)
    return torch.cat([above, below], dim=1)


class Variant(nn.Module):
    """The shipped segmenter with other blocks, filters or neighbouring slices."""

    def __init__(self, *, filters: int, with_neighbours: bool = False) -> None:
        super().__init__()
        self.with_neighbours = with_neighbours
        planes = N_PLANES + 2 * N_SEQUENCES * with_neighbours
        self.unet = unet.UNet(planes, len(SEGMENTER_CLASSES), filters=filters, levels=4, norm="batch")

    def forward(self, x: SegmenterInput, around: Tensor) -> Tensor:
        """Logits (B, K, A, A)."""
        planes = torch.cat([x.planes(), around], dim=1) if self.with_neighbours else x.planes()
        return unet.at_least_single(self.unet(planes)).masked_fill(~x.allowed(), _FORBIDDEN)


class Encoders(nn.Module):
    """An encoder per sequence; their features are averaged over the sequences that are there."""

    def __init__(self, *, filters: int) -> None:
        super().__init__()
        planes = N_PLANES - 2 * N_SEQUENCES + 1  # one sequence, and what is given
        k = len(SEGMENTER_CLASSES)
        self.nets = nn.ModuleList(
            unet.UNet(planes, k, filters=filters, levels=4, norm="batch") for _ in range(N_SEQUENCES)
        )
        for unused in self.nets[1:]:
            del unused.up, unused.merge, unused.head

    def forward(self, x: SegmenterInput, around: Tensor) -> Tensor:
        """Logits (B, K, A, A)."""
        planes = x.planes()
        given = planes[:, 2 * N_SEQUENCES :]
        weight = x.present.to(planes) / x.present.sum(dim=1, keepdim=True).clamp_min(1)
        features = [
            [w[:, None, None, None] * f for f in net.encode(torch.cat([image[:, None], given], dim=1))]
            for net, image, w in zip(
                self.nets, planes[:, :N_SEQUENCES].unbind(1), weight.unbind(1), strict=True
            )
        ]
        fused = [torch.stack(level).sum(dim=0) for level in zip(*features, strict=True)]
        first = self.nets[0]
        assert isinstance(first, unet.UNet)
        return unet.at_least_single(first.decode(fused)).masked_fill(~x.allowed(), _FORBIDDEN)


class Residual(nn.Module):
    """The U-Net's double convolution beside a 1x1 convolution of its input."""

    def __init__(self, channels_in: int, channels_out: int, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.skip = nn.Conv2d(channels_in, channels_out, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, channels_out, X, Y)."""
        return self.body(x) + self.skip(x)


def with_norm(layer: tuple[str, dict[str, Any]]) -> Callable[..., nn.Module]:
    """Return a maker of the double convolution with another normalisation."""

    def block(dims: int, channels_in: int, channels_out: int, norm: str) -> nn.Module:
        act = ("leakyrelu", {"negative_slope": 0.01})
        return nn.Sequential(
            Convolution(dims, channels_in, channels_out, adn_ordering="A", act=act),
            Convolution(dims, channels_out, channels_out, adn_ordering="NA", act=act, norm=layer, bias=False),
        )

    return block


def residual_block(dims: int, channels_in: int, channels_out: int, norm: str) -> nn.Module:
    """Return the double convolution with a residual connection."""
    return Residual(channels_in, channels_out, _PLAIN_BLOCK(dims, channels_in, channels_out, norm))


_PLAIN_BLOCK = unet._double_convolution
_BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "residual": residual_block,
    "group": with_norm(("group", {"num_groups": 4, "affine": True})),
    "instance": with_norm(("instance", {"affine": True})),
}
VARIANTS: dict[str, str] = {
    "base": "12 filters, batch norm, as shipped",
    "neighbours": "slices above and below as channels",
    "residual": "residual blocks",
    "group": "group norm (4 groups)",
    "filters16": "16 filters",
    "instance": "instance norm",
    "encoders": "an encoder per sequence (8 filters each), features averaged",
    "distilled": "targets half from the mean of the shipped networks",
}


def build(name: str) -> nn.Module:
    """Return the untrained network of a variant."""
    unet._double_convolution = _BLOCKS.get(name, _PLAIN_BLOCK)  # type: ignore[assignment]
    try:
        if name == "encoders":
            return Encoders(filters=8)
        return Variant(filters=16 if name == "filters16" else 12, with_neighbours=name == "neighbours")
    finally:
        unet._double_convolution = _PLAIN_BLOCK


def training_slices(out: Path, n: int) -> Slices:
    """Draw the training slices, or read those that were drawn before."""
    files = {name: out / f"slices_{name}.npy" for name in (*_FIELDS, "study")}
    if not all(path.exists() for path in files.values()):
        ranges, backgrounds = PretrainConfig().ranges_of(0), read_backgrounds()
        rng = np.random.default_rng([SLICES_SEED, 50])
        drawn, study = [], []
        while len(study) < n:
            drawn.append(draw_examples(ranges, backgrounds, rng))
            study += [len(drawn)] * len(drawn[-1].codes)
        for name in _FIELDS:
            values = np.concatenate([getattr(e, name) for e in drawn])[:n]
            np.save(files[name], values.astype(np.float16) if name == "image" else values)
        np.save(files["study"], np.array(study)[:n])
    arrays = {name: np.load(files[name], mmap_mode="r") for name in _FIELDS}
    return Slices(arrays, np.load(files["study"]))


def tuning_studies(out: Path) -> list[Scored]:
    """Simulate the tuning cohorts, and return their studies under every protocol."""
    found = []
    for cohort in track(COHORTS, description="tuning cohorts"):
        folder = out / "cohorts" / f"{cohort}_{STUDIES}"
        if not (folder / "manifest.json").exists():
            simulate_cohort(folder, n_studies=STUDIES, preset=cohort, seed=TUNING_SEED, region="cavity-wall")
        manifest = read_manifest(folder / "manifest.json", None)
        sequences = tuple(manifest.sequences)
        for entry in manifest.split("all"):
            study = load_study(entry, sequences, CLASSES, labels=manifest.labels, with_label=True)
            found += [scored(study, cohort, protocol, "T2" in sequences) for protocol in PROTOCOLS]
    return found


def scored(study: StudyTensors, cohort: str, protocol: str, edema: bool) -> Scored:
    """Return a study under a protocol, its truth on the network's grid."""
    assert study.label is not None
    inside = study.region > 0
    if protocol == "nothing":
        place = inside.nonzero().float().mean(dim=0)
        centre = (float(place[0]), float(place[1]))
        slices = centred_view(study, centre).slices
        region = torch.zeros_like(study.region)
        x, y = (min(max(round(c), 0), n - 1) for c, n in zip(centre, region.shape[:2], strict=True))
        region[x, y] = int(Region.LV)
    else:
        region = study.region if protocol == "wall" else inside.to(study.region.dtype) * int(Region.LV)
        slices = given_view(replace(study, region=region)).slices
    codes, maps = (study.label + 1).clamp_min(0), []
    for k in range(len(CLASSES) + 1):
        one = (codes == k).float()[None].expand_as(study.image).clone()
        view = network_view(
            replace(study, region=region, image=one), spacing_mm=PIXEL_MM, crop_mm=SQUARE_MM, divisor=16
        )
        maps.append(view.image[0].permute(2, 0, 1).float())  # (A, A, Z) -> (Z, A, A)
    return Scored(cohort, protocol, slices, torch.stack(maps).argmax(dim=0).numpy().astype(np.int8), edema)


def train(name: str, slices: Slices, *, steps: int, seed: int) -> tuple[nn.Module, nn.Module]:
    """Train a variant; return it with its last weights, and with their moving average."""
    torch.manual_seed(seed)
    network = build(name)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=2e-3, total_steps=steps + 1, pct_start=0.15
    )
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99), use_buffers=True
    )
    teachers = shipped_networks("cpu").segmenters if name == "distilled" else ()
    table = torch.from_numpy(allowed_table())
    for step in track(range(steps), description=name):
        x, codes, around = slices.batch(step, 8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(x, around)
        loss = segmenter_loss(logits.float(), codes, table, outside_weight=0.15)
        if teachers:
            loss = (loss + divergence(teachers, x, logits.float())) / 2
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
    return network, average.module


def divergence(teachers: tuple[Segmenter, ...], x: SegmenterInput, logits: Tensor) -> Tensor:
    """Return the cross-entropy to the teachers' mean probabilities, weighted as the loss of labels is."""
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        target = torch.stack([t(x).float().softmax(dim=1) for t in teachers]).mean(dim=0)
    outside = target[:, SEGMENTER_CLASSES.index("background")] > 0.5
    weight = torch.where(outside, 0.15, 1.0)
    each = -(target * logits.log_softmax(dim=1).clamp_min(-20)).sum(dim=1)
    return (weight * each).sum() / weight.sum()


def called(probabilities: Tensor, edema: bool) -> np.ndarray:
    """Return the most probable class (Z, A, A), coded as the truth."""
    row = SEGMENTER_CLASSES.index
    p = [
        probabilities[:, row("background")] + probabilities[:, row("rv")],
        probabilities[:, row("blood")],
        probabilities[:, row("myocardium")],
        probabilities[:, row("edema")],
        probabilities[:, row("scar")] + probabilities[:, row("mvo")],
    ]
    if not edema:
        p[2], p[3] = p[2] + p[3], torch.zeros_like(p[3])
    return torch.stack(p).argmax(dim=0).numpy()


def scores(network: nn.Module, studies: list[Scored]) -> dict[str, dict[str, list[float]]]:
    """Return mean and worst over the cohorts by protocol and score."""
    network.eval()
    rows: dict[tuple[str, str], list[list[float]]] = {}
    with torch.inference_mode():
        for study in studies:
            around = neighbours(study.slices.image, torch.zeros(len(study.truth)))
            labels = called(network(study.slices, around).softmax(dim=1), study.edema)
            truth, ill = study.truth, bool((study.truth == 4).any())
            row = [dice(labels >= 2, truth >= 2)]
            row += [
                dice(labels == 4, truth == 4) if ill else np.nan,
                dice(labels >= 3, truth >= 3) if ill else np.nan,
                dice(labels == 3, truth == 3) if study.edema and (truth == 3).any() else np.nan,
            ]
            rows.setdefault((study.protocol, study.cohort), []).append(row)
    found: dict[str, dict[str, list[float]]] = {}
    for protocol in PROTOCOLS:
        by_cohort = np.array([np.nanmean(values, axis=0) for (p, _), values in rows.items() if p == protocol])
        found[protocol] = {
            name: [float(np.nanmean(column)), float(np.nanmin(column))]
            for name, column in zip(SCORES, by_cohort.T, strict=True)
        }
    return found


def table_of(results: list[dict[str, Any]]) -> str:
    """Return mean and worst cohort of every variant, averaged weights, in Markdown."""
    lines = [
        "| network | parameters | seconds | nothing given: wall | scar | scar + edema "
        "| ventricle: scar | scar + edema | wall given: edema | scar | scar + edema |",
        "|" + "---|" * 11,
    ]
    for r in results:
        s = r["average"]
        cells = [("nothing", n) for n in SCORES[:3]] + [("ventricle", n) for n in SCORES[1:3]]
        cells += [("wall", n) for n in ("edema", "scar", "scar + edema")]
        values = [f"{s[p][n][0]:.3f}, {s[p][n][1]:.2f}" for p, n in cells]
        name = f"{VARIANTS[r['variant']]}, seed {r['seed']}"
        lines.append(f"| {name} | {r['parameters']:,} | {r['seconds']:.0f} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train and score the variants that are not done yet, and write the table."""
    parser = script_parser(__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "results.jsonl"
    results = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    slices, studies = training_slices(options.out, 8 * options.steps), tuning_studies(options.out)
    for seed in options.seeds:
        for name in options.variants:
            key = {"variant": name, "seed": seed, "steps": options.steps}
            if any(key.items() <= r.items() for r in results):
                continue
            begin = time.monotonic()
            last, average = train(name, slices, steps=options.steps, seed=seed)
            results.append(
                key
                | {
                    "parameters": sum(p.numel() for p in last.parameters()),
                    "seconds": time.monotonic() - begin,
                    "average": scores(average, studies),
                    "last": scores(last, studies),
                }
            )
            with kept.open("a") as file:
                file.write(json.dumps(results[-1]) + "\n")
            (options.out / "networks.md").write_text(table_of(results))


if __name__ == "__main__":
    main()
