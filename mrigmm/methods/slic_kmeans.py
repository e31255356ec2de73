"""`slic-kmeans`: k-means on superpixels instead of voxels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.segmentation import slic
from sklearn import cluster
from sklearn.exceptions import ConvergenceWarning

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.methods.base import Segmentation, Task, present_sequences
from mrigmm.methods.clusters import cluster_segmentation, covered_voxels, named, naming_note, parts
from mrigmm.methods.settings import SLICKMeansSettings, require_sequences, validated_settings

# Starts by k-means++ of which the best is kept.
_STARTS = 10


class SLICKMeans:
    """Superpixels of every slice, then one k-means per study on their mean intensities.

    R. Achanta et al., SLIC superpixels compared to state-of-the-art superpixel methods, IEEE TPAMI 2012;
    inside a mask B. Irving, maskSLIC, arXiv:1606.09518.
    """

    name = "slic-kmeans"

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        self.settings = validated_settings(self.name, SLICKMeansSettings, overrides)
        require_sequences(self.settings.order_by, task.sequences)
        self.task = task

    def describe(self) -> dict[str, Any]:
        """Settings as plain values."""
        return self.settings.model_dump(mode="json")

    def segment(self, study: StudyTensors) -> Segmentation:
        """Cluster the superpixels of the study, and name the clusters.

        Raises:
            InputError: a part of the region has fewer superpixels
                than classes.
        """
        x = covered_voxels(study).double()
        image = study.image.as_tensor()[study.present].double().numpy()  # (C', X, Y, Z)
        resp = torch.zeros((len(x), len(self.task.classes)))
        notes, n_iter, count = [], 0, 0
        for inside, members in parts(self.name, study, self.task):
            here = inside[study.region > 0]
            of_voxel = superpixels(
                image,
                inside.numpy(),
                size_mm=self.settings.superpixel_mm,
                compactness=self.settings.compactness,
                spacing_mm=study.spacing_mm[:2],
            )
            sizes = np.bincount(of_voxel)
            count += len(sizes)
            if len(sizes) < len(members):
                raise InputError(
                    f"{self.name} finds fewer superpixels than classes",
                    study=study.id,
                    expected=f"at least {len(members)} superpixels",
                    got=f"{len(sizes)} of {self.settings.superpixel_mm:g} mm",
                    remedy="use a smaller superpixel_mm, or kmeans",
                )
            means = np.stack(
                [np.bincount(of_voxel, weights=channel) / sizes for channel in x[here].T.numpy()], axis=1
            )  # (superpixels, C')
            fit = self._fit(means, sizes, len(members))
            if len(np.unique(fit.labels_)) < len(members):
                notes.append("there are fewer intensities than classes: some classes are empty")
            order = named(
                torch.from_numpy(fit.cluster_centers_),
                members,
                present_sequences(study),
                self.task,
                self.settings.order_by,
            )
            found = torch.from_numpy(fit.labels_)[torch.from_numpy(of_voxel)]
            resp[here.nonzero(), members] = (found[:, None] == torch.tensor(order)).float()
            n_iter = max(n_iter, fit.n_iter_)
        notes += naming_note(self.task, self.settings.order_by)
        return cluster_segmentation(
            study, self.task, resp, n_iter=n_iter, warnings=tuple(notes), details={"superpixels": count}
        )

    def _fit(self, means: NDArray[np.float64], sizes: NDArray[np.int64], k: int) -> cluster.KMeans:
        """K clusters of superpixels, each weighted by its voxels."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # empty clusters are told as a note
            model = cluster.KMeans(k, n_init=_STARTS, random_state=self.settings.seed)
            return model.fit(means, sample_weight=sizes)


def superpixels(
    image: NDArray[np.float64],
    mask: NDArray[np.bool_],
    *,
    size_mm: float,
    compactness: float,
    spacing_mm: tuple[float, ...],
) -> NDArray[np.int64]:
    """Superpixels of a mask, slice by slice, numbered from 0.

    Args:
        image: (C, X, Y, Z) z-scores.
        mask: (X, Y, Z).
        size_mm: side of the square that has a superpixel's area, in mm.
        compactness: difference in z-scores that counts as much as a superpixel's size in distance.
        spacing_mm: (2,) voxel spacing in plane, in mm.

    Returns:
        (N,) number of each voxel of the mask, in the order of `mask.nonzero()`.
    """
    numbers = np.zeros(mask.shape, dtype=np.int64)
    total = 0
    for z in np.flatnonzero(mask.any(axis=(0, 1))):
        here = mask[..., z]
        n_voxels = int(here.sum())
        wanted = max(1, round(n_voxels * spacing_mm[0] * spacing_mm[1] / size_mm**2))
        if wanted == 1 or wanted >= n_voxels:  # scikit-image divides by the distance of the seeds
            found = np.zeros(n_voxels) if wanted == 1 else np.arange(n_voxels)
        else:
            found = _slic(image[..., z], here, wanted, compactness, spacing_mm)
        values, index = np.unique(found, return_inverse=True)
        numbers[here, z] = total + index
        total += len(values)
    return numbers[mask]


def _slic(
    image: NDArray[np.float64],
    mask: NDArray[np.bool_],
    count: int,
    compactness: float,
    spacing_mm: tuple[float, ...],
) -> NDArray[np.int64]:
    """Superpixels (N,) of a slice (C, X, Y) by scikit-image, which seeds itself."""
    inside = image[:, mask]
    span = float(inside.max() - inside.min())  # it divides by this, which would change the units
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)  # of its seeds
        found = slic(
            image,
            n_segments=count,
            compactness=compactness / (span or 1.0),
            spacing=np.array(spacing_mm) / min(spacing_mm),  # its seeds' distance is in voxels
            convert2lab=False,  # three sequences are no colours
            mask=None if mask.all() else mask,  # seeds on a grid come at once, in a mask by k-means
            channel_axis=0,
        )
    return np.asarray(found[mask], dtype=np.int64)
