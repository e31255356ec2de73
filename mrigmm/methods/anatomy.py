"""The anatomy stage: finds cavity and wall where no region map is given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigmm.config_anatomy import AnatomyConfig
from mrigmm.data.in_memory import LoadedStudy
from mrigmm.data.manifest import Study
from mrigmm.data.run_folder import AnatomyRecord, RunFolder, read_anatomy_run
from mrigmm.data.study import NO_CORRECTIONS, Corrections, load_study, read_sequences
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.data.ventricle import closed_ventricle
from mrigmm.data.volumes import Volume
from mrigmm.data.whole import load_whole, middle_view
from mrigmm.errors import InputError, Problem, told
from mrigmm.labels import Region
from mrigmm.methods.anatomy_border import sharpened
from mrigmm.mixture.threads import all_threads
from mrigmm.networks.anatomy_net import AnatomyFeatures, AnatomyNet, neighbourhood


@dataclass(frozen=True)
class Anatomy:
    """Place of a study's ventricle.

    Attributes:
        codes: (X, Y, Z) `labels.Region` codes, slices along the last axis.
        quality: (Z,) of each slice: mean typicality in and around its ventricle (`slice_quality`), NaN
            without a ventricle.
        warnings: what the user should know.
    """

    codes: NDArray[np.uint8]
    quality: NDArray[np.float64]
    warnings: tuple[str, ...]

    @property
    def study_quality(self) -> float:
        """Median over the slices that show a ventricle."""
        return float(np.nanmedian(self.quality))

    @property
    def slice_qualities(self) -> list[float | None]:
        """Quality of each slice, None without a ventricle."""
        return [None if np.isnan(q) else float(q) for q in self.quality]


class Finder(Protocol):
    """Finds the ventricle of a study without a region map."""

    @property
    def sequences(self) -> tuple[str, ...]:
        """Names of the sequences that it knows."""
        ...

    def find(self, study: StudyTensors) -> Anatomy:
        """Cavity and wall of a study of `load_whole`; raises InputError where there is no ventricle."""
        ...

    def told(self, found: Anatomy) -> Problem:
        """Return that the region is no given one; a warning where it can hardly be trusted."""
        ...

    def record(self, found: Anatomy) -> dict[str, Any]:
        """Return what stands in the side file of what was found."""
        ...


def build_anatomy_net(config: AnatomyConfig) -> AnatomyNet:
    """The network of a configuration with its sequences resolved, with random weights."""
    assert config.sequences is not None
    return AnatomyNet(len(config.sequences), filters=config.filters, levels=config.levels, head=config.head)


class AnatomyFinder:
    """A trained anatomy stage.

    Args:
        network: the network.
        config: of its run.
        lowest_quality: slices below it are flagged.
        device: where the network is computed.
        source: folder of the run, for side files.
    """

    def __init__(
        self,
        network: AnatomyNet,
        config: AnatomyConfig,
        lowest_quality: float,
        device: torch.device,
        source: Path | None = None,
    ) -> None:
        assert config.sequences is not None
        self.network = network.to(device).eval()
        self.config = config
        self.sequences = config.sequences
        self.lowest_quality = lowest_quality
        self.device = device
        self.source = source

    def on_scale(self, quality: float) -> float | None:
        """A quality as the (geometric) mean probability, 0 to 1, of what the pixels are called.

        Returns:
            None with a generative head, whose densities have no scale.
        """
        return math.exp(quality) if self.config.head == "softmax" else None

    @all_threads()
    @torch.inference_mode()
    def look(self, study: StudyTensors) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the network sees in a study of `load_whole`.

        Returns:
            Probabilities (3, X, Y, Z) of outside, cavity and wall; typicality (X, Y, Z); and quality (Z,).
        """
        view = middle_view(
            study,
            spacing_mm=self.config.spacing_mm,
            view_mm=self.config.view_mm,
            divisor=self.network.unet.divisor,
        )
        slices, quality = [], []
        for x in view.image.float().movedim(-1, 0):
            found = self.network.features(x[None].to(self.device))
            inside = found.logits.softmax(dim=1)[0, 1:]
            slices.append(torch.cat([inside, found.typicality]))  # (3, A, A)
            quality.append(slice_quality(found, self.config.spacing_mm)[0])
        maps = view.to_study_grid(torch.stack(slices, dim=-1).cpu())  # 0 beyond the square, which is outside
        inside = maps[:2].clamp(0, 1)
        probabilities = torch.cat([(1 - inside.sum(dim=0, keepdim=True)).clamp_min(0), inside])
        return probabilities, maps[2], torch.stack(quality).cpu()

    def find(self, study: StudyTensors) -> Anatomy:
        """Cavity and wall of a study of `load_whole`.

        Raises:
            InputError: there is no ventricle.
        """
        probabilities, _, found_quality = self.look(study)
        if self.config.own_mixture:
            image = study.image[study.present]
            probabilities = sharpened(probabilities, image, study.region > 0, study.spacing_mm)
        codes = closed_ventricle(probabilities.numpy())
        if not codes.any():
            raise InputError(
                "no left ventricle was found",
                study=study.id,
                file=study.output.file,
                expected=f"short-axis slices as in the training, in {', '.join(self.sequences)}",
                remedy="give a region map, or train the anatomy stage on studies like this one",
            )
        quality = np.where(codes.any(axis=(0, 1)), found_quality.numpy(), np.nan)
        warnings = []
        low = [str(z + 1) for z in np.flatnonzero(quality < self.lowest_quality)]
        if low:
            warnings.append(
                f"the ventricle is uncertain in slice{'s' if len(low) > 1 else ''} {', '.join(low)} "
                "(from 1): look at the region map"
            )
        return Anatomy(codes, quality, tuple(warnings))

    def told(self, found: Anatomy) -> Problem:
        """Return that the region is the program's own; the same text for all studies alike."""
        lowest = self.on_scale(self.lowest_quality)
        if lowest is None:
            scale, limit = "a log density without a fixed scale", f"{self.lowest_quality:.4g}"
        else:
            scale, limit = "from 0 to 1", f"{lowest:.2f}"
        low = found.study_quality < self.lowest_quality
        verdict = f"under {limit}, which is low" if low else f"at least {limit} and not low"
        return Problem(
            "the region is the program's own, found by the anatomy stage and not given (predict "
            f"writes it as _region.nii.gz); its quality, {scale}, is {verdict}",
            severity="warning" if low else "note",
        )

    def record(self, found: Anatomy) -> dict[str, Any]:
        """Return quality and source of what was found."""
        return {
            "anatomy_run": None if self.source is None else str(self.source.resolve()),
            "quality": found.study_quality,
            "quality_0_to_1": self.on_scale(found.study_quality),
            "lowest_quality_0_to_1": self.on_scale(self.lowest_quality),
            "slice_quality": found.slice_qualities,
            "lowest_quality": self.lowest_quality,
        }


def slice_quality(features: AnatomyFeatures, spacing_mm: float) -> Tensor:
    """Mean typicality (B,) in and around what is called ventricle in each slice, NaN where nothing is.

    The surroundings count because a network is sure of the inside of nearly anything round.
    """
    ventricle = features.logits.argmax(dim=1, keepdim=True) > 0
    near = neighbourhood(ventricle.float(), spacing_mm)[:, 0] > 0
    total = torch.where(near, features.typicality, 0.0).double().sum(dim=(1, 2))
    return total / near.sum(dim=(1, 2))  # 0 / 0 is NaN


def region_ids(study: StudyTensors) -> Tensor:
    """The region (X, Y, Z) in the ids of a region map: 1 cavity (or ventricle), 2 wall."""
    return torch.where(study.region == Region.CAVITY, 1, study.region).to(torch.uint8)


def read_anatomy_finder(folder: Path, device: torch.device) -> tuple[AnatomyFinder, AnatomyRecord]:
    """The anatomy stage of a finished run.

    Raises:
        InputError: the run is missing, unfinished, damaged, or of another kind.
    """
    run = RunFolder(folder)
    config, record = read_anatomy_run(run)
    network = build_anatomy_net(config)
    run.load_weights(network)
    return AnatomyFinder(network, config, record.lowest_quality, device, folder), record


def load_found(
    study: Study,
    sequences: Sequence[str],
    classes: Sequence[str],
    finder: Finder | None,
    *,
    labels: Mapping[str, Sequence[int]],
    corrections: Corrections = NO_CORRECTIONS,
    with_label: bool = False,
    with_scribbles: bool = False,
    images: Mapping[str, Volume] | None = None,
) -> StudyTensors:
    """A study as `load_study` gives it, inspected; one without a region map gets the one that is found.

    Args:
        study: the files.
        sequences: channel order.
        classes: of the mixture.
        finder: None leaves a study without a region map to the error of `load_study`.
        labels: class name -> ids in the reference label file.
        corrections: optional steps on the images.
        with_label: read the reference label too.
        with_scribbles: read the scribbles too.
        images: what `read_sequences` returned for this study, where the caller has it already.

    Raises:
        InputError: as `load_study`, and where no ventricle is found.
    """
    options: dict[str, Any] = {
        "labels": labels,
        "corrections": corrections,
        "with_label": with_label,
        "with_scribbles": with_scribbles,
        "inspect": True,
    }
    drawn = study.drawn if isinstance(study, LoadedStudy) else study.region
    if finder is None or drawn is not None:
        return load_study(study, sequences, classes, images=images, **options)
    if images is None:
        images = read_sequences(study, sequences, labels)
    seen = {name: volume for name, volume in images.items() if name in finder.sequences}
    if not seen:
        raise InputError(
            "the study has no region map, and what finds the ventricle knows none of its sequences",
            study=study.id,
            expected=f"one of {', '.join(finder.sequences)}",
            got=", ".join(images),
            remedy="give a region map, or name the sequences so in the manifest",
        )
    whole = load_whole(study, finder.sequences, labels, images=images)
    found = finder.find(whole)
    region = whole.to_input_grid(torch.from_numpy(found.codes)[None])[0].astype(np.uint8)
    tensors = load_study(study, sequences, classes, images=images, region=region, **options)
    return replace(
        tensors,
        findings=(
            *tensors.findings,
            replace(finder.told(found), study=study.id),
            *told(found.warnings, "warning", study.id),
        ),
        found_region=finder.record(found),
    )
