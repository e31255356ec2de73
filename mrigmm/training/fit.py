"""Train a deep GMM on the studies of a cohort, without labels."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from functools import partial

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from torch.utils.data import DataLoader

from mrigmm.config import RunConfig
from mrigmm.data.crops import network_view
from mrigmm.data.run_folder import RunFolder
from mrigmm.data.study import StudyTensors
from mrigmm.errors import InputError
from mrigmm.labels import allowed_classes
from mrigmm.mixture import PopulationPrior
from mrigmm.networks.deep_gmm import DeepGMM
from mrigmm.training.batches import MixtureBatchSampler, SliceDataset, TrainingStudy, collate
from mrigmm.training.callbacks import EpochKeeper
from mrigmm.training.module import DeepGMMModule


def training_study(study: StudyTensors, config: RunConfig) -> TrainingStudy:
    """Resample and crop a study for the network; slices without region are left out."""
    assert config.spacing_mm is not None
    view = network_view(study, spacing_mm=config.spacing_mm, crop_mm=config.crop_mm, divisor=2**config.levels)
    used = (view.region > 0).flatten(0, 1).any(dim=0)  # (Z,)
    return TrainingStudy(view.image.as_tensor()[..., used].float(), view.region[..., used], study.present)


def fit_deep_gmm(
    studies: Sequence[TrainingStudy],
    network: DeepGMM,
    config: RunConfig,
    prior: PopulationPrior | None,
    run: RunFolder,
    *,
    device: torch.device,
    resume: bool,
    progress: bool,
) -> None:
    """Train and leave the best weights in the run folder.

    Args:
        studies: what to train on.
        network: with the weights to start from; its weights afterwards are the last epoch's.
        config: of the run, with `classes` and `spacing_mm` resolved.
        prior: for the mean regulariser; None without one.
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
    loader = DataLoader(
        SliceDataset(studies),
        batch_size=None,  # the sampler makes the batches; as `sampler`, it is told each epoch
        sampler=MixtureBatchSampler(
            [study.region.shape[-1] for study in studies],
            batch_slices=config.batch_slices,
            scope=config.scope,
            flip_probability=config.flip_probability,
            seed=config.seed,
        ),
        collate_fn=partial(collate, scope=config.scope, allowed=allowed),
    )
    means = None if prior is None else torch.tensor(prior.means, dtype=torch.float32)
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
                DeepGMMModule(network, config, means),
                loader,
                ckpt_path=run.checkpoint if resume else None,
                weights_only=True,
            )
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
