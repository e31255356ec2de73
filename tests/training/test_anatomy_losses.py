import math

import pytest
import torch

from mrigmm.training import anatomy_losses as losses


def one_hot(index, n):
    return torch.nn.functional.one_hot(torch.as_tensor(index), n).float()


def test_mutual_information_of_hand_made_joints():
    """Independent: 0. Always the same cluster: 0. Two equal clusters that agree: log 2."""
    independent = torch.tensor([[0.25, 0.25], [0.25, 0.25]])
    agree = torch.tensor([[0.5, 0.0], [0.0, 0.5]])
    constant = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    found = losses.mutual_information(torch.stack([independent, agree, constant]))
    torch.testing.assert_close(found, torch.tensor([0.0, math.log(2), 0.0]), atol=1e-5, rtol=0)
    # Only the symmetric part counts: 3/4 agree, 1/4 differ.
    skew = torch.tensor([[0.375, 0.25], [0.0, 0.375]])
    expected = 2 * 0.375 * math.log(0.375 / 0.25) + 2 * 0.125 * math.log(0.125 / 0.25)
    assert losses.mutual_information(skew).item() == pytest.approx(expected, abs=1e-5)


def test_joint_of_slices_counts_pairs():
    first = one_hot([0, 0, 1, 2], 3)[:, None]  # (4, 1 head, 3)
    second = one_hot([0, 1, 1, 2], 3)[:, None]
    expected = torch.tensor([[[1.0, 1, 0], [0, 1, 0], [0, 0, 1]]]) / 4
    torch.testing.assert_close(losses.joint_of_slices(first, second), expected)


def test_joint_of_neighbours_pairs_displaced_pixels_and_is_normalised():
    """Columns 0 | 1 of clusters 0 | 1: the neighbour at the right of the left column is cluster 1."""
    clusters = one_hot([[0, 1], [0, 1]], 2).permute(2, 0, 1)[None, None]  # (1, 1, 2, 2, 2)
    weight = torch.ones(1, 1, 2, 2)
    joints = losses.joint_of_neighbours(clusters, clusters, weight, 1)[:, 0]
    assert joints.shape == (9, 2, 2)
    torch.testing.assert_close(joints.sum(dim=(1, 2)), torch.ones(9))
    torch.testing.assert_close(joints[4], torch.eye(2) / 2)  # the pixel itself
    mixed = {tuple(j.flatten().tolist()) for i, j in enumerate(joints) if i not in (1, 4, 7)}
    assert mixed == {(0, 1, 0, 0), (0, 0, 1, 0)}  # left with right and right with left


def test_pixels_of_no_weight_do_not_count():
    clusters = one_hot([[0, 1], [0, 1]], 2).permute(2, 0, 1)[None, None]
    weight = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    joints = losses.joint_of_neighbours(clusters, clusters, weight, 1)[:, 0]
    torch.testing.assert_close(joints[4], torch.tensor([[1.0, 0], [0, 0]]))
    torch.testing.assert_close(joints[3], torch.zeros(2, 2))  # no pair is left


def test_consistency_counts_what_is_seen():
    logits = torch.zeros(1, 3, 1, 2)  # thirds
    target = one_hot([[[0, 1]]], 3).permute(0, 3, 1, 2)
    valid = torch.tensor([[[[1.0, 0.0]]]])
    assert losses.consistency(logits, target, valid).item() == pytest.approx((2 / 3) ** 2 + 2 / 9)
    assert losses.consistency(logits, target, 0 * valid).item() == 0


def test_entropy_is_log_3_of_thirds_and_0_of_certainty():
    logits = torch.stack([torch.zeros(3), torch.tensor([50.0, 0, 0])], dim=-1)[None, :, None]  # (1, 3, 1, 2)
    left, right = torch.eye(2)[:, None, None, None]
    assert losses.entropy(logits, left).item() == pytest.approx(math.log(3), abs=1e-5)
    assert losses.entropy(logits, right).item() == pytest.approx(0, abs=1e-5)


def test_near_ventricle_reaches_16_mm_and_has_no_gradient():
    logits = torch.zeros(1, 3, 1, 9)
    logits[:, 0] = 50
    logits[:, :, 0, 4] = torch.tensor([0.0, 50, 0])
    logits.requires_grad_()
    near = losses.near_ventricle(logits, spacing_mm=8.0)
    torch.testing.assert_close(near[0, 0, 0], torch.tensor([0.05, 0.05, 1, 1, 1, 1, 1, 0.05, 0.05]))
    assert not near.requires_grad


def test_supervised_is_small_when_right_and_large_when_wrong():
    anatomy = one_hot([[[0, 1], [2, 0]]], 3).permute(0, 3, 1, 2)
    right = losses.supervised(50 * anatomy, anatomy)
    wrong = losses.supervised(-50 * anatomy, anatomy)
    assert right.item() < 0.05 < 1 < wrong.item()
