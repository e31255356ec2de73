"""`slic-kmeans`: k-means on superpixels instead of voxels."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.segmentation import slic

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.methods.base import Segmentation, SettableMethod, present_sequences, segmentation_of, unpack
from mrigmm.methods.clusters import covered_voxels, named, naming_note, parts
from mrigmm.methods.kmeans import fit_kmeans
from mrigmm.methods.settings import SLICKMeansSettings


class SLICKMeans(SettableMethod[SLICKMeansSettings]):
    """Superpixels of every slice, then one k-means per study on their mean intensities.

    R. Achanta et al., SLIC superpixels compared to state-of-the-art superpixel methods, IEEE TPAMI 2012;
    inside a mask B. Irving, maskSLIC, arXiv:1606.09518.
    """

    name = "slic-kmeans"
    settings_type = SLICKMeansSettings

    def segment(self, study: StudyTensors) -> Segmentation:
        """Cluster the superpixels of the study, and name the clusters.

        Raises:
            InputError: a part of the region has fewer superpixels
                than classes.
        """
        x = covered_voxels(study).double()
        image = study.image[study.present].double().numpy()  # (C', X, Y, Z)
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
            fit = fit_kmeans(means, len(members), seed=self.settings.seed, weight=sizes)
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
        return segmentation_of(
            study,
            unpack(resp.float(), study.region),
            self.task.classes,
            n_iter=n_iter,
            warnings=notes,
            details={"superpixels": count},
        )


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
