"""`map-em-2step`: find the cavity first, then fit the wall on intensities at two scales.

Where only the mask of the left ventricle is known, blood and bright scar are hard to tell apart by intensity
alone, but the cavity is one central, convex piece. Once it is found, the wall's classes are fitted by
themselves, on intensities smoothed inside the wall, so that no blood leaks in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors, packed
from mrigmm.errors import InputError
from mrigmm.labels import CAVITY_CLASSES, Region, of_the_ventricle, wall_classes
from mrigmm.methods.base import Segmentation, SettableMethod, Task, present_sequences, segmentation_of, unpack
from mrigmm.methods.em_gmm import MapEM
from mrigmm.methods.settings import TwoStepSettings
from mrigmm.mixture import (
    EMResult,
    MapPrior,
    PopulationPrior,
    find_cavity,
    fit_gmm,
    multiscale_features,
    smooth_posterior,
)


@dataclass(frozen=True)
class Wall:
    """Wall of a study after MAP-EM.

    Attributes:
        region: (X, Y, Z) region codes with cavity and wall told apart.
        features: (N, F) float64 features of the wall's voxels.
        observed: (N, F) bool, where they were acquired; None: everywhere.
        prior: MAP prior of the wall's classes for these features.
        fit: MAP-EM fit to the features.
        resp: (K_wall, X, Y, Z) its responsibilities, smoothed in plane inside the wall.
        notes: what the user should know.
    """

    region: Tensor
    features: Tensor
    observed: Tensor | None
    prior: MapPrior
    fit: EMResult
    resp: Tensor
    notes: tuple[str, ...]


class MapEM2Step(SettableMethod[TwoStepSettings]):
    """MAP-EM for the cavity, then MAP-EM for the wall's classes at two scales."""

    name = "map-em-2step"
    settings_type = TwoStepSettings

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        super().__init__(task, overrides)
        self.whole = MapEM(task, {"prior_strength": self.settings.cavity_prior_strength})
        self.wall_classes = wall_classes(task.classes)

    def segment(self, study: StudyTensors) -> Segmentation:
        """Cavity, then wall."""
        wall = self.solve(study)
        notes = list(wall.notes)
        if not wall.fit.converged:
            notes.append(f"the fit of the wall stopped at {self.settings.max_iter} iterations")
        return wall_segmentation(study, self.task.classes, wall, wall.resp, notes)

    def solve(self, study: StudyTensors) -> Wall:
        """Region with cavity and wall told apart, features and MAP-EM fit of the wall.

        Raises:
            InputError: when the study has no wall, or a cavity that cannot be found.
        """
        notes: list[str] = []
        if self.task.multiscale is None and of_the_ventricle(self.task.classes):
            notes.append(
                "the prior knows nothing about smoothed intensities, and the wall was fitted at one scale: "
                "make the prior again with mrigmm prior"
            )
        region = study.region
        if (region == Region.LV).any():
            region = self._split(study)
            if not (region == Region.CAVITY).any():
                notes.append("no cavity was found: all of the region is taken for wall")
        inside = region == Region.WALL
        if not inside.any():
            raise InputError(
                "no wall is left around the cavity", study=study.id, remedy="check the region map"
            )
        features, observed, prior = self._features(study, inside)
        x = features.double()  # (N, F)
        map_prior = prior.map_prior(self.settings.prior_strength, dtype=x.dtype)
        fit = fit_gmm(
            x.to(self.task.device),
            observed=None if observed is None else observed.to(self.task.device),
            prior=map_prior.to(device=self.task.device),
            covariance=self.settings.covariance,
            max_iter=self.settings.max_iter,
            tol=self.settings.tolerance,
            variance_floor=self.settings.variance_floor,
        )
        smooth = smooth_posterior(
            unpack(fit.resp.float().cpu(), inside),
            inside.long(),
            sigma_mm=self.settings.smoothing_mm,
            spacing_mm=study.spacing_mm,
        )
        return Wall(region, x, observed, map_prior, fit, smooth, tuple(notes))

    def _split(self, study: StudyTensors) -> Tensor:
        """Region codes (X, Y, Z) with the undivided ventricle split into cavity and wall."""
        blood = self.whole.segment(study).resp[self.task.classes.index(CAVITY_CLASSES[0])]
        undivided = study.region == Region.LV
        cavity = find_cavity(
            blood, undivided, sigma_mm=self.settings.cavity_smoothing_mm, spacing_mm=study.spacing_mm
        )
        divided = torch.where(cavity, int(Region.CAVITY), int(Region.WALL))
        return torch.where(undivided, divided, study.region.long()).to(torch.uint8)

    def _features(self, study: StudyTensors, wall: Tensor) -> tuple[Tensor, Tensor | None, PopulationPrior]:
        """Features (N, F) of the wall's voxels, where they were observed, and the prior that knows them."""
        present = present_sequences(study)
        values, observed = replace(study, region=wall.to(torch.uint8)).present_voxels()
        if self.task.multiscale is None:  # a prior without that part
            assert self.task.prior is not None
            return values, observed, self.task.prior.select(classes=self.wall_classes, sequences=present)
        scales = self.task.multiscale
        features = wall_features(study, wall, scales.sigmas_mm)
        if observed is not None:
            observed = observed.repeat(1, len(scales.sigmas_mm))
        channels = scales.channels(present)
        return features, observed, scales.prior.select(classes=self.wall_classes, sequences=channels)


def wall_features(study: StudyTensors, wall: Tensor, sigmas_mm: Sequence[float]) -> Tensor:
    """Intensities smoothed in plane inside the wall, of the sequences that the study has.

    Args:
        study: the study.
        wall: (X, Y, Z) bool.
        sigmas_mm: Gaussian widths in mm.

    Returns:
        (N, len(sigmas_mm) * C') of the wall's voxels: all sequences at the first width, then at the next.
    """
    images, observed = study.image[study.present], study.observed[study.present]
    options: dict[str, Any] = {"sigmas_mm": sigmas_mm, "spacing_mm": study.spacing_mm}
    # Nothing leaks in from the cavity, nor from where the sequence was not acquired.
    if bool(packed(observed, wall).all()):
        return packed(multiscale_features(images, wall.long(), **options), wall).T
    smooth = [
        multiscale_features(image[None], (wall & acquired).long(), **options)
        for image, acquired in zip(images, observed, strict=True)
    ]
    # per sequence (scale, X, Y, Z) -> (scale, sequence, X, Y, Z) -> (N, F), scales outermost
    return packed(torch.stack(smooth, dim=1).flatten(0, 1), wall).T


def wall_segmentation(
    study: StudyTensors, classes: tuple[str, ...], wall: Wall, resp: Tensor, notes: Sequence[str]
) -> Segmentation:
    """A study's segmentation from its cavity and the responsibilities (K_wall, X, Y, Z) of its wall."""
    cavity = wall.region == Region.CAVITY
    whole = torch.zeros((len(classes), *wall.region.shape))
    for name in set(classes).intersection(CAVITY_CLASSES):
        whole[classes.index(name)] = cavity.float()
    for row, name in enumerate(wall_classes(classes)):
        whole[classes.index(name)] = resp[row]
    return segmentation_of(
        study,
        whole,
        classes,
        region=wall.region,
        n_iter=wall.fit.n_iter,
        converged=wall.fit.converged,
        details={"cavity_ml": float(cavity.sum()) * study.output.grid.voxel_volume_ml},
        warnings=notes,
    )
