"""A ring seen by a network that is a little off, and sharpened by the intensities."""

import pytest
import torch

from mrigmm.methods.anatomy_border import sharpened

SPACING = (1.5, 1.0, 8.0)
CAVITY, WALL = 1, 2


def rings(radius_mm, thickness_mm, centre_mm=(0.0, 0.0)):
    """One-hot (3, 48, 72, 2) of outside, cavity and wall."""
    x = (torch.arange(48) - 23.5) * SPACING[0] - centre_mm[0]
    y = (torch.arange(72) - 35.5) * SPACING[1] - centre_mm[1]
    r = torch.hypot(x[:, None], y[None])[..., None].expand(-1, -1, 2)
    code = torch.where(r < radius_mm, CAVITY, torch.where(r < radius_mm + thickness_mm, WALL, 0))
    return torch.nn.functional.one_hot(code, 3).movedim(-1, 0).float()


def image(truth, means, sd=0.3, seed=0):
    """(C, X, Y, Z) of class means (3, C) and white noise."""
    x = torch.einsum("kxyz,kc->cxyz", truth, torch.tensor(means))
    return x + sd * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def dice(found, truth, k):
    a, b = found.argmax(dim=0) == k, truth[k] > 0
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


TRUTH = rings(14, 8)
# The network sees a thinner wall, displaced by 2 mm, and is only fairly sure.
SEEN = 0.9 * rings(15, 5, (2.0, 0.0)) + 0.1 / 3
EVERYWHERE = torch.ones(TRUTH.shape[1:], dtype=torch.bool)
CONTRAST = ((0.0, 0.5), (2.0, -1.0), (-1.0, 1.0))


def test_border_moves_to_where_the_intensities_change():
    found = sharpened(SEEN, image(TRUTH, CONTRAST), EVERYWHERE, SPACING)
    for k, before, after in ((CAVITY, 0.93, 0.95), (WALL, 0.75, 0.87)):
        assert dice(SEEN, TRUTH, k) < before
        assert dice(found, TRUTH, k) > after
    torch.testing.assert_close(found.sum(dim=0), torch.ones(found.shape[1:]))


def test_nothing_far_from_the_ventricle_is_called_one():
    x = image(TRUTH, CONTRAST)
    x[:, :5, :5] = torch.tensor(CONTRAST[CAVITY])[:, None, None, None]  # as bright as blood
    found = sharpened(SEEN, x, EVERYWHERE, SPACING)
    assert (found.argmax(dim=0)[:5, :5] == 0).all()
    torch.testing.assert_close(found[:, :2, :2], SEEN[:, :2, :2])  # beyond 16 mm and the smoothing


def test_without_contrast_the_network_decides():
    found = sharpened(SEEN, image(TRUTH, ((0.0,), (0.0,), (0.0,))), EVERYWHERE, SPACING)
    assert dice(found, SEEN.argmax(dim=0) == torch.arange(3)[:, None, None, None], WALL) > 0.9


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_constant_image(value):
    found = sharpened(SEEN, torch.full((1, *SEEN.shape[1:]), value), EVERYWHERE, SPACING)
    assert found.isfinite().all()
    assert dice(found, SEEN.argmax(dim=0) == torch.arange(3)[:, None, None, None], WALL) > 0.9


def test_what_no_sequence_shows_is_not_looked_at():
    inside = EVERYWHERE.clone()
    inside[:20] = False
    x = image(TRUTH, CONTRAST)
    x[:, :20] = float("nan")
    found = sharpened(SEEN, x, inside, SPACING)
    assert found.isfinite().all()
    assert dice(found[:, 22:], TRUTH[:, 22:], WALL) > 0.9


def test_far_outlier_changes_little():
    x = image(TRUTH, CONTRAST)
    x[0, 24, 36, 0] = 1e4
    found = sharpened(SEEN, x, EVERYWHERE, SPACING)
    assert dice(found, TRUTH, WALL) > 0.87


def test_too_small_a_ventricle_is_left_as_it_is():
    seen = rings(2, 1)
    assert torch.equal(sharpened(seen, image(TRUTH, CONTRAST), EVERYWHERE, SPACING), seen)


def test_same_result_again():
    x = image(TRUTH, CONTRAST)
    first = sharpened(SEEN, x, EVERYWHERE, SPACING)
    assert torch.equal(first, sharpened(SEEN, x, EVERYWHERE, SPACING))
