from dataclasses import replace

import numpy as np
import pytest
import torch

from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.slic_kmeans import superpixels

from .conftest import dice
from .test_kmeans import lesion, prior


def two_halves(noise=0.0):
    """(1, 24, 24, 2): 0 in one half of the first axis, 4 in the other."""
    image = np.zeros((1, 24, 24, 2))
    image[:, 12:] = 4.0
    return image + np.random.default_rng(0).normal(0, noise, image.shape)


def test_a_superpixel_has_the_area_it_is_asked_for():
    """24 x 24 voxels of 1.5 x 1 mm are 864 mm2: about 24 of 36 mm2, in each of two slices."""
    mask = np.ones((24, 24, 2), dtype=bool)
    numbers = superpixels(two_halves(), mask, size_mm=6.0, compactness=1.0, spacing_mm=(1.5, 1.0))
    assert 2 * 18 <= numbers.max() + 1 <= 2 * 30
    apart = numbers.reshape(24, 24, 2)
    assert not set(apart[..., 0].ravel()) & set(apart[..., 1].ravel())


def test_superpixels_follow_the_border_of_intensities():
    mask = np.ones((24, 24, 2), dtype=bool)
    image = two_halves(noise=0.3)
    numbers = superpixels(image, mask, size_mm=5.0, compactness=1.0, spacing_mm=(1.0, 1.0))
    of_voxel = numbers.reshape(24, 24, 2)
    assert not set(of_voxel[:12].ravel()) & set(of_voxel[12:].ravel())
    # The same where nothing but distance counts: the border is crossed.
    blind = superpixels(image, mask, size_mm=5.0, compactness=100.0, spacing_mm=(1.0, 1.0))
    of_voxel = blind.reshape(24, 24, 2)
    assert set(of_voxel[:12].ravel()) & set(of_voxel[12:].ravel())


@pytest.mark.parametrize("size_mm", [0.5, 100.0])
def test_the_smallest_is_a_voxel_and_the_largest_a_slice(size_mm):
    mask = np.zeros((24, 24, 2), dtype=bool)
    mask[1:4, 1:4] = True
    numbers = superpixels(two_halves(), mask, size_mm=size_mm, compactness=1.0, spacing_mm=(1.0, 1.0))
    assert len(np.unique(numbers)) == (18 if size_mm < 1 else 2)


def test_superpixels_take_single_noisy_voxels_along(ring, segment):
    """A bright voxel in normal wall is scar to k-means, but not to superpixels of 4 mm (11 voxels)."""
    study = lesion(ring)
    wall = ring.sector(3).nonzero()
    middle = tuple(wall[len(wall) // 2].tolist())
    image = study.image.clone()
    image[0][middle] = image[1][middle] = 2.2
    noisy = replace(study, image=image)
    assert segment("kmeans", noisy, prior=prior()).labels[middle] != 2
    result = segment("slic-kmeans", noisy, prior=prior(), superpixel_mm=4.0, compactness=5.0)
    assert result.labels[middle] == 2
    assert dice(result.labels == 4, ring.sector(0)) > 0.85
    assert torch.equal(result.labels == 1, ring.study.region == Region.CAVITY)
    n_voxels = int((study.region > 0).sum())
    assert n_voxels / 30 < result.details["superpixels"] < n_voxels / 5


def test_the_lesion_is_found_and_named(ring, segment):
    result = segment("slic-kmeans", lesion(ring), prior=prior(), superpixel_mm=2.0)
    assert dice(result.labels == 4, ring.sector(0)) > 0.9
    assert dice(result.labels == 3, ring.sector(1)) > 0.9
    assert result.warnings == ()
    again = segment("slic-kmeans", lesion(ring), prior=prior(), superpixel_mm=2.0)
    assert torch.equal(result.labels, again.labels)


def test_fewer_superpixels_than_classes_are_refused(ring, segment):
    study = lesion(ring)
    flat = study.region.clone()
    flat[..., 1:] = 0  # one slice: one superpixel in the wall
    with pytest.raises(InputError, match="fewer superpixels than classes") as caught:
        segment("slic-kmeans", replace(study, region=flat), superpixel_mm=50)
    problem = caught.value.problems[0]
    assert (problem.study, problem.expected, problem.got) == ("s1", "at least 3 superpixels", "1 of 50 mm")


def test_single_missing_voxels_are_refused(ring, segment):
    study = lesion(ring)
    observed = study.observed.clone()
    observed[1, ..., 0] = False
    with pytest.raises(InputError, match="slic-kmeans cannot leave out single voxels"):
        segment("slic-kmeans", replace(study, observed=observed))
