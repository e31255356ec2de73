"""The Lightning trainer for every objective."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from functools import partial

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from torch import Tensor
from torch.utils.data import DataLoader

from mrigmm.config import RunConfig
from mrigmm.data.crops import NetworkView
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError
from mrigmm.labels import allowed_classes
from mrigmm.training.batches import MixtureBatchSampler, SliceDataset, TrainingStudy, collate
from mrigmm.training.callbacks import EpochKeeper
from mrigmm.training.module import EpochModule


def training_study(view: NetworkView, present: Tensor) -> TrainingStudy:
    """A study as the network sees it, without the slices that lie outside the region."""
    used = (view.region > 0).flatten(0, 1).any(dim=0)  # (Z,)
    return TrainingStudy(view.image.as_tensor()[..., used].float(), view.region[..., used], present)


def fit(
    module: EpochModule,
    studies: Sequence[TrainingStudy],
    config: RunConfig,
    run: RunFolder,
    *,
    device: torch.device,
    resume: bool,
    progress: bool,
) -> None:
    """Train and leave the best weights in the run folder.

    Args:
        module: network and objective; the network's weights afterwards are the last epoch's.
        studies: what to train on.
        config: of the run, with `classes` resolved.
        run: folder to write to.
        device: where to train.
        resume: continue from the last completed epoch in the run folder.
        progress: show a progress bar.

    Raises:
        InputError: nothing to resume, or training diverged.
    """
    if resume and not run.checkpoint.exists():
        raise InputError(
            "there is no training to resume", file=run.checkpoint, remedy="start it without --resume"
        )
    assert config.classes is not None
    allowed = torch.tensor(allowed_classes(config.classes), dtype=torch.bool)
    # The network steps of gem need no mixture, so that their slices come in any order.
    scope = "slice" if config.objective == "gem" else config.scope
    loader = DataLoader(
        SliceDataset(studies),
        batch_size=None,  # the sampler makes the batches; as `sampler`, it is told each epoch
        sampler=MixtureBatchSampler(
            [study.region.shape[-1] for study in studies],
            batch_slices=config.batch_slices,
            scope=scope,
            flip_probability=config.flip_probability,
            seed=config.seed,
        ),
        collate_fn=partial(collate, scope=scope, allowed=allowed),
    )
    callbacks: list[Callback] = [
        EpochKeeper(run, config),
        # After the keeper, so that the checkpoint holds this epoch's row.
        ModelCheckpoint(
            dirpath=run.checkpoint.parent, filename="last", save_top_k=1, enable_version_counter=False
        ),
    ]
    if progress:
        callbacks.append(RichProgressBar(leave=False))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # hardware banners
    trainer = lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        max_epochs=config.epochs,
        gradient_clip_val=config.clip_norm,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    with warnings.catch_warnings():
        # The studies are in memory: workers would only copy them. The folder is ours to reuse.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        # Lightning's own use of torch.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        try:
            trainer.fit(
                module,
                loader,
                ckpt_path=run.checkpoint if resume else None,
                weights_only=True,
            )
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
