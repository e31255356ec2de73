"""`dsp-kmeans`, `dsp-gmm`, `dsp-cnn`: clustering of what the deep segmentation prior makes of a study."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.methods.base import Segmentation, SettableMethod, present_sequences, segmentation_of, unpack
from mrigmm.methods.cluster_crop import Stack
from mrigmm.methods.cluster_network import fit_network
from mrigmm.methods.clusters import named, naming_note, parts
from mrigmm.methods.deep_segmentation_prior import (
    DivergedError,
    Reconstruction,
    reconstruct,
    values_at,
    window_features,
)
from mrigmm.methods.kmeans import fit_kmeans
from mrigmm.methods.settings import (
    CNNContinuitySettings,
    DSPGMMSettings,
    DSPKMeansSettings,
    DSPSettings,
    ReconstructionSettings,
)
from mrigmm.mixture import fit_gmm

D = TypeVar("D", bound=DSPSettings)


@dataclass(frozen=True)
class Clusters:
    """A part of the region, clustered.

    Attributes:
        resp: (n, k) responsibilities, clusters in the order of the part's classes.
        n_iter: iterations.
        converged: whether they were enough.
    """

    resp: Tensor
    n_iter: int
    converged: bool


class DSP(SettableMethod[D], ABC):
    """Base of the methods: reconstruct the study, cluster each part of the region, name the clusters."""

    def segment(self, study: StudyTensors) -> Segmentation:
        """Cluster the reconstruction; the mixture that is reported is that of the study's own intensities.

        Raises:
            InputError: a part of the region is too small, or a fit diverged.
        """
        found = reconstructed(study, self.settings, self.reach, self.task.device)
        resp = torch.zeros((int((study.region > 0).sum()), len(self.task.classes)))
        fits = []
        for inside, members in parts(self.name, study, self.task):
            fits.append(self.cluster(found.images, inside, members, present_sequences(study)))
            resp[inside[study.region > 0].nonzero(), members] = fits[-1].resp.to(resp.dtype)
        restless = int((~found.settled).sum())
        notes = [
            f"{restless} of {len(found.losses)} reconstructions had not settled after "
            f"{self.settings.max_iter} iterations"
        ] * bool(restless)
        used = found.n_iter > 0
        return segmentation_of(
            study,
            unpack(resp.float(), study.region),
            self.task.classes,
            n_iter=max(fit.n_iter for fit in fits),
            converged=restless == 0 and all(fit.converged for fit in fits),
            warnings=(*notes, *naming_note(self.task, self.settings.order_by)),
            details={
                "reconstruction": {
                    "iterations": float(found.n_iter[used].float().mean()),
                    "explained_variance": float(found.explained[used].mean()),
                }
            },
        )

    @property
    def reach(self) -> int:
        """Return how many pixels beyond the region the clustering looks."""
        return 0

    @abstractmethod
    def cluster(
        self, images: Tensor, inside: Tensor, members: Tensor, sequences: tuple[str, ...]
    ) -> Clusters:
        """Cluster a part of the region.

        Args:
            images: (Z, C', X, Y) reconstruction.
            inside: (X, Y, Z) bool, the part.
            members: (k,) indices of its classes.
            sequences: names of the C' sequences.
        """

    def _ordered(self, resp: Tensor, x: Tensor, members: Tensor, sequences: tuple[str, ...]) -> Tensor:
        """Responsibilities (n, k), columns in the order of the classes; x (n, C') intensities."""
        weight = resp.sum(dim=0)
        overall = x.mean(dim=0)
        centres = torch.where(weight[:, None] > 0, resp.T @ x / weight[:, None].clamp(min=1e-12), overall)
        return resp[:, named(centres, members, sequences, self.task, self.settings.order_by)]


class DSPKMeans(DSP[DSPKMeansSettings]):
    """K-means on the reconstruction, or on windows of it, as S. Azulay's foreground and background."""

    name = "dsp-kmeans"
    settings_type = DSPKMeansSettings

    @property
    def reach(self) -> int:
        """Half a window."""
        return self.settings.window // 2

    def cluster(
        self, images: Tensor, inside: Tensor, members: Tensor, sequences: tuple[str, ...]
    ) -> Clusters:
        """Seeded k-means; responsibilities are 0 or 1."""
        features = window_features(images, inside, self.settings.window)
        fit = fit_kmeans(features.double().numpy(), len(members), seed=self.settings.seed)
        resp = torch.nn.functional.one_hot(torch.from_numpy(fit.labels_).long(), len(members)).double()
        ordered = self._ordered(resp, values_at(images, inside).double(), members, sequences)
        return Clusters(ordered, int(fit.n_iter_), converged=True)


class DSPGMM(DSP[DSPGMMSettings]):
    """A full-covariance mixture of the reconstruction, by MAP-EM where there is a population prior.

    The prior's covariances are those of intensities with their noise, of which the reconstruction has less.
    They still hold classes in place that few voxels carry (docs/method_cnn.md).
    """

    name = "dsp-gmm"
    settings_type = DSPGMMSettings

    def cluster(
        self, images: Tensor, inside: Tensor, members: Tensor, sequences: tuple[str, ...]
    ) -> Clusters:
        """The posterior of one mixture."""
        x = values_at(images, inside).double()
        options: dict[str, Any] = {"n_classes": len(members), "start": "kmeans++", "seed": self.settings.seed}
        if self.task.prior is not None:
            names = tuple(self.task.classes[index] for index in members.tolist())
            prior = self.task.prior.select(classes=names, sequences=sequences)
            options = {"prior": prior.map_prior(self.settings.prior_strength)}
        fit = fit_gmm(x, **options)
        resp = fit.resp.double()
        if self.task.prior is None:  # otherwise components keep the class they were started at
            resp = self._ordered(resp, x, members, sequences)
        return Clusters(resp, fit.n_iter, fit.converged)


class DSPCNN(DSP[DSPSettings]):
    """Clustering of the reconstruction by a CNN, as `cnn-continuity` with its defaults."""

    name = "dsp-cnn"
    settings_type = DSPSettings

    def cluster(
        self, images: Tensor, inside: Tensor, members: Tensor, sequences: tuple[str, ...]
    ) -> Clusters:
        """One network for the part; a part of one class needs none."""
        x = values_at(images, inside).double()
        if len(members) == 1:
            return Clusters(torch.ones(len(x), 1, dtype=torch.double), 0, converged=True)
        settings = CNNContinuitySettings.model_validate({"seed": self.settings.seed})
        # Superpixels alone know about millimetres, and this method has none.
        stack = Stack(images, inside.permute(2, 0, 1), (1.0, 1.0))
        fit = fit_network([stack], len(members), settings, device=self.task.device)
        resp = fit.responsibilities(stack).permute(1, 2, 3, 0)[:, inside].T.double()  # (n, k)
        return Clusters(self._ordered(resp, x, members, sequences), settings.iterations, converged=True)


def reconstructed(
    study: StudyTensors, settings: ReconstructionSettings, reach: int, device: torch.device
) -> Reconstruction:
    """The sequences that a study has, as the hourglass sees them.

    Args:
        study: with sequences that cover the region.
        settings: of the reconstruction.
        reach: pixels around the region, in its slice, that are to be like the image too.
        device: where the networks are fitted.

    Raises:
        InputError: a fit diverged.
    """
    images = study.image[study.present].permute(3, 0, 1, 2)  # (Z, C', X, Y)
    inside = (study.region > 0).permute(2, 0, 1)[:, None].float()  # (Z, 1, X, Y)
    near = torch.nn.functional.max_pool2d(inside, 2 * reach + 1, stride=1, padding=reach)[:, 0] > 0
    seen = study.observed[study.present].all(dim=0).permute(2, 0, 1)
    try:
        return reconstruct(images, near & seen, settings, device=device)
    except DivergedError as error:
        raise InputError(
            "the reconstruction diverged", study=study.id, got=str(error), remedy="lower learning_rate"
        ) from None
