"""`mrigmm pretrain`: train locator and segmenter on simulated slices alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mrigmm.config_pretrain import PretrainConfig, load_pretrain_config, make_pretrain_config
from mrigmm.data.files import sole_writer, write_text
from mrigmm.data.run_folder import write_tensors
from mrigmm.errors import InputError
from mrigmm.jobs.common import Outcome, Track, no_progress, select_device, versions
from mrigmm.networks.segmenter import Locator, Segmenter
from mrigmm.phantom.generator import Backgrounds, read_backgrounds
from mrigmm.pretrained.folder import NetworkFile, NetworksRecord, PretrainedFolder, describe_file
from mrigmm.settings_yaml import Overrides, dump_config
from mrigmm.training.hardware import Hardware, single_device
from mrigmm.training.pretraining import (
    Batch,
    LocatorModule,
    SegmenterModule,
    StepFiles,
    StepModule,
    finder_batch,
    fit_steps,
    locator_batch,
    second_batch,
    segmenter_batch,
)


@dataclass(frozen=True)
class Pretrained(Outcome):
    """Networks that were trained.

    Attributes:
        networks: names of their files.
    """

    networks: tuple[str, ...] = ()


def pretrain(
    out: Path | str,
    *,
    config: Path | str | None = None,
    backgrounds: Path | str | None = None,
    overrides: Overrides = (),
    device: str = "auto",
    workers: int = 1,
    track: Track = no_progress,
) -> Pretrained:
    """Train the networks that need no label; an interrupted training is gone on with.

    Examples:
        >>> mrigmm.pretrain("runs/pretrained")  # doctest: +SKIP

    Args:
        out: folder to write.
        config: configuration file; default the one that the shipped weights were made with.
        backgrounds: folder of real slices with `images/` and `endocardium/`; default those that ship.
        overrides: changes of the configuration: `key=value` texts, or values by key.
        device: "auto", "cpu", "cuda" or "cuda:N".
        workers: processes that draw slices beside the training.
        track: progress bar.

    Raises:
        InputError: when training is not possible.
    """
    folder = PretrainedFolder(Path(out))
    settings = _settings(folder, config, overrides)
    real = read_backgrounds(None if backgrounds is None else Path(backgrounds))
    hardware = single_device(select_device(device), settings.precision, asked_for=device != "auto")
    with sole_writer(folder.path):
        write_text(folder.config, dump_config(settings))
        fit = partial(_fit, folder, settings, real, hardware, workers, track)
        segmenters = tuple(_trained_segmenter(folder, settings, fit, seed) for seed in settings.seeds)
        first = settings.seeds[0]
        finder = _finder(folder, settings, fit) if settings.finder_steps else None
        locator = fit(
            folder.locator,
            first,
            lambda: LocatorModule(
                Locator(filters=settings.locator_filters, levels=settings.levels), settings
            ),
            locator_batch,
        )
        source = "shipped CC0 slices" if backgrounds is None else Path(backgrounds).name
        record = NetworksRecord(
            locator=locator,
            segmenters=segmenters,
            finder=finder,
            backgrounds=f"{len(real)} slices: {source}",
            versions=versions(),
        )
        folder.write_record(record)
    return Pretrained(folder.path, (), networks=tuple(n.file for n in record.files))


def _trained_segmenter(
    folder: PretrainedFolder, settings: PretrainConfig, fit: Callable[..., NetworkFile], seed: int
) -> NetworkFile:
    """Train the segmenter of a seed, in one cycle or two."""
    weights, first = folder.segmenter(seed), _first_cycle(folder, settings, seed)
    if not weights.exists():
        fit(first, seed, lambda: SegmenterModule(_segmenter(settings), settings), segmenter_batch)
        if first != weights:
            start = _read_segmenter(first, settings)
            fit(weights, seed, lambda: SegmenterModule(start, settings.second_cycle()), second_batch)
    return describe_file(weights, _n_parameters(_segmenter(settings)))


def _first_cycle(folder: PretrainedFolder, settings: PretrainConfig, seed: int) -> Path:
    """Weights of a segmenter after its first cycle, which may be its only one."""
    return folder.first_cycle(seed) if settings.second_steps else folder.segmenter(seed)


def _finder(
    folder: PretrainedFolder, settings: PretrainConfig, fit: Callable[..., NetworkFile]
) -> NetworkFile:
    """Train the finder on each of its ranges, from the first segmenter's first cycle on.

    The mean of the weights is written.
    """
    first = settings.seeds[0]

    def start() -> StepModule:
        weights = _first_cycle(folder, settings, first)
        return SegmenterModule(_read_segmenter(weights, settings), settings.finder_cycle())

    if not folder.finder.exists():
        parts = [folder.checkpoints / f"finder_{k}.safetensors" for k in range(len(settings.finder_ranges))]
        for k, part in enumerate(parts):
            fit(part, first, start, partial(finder_batch, k))
        write_tensors(folder.finder, _mean_weights([load_file(part) for part in parts]))
    return describe_file(folder.finder, _n_parameters(_segmenter(settings)))


def _mean_weights(of: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of the weights (float16) of networks that went on from the same one; counters of the first."""
    return {
        name: torch.stack([weights[name].float() for weights in of]).mean(dim=0).half()
        if value.is_floating_point()
        else value
        for name, value in of[0].items()
    }


def _n_parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _segmenter(settings: PretrainConfig) -> Segmenter:
    return Segmenter(filters=settings.filters, levels=settings.levels, norm=settings.norm)


def _read_segmenter(weights: Path, settings: PretrainConfig) -> Segmenter:
    """A segmenter as its file has it."""
    network = _segmenter(settings)
    network.load_state_dict(load_file(weights))
    return network


def _settings(folder: PretrainedFolder, config: Path | str | None, overrides: Overrides) -> PretrainConfig:
    """Return what is asked for; a folder that has been begun with other settings is not gone on with."""
    if config is not None and overrides:
        raise InputError("give either a configuration file or changes of the default", remedy="leave out one")
    asked = make_pretrain_config(overrides) if config is None else load_pretrain_config(Path(config))
    if folder.config.exists() and (begun := load_pretrain_config(folder.config)) != asked:
        differing = [
            name for name in type(asked).model_fields if getattr(begun, name) != getattr(asked, name)
        ]
        raise InputError(
            "the folder holds a training with other settings",
            file=folder.config,
            got=f"different: {', '.join(differing)}",
            remedy="give the same settings to go on with it, or another folder",
        )
    return asked


def _fit(
    folder: PretrainedFolder,
    settings: PretrainConfig,
    real: Backgrounds,
    hardware: Hardware,
    workers: int,
    track: Track,
    weights: Path,
    seed: int,
    make: Callable[[], StepModule],
    batch: Callable[[PretrainConfig, Backgrounds, int, int], Batch],
) -> NetworkFile:
    """Train one network and write it; one that is there already is kept."""
    torch.manual_seed(seed)
    module = make()
    if not weights.exists():
        files = StepFiles(
            folder.path / "logs" / f"{weights.stem}.csv", folder.checkpoints / f"{weights.stem}.ckpt"
        )
        files.log.parent.mkdir(exist_ok=True)
        draw = partial(batch, settings, real, seed)
        fit_steps(module, draw, files, hardware, workers=workers, track=track)
        write_tensors(weights, half_precision(module.network))
    return describe_file(weights, _n_parameters(module.network))


def half_precision(network: nn.Module) -> dict[str, Tensor]:
    """Weights of a network as float16, which halves the files; counters stay what they are."""
    return {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
