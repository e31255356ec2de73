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
    assert decided_labels(resp, region, CLASSES, voxel_volume_ml=2.0).ravel().tolist() == [3, 0]


def line(*called):
    """(K, N, 1, 1) of voxels that are certain to be of these rows."""
    return torch.eye(4)[list(called)].T[:, :, None, None]


def test_small_islands_go_and_the_largest_stays():
    """Voxels of 0.4 ml: an island needs three of them."""
    inside = torch.full((12, 1, 1), 2, dtype=torch.uint8)
    resp = line(3, 3, 2, 1, 3, 2, 1, 2, 2, 2, 3, 1)
    # Injured: 3, 2 and 4 voxels; the second becomes normal. Scar: the first is the largest and stays, the
    # last becomes edema.
    found = decided_labels(resp, inside, CLASSES, voxel_volume_ml=0.4).ravel().tolist()
    assert found == [4, 4, 3, 2, 2, 2, 2, 3, 3, 3, 3, 2]


def test_a_small_infarct_alone_stays():
    inside = torch.full((4, 1, 1), 2, dtype=torch.uint8)
    found = decided_labels(line(1, 3, 1, 1), inside, CLASSES, voxel_volume_ml=0.01).ravel().tolist()
    assert found == [2, 4, 2, 2]
    healthy = decided_labels(line(1, 1, 1, 1), inside, CLASSES, voxel_volume_ml=0.01)
    assert healthy.unique().tolist() == [2]
