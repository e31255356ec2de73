"""Batches of slices that keep together what shares a mixture, shared out over the processes of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset, Sampler

from mrigmm.errors import InputError
from mrigmm.networks.deep_gmm import SliceBatch


@dataclass(frozen=True)
class TrainingStudy:
    """A study as the network sees it, ready to be cut into slices.

    Attributes:
        id: study id.
        image: (C, A, B, Z) float32, only slices that touch the region.
        region: (A, B, Z) uint8 codes.
        present: (C,) bool.
    """

    id: str
    image: Tensor
    region: Tensor
    present: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """(A, B, Z)."""
        a, b, z = self.region.shape
        return a, b, z


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


@dataclass(frozen=True)
class Share:
    """One process's share of a step's batch.

    Attributes:
        keys: its slices, those of a mixture in a row.
        rows: their places in the whole batch.
        n_rows: slices of the whole batch.
        n_groups: mixtures of the whole batch.
        side: (A, B) that the slices of the whole batch are padded to.
        counts: False for slices that only keep a process busy which has no mixture of its own.
    """

    keys: tuple[SliceKey, ...]
    rows: tuple[int, ...]
    n_rows: int
    n_groups: int
    side: tuple[int, int]
    counts: bool = True


@dataclass(frozen=True)
class TrainingBatch(SliceBatch):
    """A share of a step's batch, loaded; `rows`, `n_rows`, `n_groups` and `counts` as in `Share`."""

    rows: Tensor
    n_rows: int
    n_groups: int
    counts: bool

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch on another device; `rows` choose random numbers, which are drawn on the CPU."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> TrainingBatch:
        """Return the same batch where a GPU can fetch it beside its work; called by the data loader."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> TrainingBatch:
        """Return the batch with every tensor of the slices changed."""
        changed: dict[str, Any] = {
            field.name: change(getattr(self, field.name)) for field in fields(SliceBatch)
        }
        return replace(self, **changed)


class SliceDataset(Dataset["tuple[Share, list[Slice]] | InputError"]):
    """Slices of studies, addressed by the `SliceKey`s of a share.

    An error is returned and not raised: what crosses from a worker process as an exception loses its
    problems. `EpochModule` raises it.
    """

    def __init__(self, studies: Sequence[TrainingStudy]) -> None:
        self.studies = studies

    def __getitem__(self, share: Share) -> tuple[Share, list[Slice]] | InputError:
        try:
            return share, [self._slice(key) for key in share.keys]
        except InputError as error:
            return error

    def _slice(self, key: SliceKey) -> Slice:
        study = self.studies[key.study]
        image, region = study.image[..., key.z], study.region[..., key.z]
        if key.flip:
            image, region = image.flip([axis + 1 for axis in key.flip]), region.flip(list(key.flip))
        return Slice(image, region, study.present, key.study)


class MixtureBatchSampler(Sampler[Share]):
    """Shuffled batches of slices; all chance of an epoch follows from (seed, epoch).

    Every process makes the same batches and takes its mixtures of each: those of the places `rank`,
    `rank + n_processes`, ...

    Args:
        shapes: (A, B, Z) of each study.
        batch_slices: slices per batch. With study scope, whole studies are added until it is reached.
        scope: what shares a mixture.
        flip_probability: chance that what shares a mixture is mirrored, along one in-plane axis drawn evenly.
        seed: of the run.
        shuffled: False gives the same order in every epoch.
        rank: of this process.
        n_processes: that share each batch.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        *,
        batch_slices: int,
        scope: Literal["study", "slice"],
        flip_probability: float,
        seed: int,
        shuffled: bool = True,
        rank: int = 0,
        n_processes: int = 1,
    ) -> None:
        self.shapes = tuple(shapes)
        self.batch_slices = batch_slices
        self.scope = scope
        self.flip_probability = flip_probability
        self.seed = seed
        self.shuffled = shuffled
        self.rank = rank
        self.n_processes = n_processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Share]:
        for batch in self._batches():
            yield self._share(batch)

    def __len__(self) -> int:
        return sum(1 for _ in self._batches())

    def _batches(self) -> Iterator[list[list[SliceKey]]]:
        """Batches of groups of slices; a group shares a mixture."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        batch: list[list[SliceKey]] = []
        for group in self._groups(generator):
            batch.append(self._flipped(group, generator))
            if sum(len(group) for group in batch) >= self.batch_slices:
                yield batch
                batch = []
        if batch:
            yield batch

    def _groups(self, generator: torch.Generator) -> Iterator[list[SliceKey]]:
        groups = [[SliceKey(s, z) for z in range(shape[2])] for s, shape in enumerate(self.shapes)]
        if self.scope == "slice":
            groups = [[key] for group in groups for key in group]
        if not self.shuffled:
            yield from groups
            return
        for index in torch.randperm(len(groups), generator=generator).tolist():
            yield groups[index]

    def _flipped(self, group: list[SliceKey], generator: torch.Generator) -> list[SliceKey]:
        chance, axis = torch.rand(2, generator=generator).tolist()
        if chance >= self.flip_probability:
            return group
        return [SliceKey(key.study, key.z, (int(axis < 0.5),)) for key in group]

    def _share(self, batch: list[list[SliceKey]]) -> Share:
        """This process's part of a batch."""
        rows = iter(range(sum(len(group) for group in batch)))
        placed = [[(key, next(rows)) for key in group] for group in batch]
        # A process without a mixture must still take its step with the others.
        mine = placed[self.rank :: self.n_processes] or placed[:1]
        shapes = [self.shapes[key.study] for group in batch for key in group]
        return Share(
            keys=tuple(key for group in mine for key, _ in group),
            rows=tuple(row for group in mine for _, row in group),
            n_rows=len(shapes),
            n_groups=len(batch),
            side=(max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)),
            counts=self.rank < len(batch),
        )


def collate(
    loaded: tuple[Share, Sequence[Slice]] | InputError, *, scope: Literal["study", "slice"], allowed: Tensor
) -> TrainingBatch | InputError:
    """Return slices -> one batch; smaller ones are padded with zeros, which lie outside the region.

    Args:
        loaded: what `SliceDataset` gives.
        scope: "study" gives one mixture per study in the batch, "slice" one per slice.
        allowed: (R, K) anatomy constraint.
    """
    if isinstance(loaded, InputError):
        return loaded
    share, slices = loaded
    side_a, side_b = share.side

    def grown(x: Tensor) -> Tensor:
        return pad(x, (0, side_b - x.shape[-1], 0, side_a - x.shape[-2]))

    group = [s.study if scope == "study" else i for i, s in enumerate(slices)]
    order = {key: i for i, key in enumerate(dict.fromkeys(group))}
    first = {order[key]: s for key, s in zip(reversed(group), reversed(slices), strict=True)}
    return TrainingBatch(
        image=torch.stack([grown(s.image) for s in slices]),
        region=torch.stack([grown(s.region) for s in slices]),
        mixture_index=torch.tensor([order[key] for key in group]),
        present=torch.stack([first[i].present for i in range(len(order))]),
        allowed=allowed,
        rows=torch.tensor(share.rows),
        n_rows=share.n_rows,
        n_groups=share.n_groups,
        counts=share.counts,
    )
