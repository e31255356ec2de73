"""The Lightning trainer for every objective."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor
from torch.utils.data import DataLoader

from mrigmm.config import RunConfig
from mrigmm.data.crops import NetworkView
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError, missing_extra
from mrigmm.labels import allowed_classes
from mrigmm.networks.batch_norm import share_batch_norm
from mrigmm.training.batches import MixtureBatchSampler, Share, SliceDataset, TrainingStudy, collate
from mrigmm.training.callbacks import EpochKeeper, EpochTrack, Track
from mrigmm.training.checkpoints import WholeCheckpoints, last_checkpoint, require_checkpoint
from mrigmm.training.ddp import PatientDDP
from mrigmm.training.hardware import Hardware
from mrigmm.training.module import EpochModule

# The first process to have prepared its studies waits for the others.
_PATIENCE = timedelta(days=1)


def training_study(study_id: str, view: NetworkView, present: Tensor) -> TrainingStudy:
    """Return a study as the network sees it, without the slices that lie outside the region."""
    used = (view.region > 0).flatten(0, 1).any(dim=0)  # (Z,)

    def in_pieces(x: Tensor) -> Tensor:
        """Return each slice in one piece of memory: every epoch reads them one by one."""
        return x[..., used].movedim(-1, 0).contiguous().movedim(0, -1)

    return TrainingStudy(study_id, in_pieces(view.image.float()), in_pieces(view.region), present)


def make_trainer(
    config: RunConfig, run: RunFolder, hardware: Hardware, *, track: Track, tensorboard: bool
) -> lightning.Trainer:
    """Return a trainer that keeps a run folder; it knows which of several processes it is.

    Args:
        config: of the run.
        run: folder to write to.
        hardware: what to train on.
        track: progress bar of the epochs.
        tensorboard: write TensorBoard's event files too.

    Raises:
        InputError: the hardware does not fit how the processes were started, or no TensorBoard.
    """
    if tensorboard:
        try:
            import_module("tensorboard")
        except ImportError as error:
            raise missing_extra("tensorboard", error) from None
    callbacks: list[Callback] = [
        EpochKeeper(run, config),
        # After the keeper, so that the checkpoint holds this epoch's row.
        last_checkpoint(run.checkpoint),
        EpochTrack(track),
    ]
    ddp = PatientDDP(timeout=_PATIENCE) if hardware.n_processes > 1 else None
    try:
        trainer = quiet_trainer(
            hardware,
            callbacks,
            max_epochs=config.epochs,
            clip_norm=config.clip_norm,
            num_nodes=hardware.num_nodes,
            strategy=ddp or "auto",
            logger=TensorBoardLogger(run.path, name=run.tensorboard.name, version="")
            if tensorboard
            else False,
            log_every_n_steps=1,
            use_distributed_sampler=False,
        )
        # Lightning itself would look only after all studies are prepared.
        if ddp is not None and ddp.cluster_environment is not None:
            ddp.cluster_environment.validate_settings(
                num_devices=hardware.n_processes // hardware.num_nodes, num_nodes=hardware.num_nodes
            )
    # What Lightning finds wrong with torchrun's, SLURM's and the user's numbers.
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise InputError(
            "the hardware asked for cannot be used",
            expected="as many devices and nodes as torchrun or SLURM started processes",
            got=str(error),
            remedy="see docs/training.md for --accelerator, --devices and --num-nodes",
        ) from None

    return trainer


def quiet_trainer(
    hardware: Hardware, callbacks: list[Callback], *, max_epochs: int, clip_norm: float, **more: Any
) -> lightning.Trainer:
    """Return a trainer that leaves log, checkpoints and progress to the callbacks.

    Args:
        hardware: what to train on.
        callbacks: in their order.
        max_epochs: epochs.
        clip_norm: largest norm of a gradient.
        **more: further arguments of Lightning's trainer.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # hardware banners
    devices = hardware.devices
    # One process has nobody to look for in what SLURM says.
    alone = [LightningEnvironment()] if hardware.n_processes == 1 else []
    with lightning_noises():
        return lightning.Trainer(
            accelerator=hardware.accelerator,
            devices=devices if isinstance(devices, int) else list(devices),
            precision=hardware.precision,
            max_epochs=max_epochs,
            gradient_clip_val=clip_norm,
            callbacks=callbacks,
            plugins=[WholeCheckpoints(), *alone],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            **{"logger": False, **more},
        )


def run_trainer(
    trainer: lightning.Trainer,
    module: lightning.LightningModule,
    batches: Any = None,
    held_out: Any = None,
    *,
    checkpoint: Path | None,
) -> None:
    """Train, from a checkpoint where it is there; Ctrl-C is one again, of which Lightning makes an exit."""
    known = checkpoint if checkpoint is not None and checkpoint.exists() else None
    try:
        with lightning_noises():
            trainer.fit(module, batches, held_out, ckpt_path=known, weights_only=True)
    except SystemExit:
        raise KeyboardInterrupt from None


def fit(
    trainer: lightning.Trainer,
    module: EpochModule,
    studies: Sequence[TrainingStudy],
    held_out: Sequence[TrainingStudy],
    config: RunConfig,
    run: RunFolder,
    *,
    resume: bool,
    num_workers: int,
) -> None:
    """Train and leave the best weights in the run folder.

    Args:
        trainer: of `make_trainer`.
        module: network and objective; the network's weights afterwards are the last epoch's.
        studies: what to train on.
        held_out: what the objective is only watched on; may be empty.
        config: of the run, with `classes` resolved.
        run: folder to write to.
        resume: continue from the last completed epoch in the run folder, or begin where none is.
        num_workers: processes that load slices beside each training process.

    Raises:
        InputError: a damaged checkpoint, training diverged, or a worker process died.
    """
    if resume and run.checkpoint.exists():
        require_checkpoint(run, module)
    if trainer.world_size > 1:
        share_batch_norm(module.network)
    load = partial(_loader, trainer=trainer, config=config, num_workers=num_workers)
    try:
        run_trainer(
            trainer,
            module,
            load(studies, shuffled=True),
            load(held_out, shuffled=False) if held_out else None,
            checkpoint=run.checkpoint if resume else None,
        )
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise InputError(
            "a process that loads slices died",
            got=str(error).splitlines()[0],
            expected="enough memory for each of them",
            remedy="use fewer --num-workers",
        ) from None


def _loader(
    studies: Sequence[TrainingStudy],
    *,
    shuffled: bool,
    trainer: lightning.Trainer,
    config: RunConfig,
    num_workers: int,
) -> DataLoader[Share]:
    """Return batches of slices: shuffled and mirrored for training, in one order for the held-out studies."""
    assert config.classes is not None
    allowed = torch.tensor(allowed_classes(config.classes), dtype=torch.bool)
    # The network steps of gem need no mixture, so that their slices come in any order.
    scope = "slice" if config.objective == "gem" else config.scope
    return DataLoader(
        SliceDataset(studies),  # type: ignore[arg-type]
        batch_size=None,  # the sampler makes the batches; as `sampler`, it is told each epoch
        sampler=MixtureBatchSampler(
            [study.shape for study in studies],
            batch_slices=config.batch_slices,
            scope=scope,
            flip_probability=config.flip_probability if shuffled else 0.0,
            seed=config.seed,
            shuffled=shuffled,
            rank=trainer.global_rank,
            n_processes=trainer.world_size,
        ),
        collate_fn=partial(collate, scope=scope, allowed=allowed),
        num_workers=num_workers,
        # The same on every system, and safe beside the threads of torch.
        multiprocessing_context="spawn" if num_workers else None,
        persistent_workers=num_workers > 0,
        pin_memory=trainer.strategy.root_device.type == "cuda",
    )


@contextmanager
def lightning_noises() -> Iterator[None]:
    """Keep to itself what Lightning warns about though it is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
        # `hardware` says when srun is missing; a training on one device needs none.
        warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
        # The folder is ours to reuse.
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        # Lightning's own use of torch.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        yield
