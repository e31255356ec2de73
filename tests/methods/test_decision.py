"""Classes decided from the whole to its parts."""

import torch

from mrigmm.methods.decision import decide, decided_labels

CLASSES = ("blood", "myocardium", "edema", "scar")


def voxels(*columns):
    """(K, N, 1, 1) of the probabilities of N voxels."""
    return torch.tensor(columns).T[:, :, None, None]


def test_the_parts_of_an_injury_count_together():
    resp = voxels(
        [0.0, 0.4, 0.3, 0.3],  # injured .6: edema and scar alike, edema stands first
        [0.0, 0.6, 0.3, 0.1],
        [0.1, 0.3, 0.2, 0.4],
        [0.5, 0.2, 0.2, 0.1],  # blood as likely as the wall
        [0.4, 0.35, 0.15, 0.1],  # wall .6, of which normal .35 against .25
    )
    assert decide(resp, CLASSES).ravel().tolist() == [2, 1, 3, 0, 1]


def test_classes_in_any_order_and_number():
    resp = voxels([0.45, 0.55], [0.55, 0.45])
    assert decide(resp, ("scar", "myocardium")).ravel().tolist() == [1, 0]
    assert decide(voxels([1.0], [1.0]), ("myocardium",)).ravel().tolist() == [0, 0]


def test_ids_inside_the_region_only():
    resp = voxels([0.0, 0.4, 0.3, 0.3], [0.0, 0.4, 0.2, 0.4])
    region = torch.tensor([2, 0], dtype=torch.uint8)[:, None, None]
    assert decided_labels(resp, region, CLASSES).ravel().tolist() == [3, 0]
