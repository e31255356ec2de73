"""Batches of slices that keep together what shares a mixture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset, Sampler

from mrigmm.networks.deep_gmm import SliceBatch


@dataclass(frozen=True)
class TrainingStudy:
    """A study as the network sees it, ready to be cut into slices.

    Attributes:
        image: (C, A, B, Z) float32, only slices that touch the region.
        region: (A, B, Z) uint8 codes.
        present: (C,) bool.
    """

    image: Tensor
    region: Tensor
    present: Tensor


@dataclass(frozen=True)
class SliceKey:
    """One slice to load: which study, which slice, mirrored along which axes."""

    study: int
    z: int
    flip: tuple[int, ...] = ()


@dataclass(frozen=True)
class Slice:
    """One loaded slice: image (C, A, B), region (A, B), present (C,), and its study."""

    image: Tensor
    region: Tensor
    present: Tensor
    study: int


class SliceDataset(Dataset[list[Slice]]):
    """Slices of studies in memory, addressed by the `SliceKey`s of a batch."""

    def __init__(self, studies: Sequence[TrainingStudy]) -> None:
        self.studies = studies

    def __getitem__(self, keys: Sequence[SliceKey]) -> list[Slice]:
        return [self._slice(key) for key in keys]

    def _slice(self, key: SliceKey) -> Slice:
        study = self.studies[key.study]
        image, region = study.image[..., key.z], study.region[..., key.z]
        if key.flip:
            image, region = image.flip([axis + 1 for axis in key.flip]), region.flip(list(key.flip))
        return Slice(image, region, study.present, key.study)


class MixtureBatchSampler(Sampler[list[SliceKey]]):
    """Shuffled batches of slices; all chance of an epoch follows from (seed, epoch).

    Args:
        slices_per_study: number of slices of each study.
        batch_slices: slices per batch. With study scope, whole studies are added until it is reached.
        scope: what shares a mixture.
        flip_probability: chance that what shares a mixture is mirrored, along one in-plane axis drawn evenly.
        seed: of the run.
    """

    def __init__(
        self,
        slices_per_study: Sequence[int],
        *,
        batch_slices: int,
        scope: Literal["study", "slice"],
        flip_probability: float,
        seed: int,
    ) -> None:
        self.slices_per_study = tuple(slices_per_study)
        self.batch_slices = batch_slices
        self.scope = scope
        self.flip_probability = flip_probability
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[SliceKey]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        batch: list[SliceKey] = []
        for group in self._shuffled_groups(generator):
            batch += self._flipped(group, generator)
            if len(batch) >= self.batch_slices:
                yield batch
                batch = []
        if batch:
            yield batch

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _shuffled_groups(self, generator: torch.Generator) -> Iterator[list[SliceKey]]:
        groups = [[SliceKey(s, z) for z in range(n)] for s, n in enumerate(self.slices_per_study)]
        if self.scope == "slice":
            groups = [[key] for group in groups for key in group]
        for index in torch.randperm(len(groups), generator=generator).tolist():
            yield groups[index]

    def _flipped(self, group: list[SliceKey], generator: torch.Generator) -> list[SliceKey]:
        chance, axis = torch.rand(2, generator=generator).tolist()
        if chance >= self.flip_probability:
            return group
        return [SliceKey(key.study, key.z, (int(axis < 0.5),)) for key in group]


def collate(slices: Sequence[Slice], *, scope: Literal["study", "slice"], allowed: Tensor) -> SliceBatch:
    """Slices -> one batch; smaller ones are padded with zeros, which lie outside the region.

    Args:
        slices: loaded slices, those of a study in a row.
        scope: "study" gives one mixture per study in the batch, "slice" one per slice.
        allowed: (R, K) anatomy constraint.
    """
    side_a = max(s.region.shape[0] for s in slices)
    side_b = max(s.region.shape[1] for s in slices)

    def grown(x: Tensor) -> Tensor:
        return pad(x, (0, side_b - x.shape[-1], 0, side_a - x.shape[-2]))

    group = [s.study if scope == "study" else i for i, s in enumerate(slices)]
    order = {key: i for i, key in enumerate(dict.fromkeys(group))}
    first = {order[key]: s for key, s in zip(reversed(group), reversed(slices), strict=True)}
    return SliceBatch(
        image=torch.stack([grown(s.image) for s in slices]),
        region=torch.stack([grown(s.region) for s in slices]),
        mixture_index=torch.tensor([order[key] for key in group]),
        present=torch.stack([first[i].present for i in range(len(order))]),
        allowed=allowed,
    )
