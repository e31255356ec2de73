"""Ceilings beside the methods of the program: the oracle, and a supervised U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from monai.losses import DiceCELoss
from torch import Tensor
from torch.nn.functional import pad

from mrigmm.data.crops import network_view
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.jobs.common import Track
from mrigmm.labels import allowed_classes
from mrigmm.methods.base import Segmentation, hard_labels, one_mixture, present_sequences, unpack
from mrigmm.mixture import log_gaussian, m_step, posterior, region_log_prior, smooth_posterior, statistics
from mrigmm.networks.unet import UNet

ORACLE_SMOOTHING_MM = 1.5  # the 2 px of scripts/calibrate_phantom.py
_CODE = 16  # region code * 16 + class index + 1: both maps through one crop


class Oracle:
    """Gaussians fitted to the study's own reference label, their posterior smoothed in plane.

    The ceiling of a method that only knows intensities. It has seen the answer and is no method.
    """

    name = "oracle"

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.allowed = torch.tensor(allowed_classes(classes), dtype=torch.bool)

    def describe(self) -> dict[str, Any]:
        """How much is smoothed."""
        return {"smoothing_mm": ORACLE_SMOOTHING_MM}

    def segment(self, study: StudyTensors) -> Segmentation:
        """Fit and label one study; classes with too few voxels for a covariance are not given out."""
        if study.label is None:
            raise InputError("the oracle needs the reference label", study=study.id)
        inside = study.region > 0
        x, label = study.voxels[:, study.present].double(), study.label[inside]  # (N, C), (N,)
        truth = (label[:, None] == torch.arange(len(self.classes))).double()  # (N, K)
        truth[:, truth.sum(0) <= x.shape[1] + 1] = 0
        mixture = m_step(statistics(x, truth), covariance="full")
        log_prior = region_log_prior(mixture.weights, self.allowed, study.region[inside].long())
        resp = posterior(log_prior, log_gaussian(x, mixture.means, mixture.covariances))
        maps = smooth_posterior(
            unpack(resp.float(), study.region),
            study.region.long(),
            sigma_mm=ORACLE_SMOOTHING_MM,
            spacing_mm=study.spacing_mm,
        )
        return segmentation_of(study, maps, self.classes)


@dataclass(frozen=True)
class SupervisedSettings:
    """How the supervised U-Net is trained.

    Attributes:
        filters, levels: of the U-Net.
        epochs: passes over *all* labelled studies; with fewer studies the number of steps is the same.
        batch_slices: slices per step.
        learning_rate: of AdamW, polynomial decay.
        spacing_mm: in-plane pixel of the network. crop_mm: side of the square around the region.
    """

    filters: int
    epochs: int
    spacing_mm: float
    levels: int = 4
    batch_slices: int = 8
    learning_rate: float = 2e-3
    crop_mm: float = 120.0


@dataclass(frozen=True)
class LabelledSlices:
    """Slices of one study as the network sees them: image (Z, C, A, B), region and label (Z, A, B)."""

    image: Tensor
    region: Tensor
    label: Tensor


def labelled_slices(study: StudyTensors, settings: SupervisedSettings) -> LabelledSlices:
    """Crop image, region and label of a study alike; slices without region are left out."""
    assert study.label is not None
    coded = torch.where(study.region > 0, study.region * _CODE + (study.label + 1).to(torch.uint8), 0)
    view = network_view(
        replace(study, region=coded.to(torch.uint8)),
        spacing_mm=settings.spacing_mm,
        crop_mm=settings.crop_mm,
        divisor=2**settings.levels,
    )
    used = (view.region > 0).flatten(0, 1).any(dim=0)
    code = view.region[..., used].permute(2, 0, 1).long()  # (A, B, Z) -> (Z, A, B)
    image = view.image[..., used].permute(3, 0, 1, 2).float()  # (C, A, B, Z) -> (Z, C, A, B)
    return LabelledSlices(image, code // _CODE, code % _CODE - 1)


def train_unet(
    studies: Sequence[LabelledSlices],
    classes: Sequence[str],
    settings: SupervisedSettings,
    *,
    steps: int,
    seed: int,
    device: torch.device,
    track: Track,
) -> UNet:
    """Train with Dice + cross-entropy on the labelled voxels of the region.

    Args:
        studies: labelled training slices.
        classes: K classes, the indices of the labels.
        settings: width, rate, batch.
        steps: of the optimiser.
        seed: of weights, batches and augmentation.
        device: where to train.
        track: progress bar.
    """
    image, region, label = _pooled(studies)
    allowed = torch.tensor(allowed_classes(classes), dtype=torch.bool, device=device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(image.shape[1], len(classes), filters=settings.filters, levels=settings.levels)
    network.to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimiser, total_iters=steps, power=0.9)
    loss_function = DiceCELoss(softmax=True, to_onehot_y=True)
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in track(range(steps), f"supervised, {len(studies)} studies, seed {seed}"):
        while len(order) < settings.batch_slices:
            order += torch.randperm(len(image), generator=generator).tolist()
        batch, order = order[: settings.batch_slices], order[settings.batch_slices :]
        x, r, y = (t.to(device) for t in augmented(image[batch], region[batch], label[batch], generator))
        logits = network(x).permute(0, 2, 3, 1)  # (B, K, A, B) -> (B, A, B, K)
        used = (r > 0) & (y >= 0)
        rows = logits[used].masked_fill(~allowed[r[used]], -1e4)  # (P, K)
        loss = loss_function(rows.T[None], y[used][None, None])  # (1, K, P) and (1, 1, P)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimiser.step()
        schedule.step()
    return network.cpu().eval()


def augmented(
    image: Tensor, region: Tensor, label: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Flips and quarter turns of a batch of squares, and another gain and offset for every channel."""
    flips = [axis for axis in (-1, -2) if torch.rand((), generator=generator) < 0.5]
    turns = int(torch.randint(4, (), generator=generator))
    image, region, label = (t.flip(flips).rot90(turns, (-2, -1)) for t in (image, region, label))
    shape = (*image.shape[:2], 1, 1)
    gain = 1 + 0.1 * torch.randn(shape, generator=generator)
    offset = 0.1 * torch.randn(shape, generator=generator)
    return image * gain + offset, region, label


class Supervised:
    """Segments by a U-Net that was trained with labels."""

    name = "supervised"

    def __init__(self, network: UNet, classes: Sequence[str], settings: SupervisedSettings) -> None:
        self.network = network
        self.classes = tuple(classes)
        self.settings = settings
        self.allowed = torch.tensor(allowed_classes(classes), dtype=torch.bool)

    def describe(self) -> dict[str, Any]:
        """How it was trained."""
        return vars(self.settings)

    @torch.inference_mode()
    def segment(self, study: StudyTensors) -> Segmentation:
        """One forward pass per slice, softmax, back on the study's voxels."""
        view = network_view(
            study,
            spacing_mm=self.settings.spacing_mm,
            crop_mm=self.settings.crop_mm,
            divisor=self.network.divisor,
        )
        slices = view.image.permute(3, 0, 1, 2).float()  # (C, A, B, Z) -> (Z, C, A, B)
        maps = self.network(slices).softmax(1).permute(1, 2, 3, 0)  # (Z, K, A, B) -> (K, A, B, Z)
        inside = study.region > 0
        flags = self.allowed[study.region[inside].long()]  # (N, K)
        resp = (view.to_study_grid(maps)[:, inside].T.clamp_min(0) + 1e-6) * flags
        return segmentation_of(study, unpack(resp / resp.sum(1, keepdim=True), study.region), self.classes)


def segmentation_of(study: StudyTensors, resp: Tensor, classes: tuple[str, ...]) -> Segmentation:
    """A `Segmentation` from responsibilities (K, X, Y, Z) alone."""
    mixture, density = one_mixture(study, study.region, resp, classes)
    return Segmentation(
        resp=resp,
        labels=hard_labels(resp, study.region, classes),
        mixture=mixture,
        sequences=present_sequences(study),
        log_likelihood=density,
        n_iter=0,
        converged=True,
    )


def _pooled(studies: Sequence[LabelledSlices]) -> tuple[Tensor, Tensor, Tensor]:
    """All slices in one stack; smaller squares are padded with what lies outside the region."""
    side = max(study.region.shape[-1] for study in studies)

    def stacked(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([pad(p, (0, side - p.shape[-1], 0, side - p.shape[-2])) for p in parts])

    return (
        stacked([study.image for study in studies]),
        stacked([study.region for study in studies]),
        stacked([study.label for study in studies]),
    )
