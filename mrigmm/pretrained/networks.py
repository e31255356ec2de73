"""The pretrained networks in memory, and what they say about slices."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mrigmm.config_pretrain import PretrainConfig
from mrigmm.errors import InputError
from mrigmm.mixture.threads import all_threads
from mrigmm.networks.segmenter import Locator, Segmenter, SegmenterInput, forbidden
from mrigmm.networks.unet import UNet, at_least_single, for_inference
from mrigmm.pretrained.folder import (
    NetworkFile,
    NetworksRecord,
    PretrainedFolder,
    describe_file,
    shipped_folder,
)

# The eight symmetries of a square: quarter turns, without and with a mirror before them.
SYMMETRIES = tuple((turns, mirrored) for turns in range(4) for mirrored in (False, True))
# As it is and a quarter turn, each with its mirror. Of several networks each sees one pair, so that it says
# the same of an image mirrored along its second axis. The locator sees all eight, or takes brains for hearts.
PAIRS = (SYMMETRIES[:2], SYMMETRIES[2:4])
# As it is and upside down, each with its mirror: the first look, in noisy real images better than a pair.
FIRST_LOOK = (*SYMMETRIES[:2], *SYMMETRIES[4:6])
Symmetry = tuple[int, bool]
_Views = Sequence[tuple[nn.Module, Sequence[Symmetry]]]
# Of the environment; 32-true asks for single precision.
PRECISION_VARIABLE = "MRIGMM_PRECISION"
# Most images of a pass: maps of more do not stay in a CPU's cache.
_AT_ONCE_CPU, _AT_ONCE_GPU = 8, 64


@dataclass(frozen=True)
class PretrainedNetworks:
    """Locator and segmenters.

    Attributes:
        locator: finds the cavity in whole slices.
        segmenters: of several seeds; their probabilities are averaged.
        config: of the training.
        record: sizes and hashes.
        calibration: thresholds and curves of a study's verdicts; None: not calibrated.
        device: where they are computed.
        source: the folder.
        finder: finds cavity and wall; None: the segmenters do.
        precision: of the convolutions.
    """

    locator: Locator
    segmenters: tuple[Segmenter, ...]
    config: PretrainConfig
    record: NetworksRecord
    calibration: Mapping[str, Any] | None
    device: torch.device
    source: PretrainedFolder
    finder: Segmenter | None = None
    precision: torch.dtype = torch.float32

    @property
    def calibration_digest(self) -> str | None:
        """SHA-256 of the calibration: another one gives other verdicts on the same study."""
        if self.calibration is None:
            return None
        return hashlib.sha256(json.dumps(self.calibration, sort_keys=True).encode()).hexdigest()

    @all_threads()
    @torch.inference_mode()
    def cavity(self, slices: Tensor) -> Tensor:
        """Probability (N, A, A) of the cavity in whole slices (N, A, A), mean over the symmetries."""
        x = slices.to(self.device)
        mean, sd = x.mean(dim=(1, 2), keepdim=True), x.std(dim=(1, 2), keepdim=True)
        x = (x - mean) / (sd + 1e-6)
        passes = self._passes(len(x), len(SYMMETRIES))
        return torch.cat([self._cavity(x[some]) for some in passes]).cpu()

    def _cavity(self, x: Tensor) -> Tensor:
        logits = _logits(self._locator, x[:, None], SYMMETRIES)
        total = torch.zeros_like(x)
        for view in logits:
            total += view[:, 0].sigmoid()
        return total / len(logits)

    @all_threads()
    @torch.inference_mode()
    def classes(self, x: SegmenterInput) -> tuple[Tensor, Tensor]:
        """Class probabilities of slices, mean over networks and symmetries.

        One network sees both of the `PAIRS`, several see one each, the next one the other.

        Returns:
            Probabilities (N, K, A, A), and their SD over the views, (N, K, A, A).
        """
        return self._seen(x, _views(self._segmenters))

    @all_threads()
    @torch.inference_mode()
    def found(self, x: SegmenterInput, *, again: bool = False) -> Tensor:
        """Class probabilities (N, K, A, A) by what finds cavity and wall, mean over symmetries.

        Args:
            x: the slices.
            again: a second look, with the ventricle given: the finder sees one of the `PAIRS` and not the
                four of `FIRST_LOOK`. Segmenters in its place see both pairs in either.
        """
        if self._finder is None:
            return self.classes(x)[0]
        return self._seen(x, [(self._finder, PAIRS[0] if again else FIRST_LOOK)])[0]

    def _seen(self, x: SegmenterInput, views: _Views) -> tuple[Tensor, Tensor]:
        """Mean and SD (N, K, A, A) of class probabilities over networks and symmetries."""
        passes = self._passes(len(x.image), max(len(symmetries) for _, symmetries in views))
        parts = [self._of_pass(replace_slices(x, some), views) for some in passes]
        mean, sd = (torch.cat(maps) for maps in zip(*parts, strict=True))
        return mean, sd

    def _of_pass(self, x: SegmenterInput, views: _Views) -> tuple[Tensor, Tensor]:
        x = map_slices(x, lambda t: t.to(self.device))
        planes, far_below = x.planes().to(self.precision), forbidden(x.allowed())
        total, squares = torch.zeros_like(far_below), torch.zeros_like(far_below)
        first, n = None, 0
        for network, symmetries in views:
            if isinstance(network, UNet):
                seen = [logits.add_(far_below) for logits in _logits(network, planes, symmetries)]
            else:  # of another package: docs/extending.md
                seen = [turned_back(network(_turned_input(x, symmetry)), symmetry) for symmetry in symmetries]
            for logits in seen:
                p = logits.softmax(dim=1)
                n += 1
                if first is None:
                    first = p
                    continue
                from_first = p.sub_(first)  # small, so that its squares are exact enough for an SD near 0
                total += from_first
                squares.addcmul_(from_first, from_first)
        assert first is not None
        total /= n
        sd = squares.div_(n).addcmul_(total, total, value=-1).clamp_min_(0).sqrt_()
        return total.add_(first).cpu(), sd.cpu()

    def _passes(self, n: int, n_views: int) -> list[slice]:
        """Return the slices of each pass, of `n`; about as many in each, for one alone costs a third more."""
        most = max(1, (_AT_ONCE_CPU if self.device.type == "cpu" else _AT_ONCE_GPU) // n_views)
        ends = [round(n * k / -(-n // most)) for k in range(-(-n // most) + 1)]
        return [slice(*ends) for ends in pairwise(ends)]

    @cached_property
    def _locator(self) -> UNet:
        return for_inference(self.locator.unet, self.precision)

    @cached_property
    def _segmenters(self) -> tuple[nn.Module, ...]:
        return tuple(self._quick(segmenter) for segmenter in self.segmenters)

    @cached_property
    def _finder(self) -> nn.Module | None:
        return None if self.finder is None else self._quick(self.finder)

    def _quick(self, network: nn.Module) -> nn.Module:
        return for_inference(network.unet, self.precision) if isinstance(network, Segmenter) else network


def _views(networks: Sequence[nn.Module]) -> _Views:
    """Return which network sees which symmetries."""
    if len(networks) == 1:
        return [(networks[0], (*PAIRS[0], *PAIRS[1]))]
    return [(network, PAIRS[k % 2]) for k, network in enumerate(networks)]


def _logits(network: UNet, planes: Tensor, symmetries: Sequence[Symmetry]) -> list[Tensor]:
    """Logits (N, K, A, A) of planes (N, C, A, A) by each symmetry, all in one pass."""
    seen = torch.cat([turned(planes, symmetry) for symmetry in symmetries])
    found = at_least_single(network(seen)).chunk(len(symmetries))
    # In one order of pixels, in which they are quickly added.
    return [turned_back(logits, s).contiguous() for logits, s in zip(found, symmetries, strict=True)]


def _turned_input(x: SegmenterInput, symmetry: Symmetry) -> SegmenterInput:
    return replace(x, image=turned(x.image, symmetry), region=turned(x.region, symmetry))


def turned(x: Tensor, symmetry: Symmetry) -> Tensor:
    """Maps (..., A, A) after one of the `SYMMETRIES`."""
    turns, mirrored = symmetry
    return torch.rot90(x.flip(-1) if mirrored else x, turns, (-2, -1))


def turned_back(x: Tensor, symmetry: Symmetry) -> Tensor:
    """Undo `turned`."""
    turns, mirrored = symmetry
    x = torch.rot90(x, -turns, (-2, -1))
    return x.flip(-1) if mirrored else x


def map_slices(x: SegmenterInput, change: Callable[[Tensor], Tensor]) -> SegmenterInput:
    """Change every tensor of an input."""
    return replace(
        x,
        image=change(x.image),
        present=change(x.present),
        region=change(x.region),
        given=change(x.given),
    )


def replace_slices(x: SegmenterInput, some: slice) -> SegmenterInput:
    """Some of the slices."""
    return map_slices(x, lambda t: t[some])


def precision_of(device: torch.device) -> torch.dtype:
    """Precision of the convolutions: bfloat16 on CPUs with matrix instructions for it (AMX), else float32.

    A pass takes about half of the time there, and longer on others. `PRECISION_VARIABLE` asks for float32
    everywhere, whose label maps do not depend on the processor.

    Raises:
        InputError: it asks for anything else.
    """
    asked = os.environ.get(PRECISION_VARIABLE, "auto")
    if asked not in ("auto", "32-true"):
        raise InputError(
            f"the environment asks for a precision that there is not: {PRECISION_VARIABLE}",
            expected="32-true, or auto",
            got=asked,
            remedy=f"unset {PRECISION_VARIABLE}",
        )
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    quick = asked == "auto" and device.type == "cpu" and able.get("amx_bf16", False)
    return torch.bfloat16 if quick else torch.float32


def read_networks(folder: PretrainedFolder | None, device: torch.device) -> PretrainedNetworks:
    """Read the networks of a folder, or those that ship with the package.

    Raises:
        InputError: there are none, or a file is damaged or not what the record says.
    """
    folder = shipped_folder() if folder is None else folder
    config, record = folder.read()
    locator = Locator(filters=config.locator_filters, levels=config.levels)
    _load(locator, folder, record.locator, _read(folder, record.locator))

    def segmenter(file: NetworkFile) -> Segmenter:
        network = Segmenter(filters=config.filters, levels=config.levels, norm=config.norm)
        _load(network, folder, file, _read(folder, file))
        return network.to(device).eval()

    return PretrainedNetworks(
        locator.to(device).eval(),
        tuple(segmenter(file) for file in record.segmenters),
        config,
        record,
        folder.read_calibration(),
        device,
        folder,
        segmenter(record.finder) if record.finder else None,
        precision_of(device),
    )


@lru_cache(maxsize=2)
def shipped_networks(device: str) -> PretrainedNetworks:
    """Return the networks that ship with the package, read once per process and device."""
    return read_networks(None, torch.device(device))


def _read(folder: PretrainedFolder, recorded: NetworkFile) -> dict[str, Tensor]:
    """Read the tensors of a file that is what the record says."""
    file = folder.path / recorded.file
    try:
        if describe_file(file, recorded.parameters) != recorded:
            raise RuntimeError("another size or hash than in the record")
        return load_file(file)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _damaged(file, error) from None


def _load(
    network: nn.Module, folder: PretrainedFolder, recorded: NetworkFile, weights: Mapping[str, Tensor]
) -> None:
    """Put weights, float16 on disk, into a network."""
    try:
        own = network.state_dict()
        network.load_state_dict({key: value.to(own[key].dtype) for key, value in weights.items()})
    except (RuntimeError, KeyError) as error:
        raise _damaged(folder.path / recorded.file, error) from None


def _damaged(file: Path, error: Exception) -> InputError:
    return InputError(
        "the weights cannot be read",
        file=file,
        expected="the file that mrigmm pretrain wrote, of this version",
        got=str(error).splitlines()[0],
        remedy="install the package again, or pretrain again",
    )
