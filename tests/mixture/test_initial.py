"""First responsibilities."""

from __future__ import annotations

import pytest
import torch

from mrigmm.mixture.initial import kmeans_responsibilities, random_responsibilities


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_random_ones_sum_to_1_over_the_allowed_classes():
    allowed = torch.tensor([[True, True, False], [False, True, True]]).repeat(500, 1)
    resp = random_responsibilities(allowed, seeded(0))
    assert resp.dtype == torch.float64
    assert (resp[~allowed] == 0).all()
    assert (resp[allowed] > 0).all()
    torch.testing.assert_close(resp.sum(1), torch.ones(1000).double())
    assert resp[:, 1].mean().item() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(resp, random_responsibilities(allowed, seeded(0)))
    assert not torch.equal(resp, random_responsibilities(allowed, seeded(1)))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("voxels", [1, 5])
def test_kmeans_separates_what_is_apart(seed, voxels):
    """Three places with one or five voxels each: no seed can fall on a place twice, whatever is drawn."""
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 5.0]]).repeat(voxels, 1)
    resp = kmeans_responsibilities(x, torch.ones(3 * voxels, 3, dtype=torch.bool), seeded(seed))
    assert resp.dtype == torch.float64
    assert sorted(resp[:3].argmax(1).tolist()) == [0, 1, 2]
    assert torch.equal(resp, resp[:3].repeat(voxels, 1))
    assert resp.sum(1).tolist() == [1] * 3 * voxels


@pytest.mark.parametrize("seed", range(10))
def test_kmeans_within_what_is_allowed(seed):
    """The first half is class 0 or 1, the second 1 or 2: each half has two places, and class 1 is in one."""
    x = torch.tensor([[0.0], [4.0], [10.0], [14.0]])
    allowed = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 1, 1], [0, 1, 1]], dtype=torch.bool)
    resp = kmeans_responsibilities(x.repeat(3, 1), allowed.repeat(3, 1), seeded(seed))
    labels = resp[:4].argmax(1).tolist()
    assert resp[:4].gather(1, (~allowed).long().argmax(1)[:, None]).sum() == 0
    assert set(labels) == {0, 1, 2}


def test_kmeans_ends_where_each_voxel_has_the_nearest_mean():
    generator = seeded(3)
    x = torch.randn(300, 2, generator=generator) + 4.0 * torch.randint(0, 3, (300, 1), generator=generator)
    resp = kmeans_responsibilities(x, torch.ones(300, 3, dtype=torch.bool), generator)
    means = resp.mT @ x.double() / resp.sum(0)[:, None]
    assert torch.equal(torch.cdist(x.double(), means).argmin(1), resp.argmax(1))


def test_kmeans_of_equal_voxels_and_of_a_class_that_is_nowhere():
    allowed = torch.tensor([[True, True, False]]).repeat(4, 1)
    resp = kmeans_responsibilities(torch.full((4, 1), 3.0), allowed, seeded(0))
    assert resp[:, 2].sum() == 0
    assert resp.sum(1).tolist() == [1] * 4
