import pytest
import torch

from mrigmm.methods.deep_segmentation_prior import DivergedError, plateau, reconstruct, window_features
from mrigmm.methods.settings import ReconstructionSettings

QUICK = ReconstructionSettings(filters=4, levels=2, runs=2, max_iter=12)


def ring(n, *, noise=0.0):
    """Cavity, wall and lesion of n x n pixels: classes (n, n), 0 outside, and two sequences (2, n, n)."""
    axis = (torch.arange(n) - (n - 1) / 2) / n
    radius, angle = (axis[:, None] ** 2 + axis**2).sqrt(), torch.atan2(axis[:, None], axis[None])
    wall = (radius > 0.24) & (radius <= 0.45)
    truth = torch.where(radius <= 0.24, 1, torch.where(wall, 2, 0))
    truth[wall & (angle > 2)] = 3
    clean = torch.tensor([[0, 0], [1.2, -1], [-0.8, 0.2], [1.5, 1.5]])[truth].permute(2, 0, 1)
    return truth, clean + noise * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))


def rmse(image, reference, mask):
    return float((image - reference)[:, mask].square().mean().sqrt())


def test_the_reconstruction_is_nearer_to_the_truth_than_the_noisy_image():
    truth, noisy = ring(48, noise=0.6)
    _, clean = ring(48)
    mask = truth > 0
    found = reconstruct(noisy[None], mask[None], ReconstructionSettings())
    assert rmse(noisy, clean, mask) > 0.55
    assert rmse(found.images[0], clean, mask) < 0.3
    assert found.settled.all()
    assert all(len(course) == n for course, n in zip(found.losses, found.n_iter[0], strict=True))
    assert all(course[-1] < course[0] for course in found.losses)


def test_the_stop_does_not_depend_on_the_resolution():
    """The same object on four times the pixels stops at the same explained variance, far from 0 and 1."""
    explained = []
    for n in (32, 64):
        truth, image = ring(n)
        found = reconstruct(image[None], (truth > 0)[None], ReconstructionSettings())
        assert found.settled.all()
        explained.append(float(found.explained.median()))
    assert explained[0] == pytest.approx(explained[1], abs=0.03)
    assert all(0.9 < share < 0.99 for share in explained)


@pytest.mark.gate
def test_skip_channels_keep_what_the_published_hourglass_loses():
    """A bright square of 6 x 6 pixels in the wall (4.5 mm where a pixel has 0.75 mm), after 60 iterations."""
    truth, image = ring(48, noise=0.1)
    spot = (0, slice(24, 30), slice(38, 44))
    image[spot] = 3
    kept = {}
    for skip_channels in (0, 4, 8):
        settings = ReconstructionSettings(skip_channels=skip_channels, max_iter=60, stop_gain=1e-9)
        found = reconstruct(image[None], (truth > 0)[None], settings)
        kept[skip_channels] = float(found.images[0][spot].mean())
    assert max(kept[0], kept[4]) < 0.5  # the wall around it: -0.8
    assert kept[8] > 1.5


def test_the_plateau_rule():
    """Means of windows of 2: 0.45, then 0.495 (10 % more), then 0.4995 (0.9 %)."""
    shares = [0.4, 0.5, 0.48, 0.51, 0.499, 0.5]
    assert not plateau(shares[:3], 2, 0.2)  # two windows are needed
    assert plateau(shares[:4], 2, 0.101)
    assert not plateau(shares[:4], 2, 0.099)
    assert plateau(shares, 2, 0.01)
    assert not plateau([-0.5, -0.5, -0.5, -0.5], 2, 0.1)  # still worse than a constant


def test_what_lies_outside_the_mask_does_not_matter():
    truth, image = ring(24)
    mask = truth > 0
    first = reconstruct(image[None], mask[None], QUICK)
    again = reconstruct(torch.where(mask, image, 100.0)[None], mask[None], QUICK)
    assert torch.equal(first.images, again.images)
    assert (first.images[0, :, 0] == 0).all()  # beyond the mask's bounding box


def test_slices_are_reconstructed_one_by_one():
    """And a slice without mask stays empty, whatever number of slices there is."""
    truth, image = ring(24)
    mask = truth > 0
    images = torch.stack([image, image, -image])
    masks = torch.stack([mask, torch.zeros_like(mask), mask])
    found = reconstruct(images, masks, QUICK)
    assert torch.equal(found.images[:1], reconstruct(image[None], mask[None], QUICK).images)
    assert not found.images[1].any()
    assert found.n_iter.tolist() == [[12, 12], [0, 0], [12, 12]]
    assert found.settled.tolist() == [[False, False], [True, True], [False, False]]
    assert len(found.losses) == 4


def test_seeded_and_the_callers_random_numbers_go_on():
    truth, image = ring(24)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, again = (reconstruct(image[None], (truth > 0)[None], QUICK).images for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, again)
    other = reconstruct(image[None], (truth > 0)[None], QUICK.model_copy(update={"seed": 1})).images
    assert not torch.equal(first, other)


def test_a_constant_image_is_reconstructed():
    image = torch.full((1, 1, 8, 8), 2.0)
    found = reconstruct(image, torch.ones((1, 8, 8), dtype=torch.bool), QUICK)
    assert found.images.isfinite().all()


def test_what_cannot_be_reconstructed_is_refused():
    truth, image = ring(24)
    with pytest.raises(ValueError, match="not empty"):
        reconstruct(image[None], torch.zeros((1, 24, 24), dtype=torch.bool), QUICK)
    with pytest.raises(ValueError, match="expected"):
        reconstruct(image[None], (truth > 0)[None, :20], QUICK)
    with pytest.raises(DivergedError, match="iteration 1"):
        reconstruct(torch.full_like(image, torch.inf)[None], (truth > 0)[None], QUICK)


def test_windows():
    """Of a ramp along x: one component, for all values of a window rise alike; its order is the ramp's."""
    ramp = torch.arange(12.0)[None, None, :, None].expand(1, 2, 12, 7)
    inside = torch.ones((12, 7, 1), dtype=torch.bool)
    inside[:, 0] = False
    assert torch.equal(window_features(ramp, inside, 1), ramp[0].permute(1, 2, 0)[inside[..., 0]])
    features = window_features(ramp, inside, 3)
    assert features.shape == (12 * 6, 1)
    rows = features.reshape(12, 6)
    torch.testing.assert_close(rows, rows[:, :1].expand(12, 6))  # reflected: the border is no cluster
    steps = rows[:, 0].diff()
    assert (steps.sign() == steps[0].sign()).all()
