import numpy as np
import pytest

from mrigmm.phantom.effects import add_ghost, reconstruct, vary_slices


def _rng():
    return np.random.default_rng(0)


def _wave(frequency, size=20):
    """A cosine along x (cycles per voxel), (X, Y, 1)."""
    return np.broadcast_to(np.cos(2 * np.pi * frequency * np.arange(size))[:, None, None], (size, 4, 1))


def _filtered(image, **changes):
    neutral = {"spacing_mm": 1.0, "smoothing_mm": 0.0, "sharpening": 0.0, "kspace_share": 1.0}
    return reconstruct(image, **(neutral | changes))


def test_neutral_effects_leave_the_very_image():
    image = _rng().normal(size=(6, 6, 2))
    assert vary_slices(image, contrast=0.0, offset=0.0, lowest=0.0, rng=_rng()) is image
    assert add_ghost(image, strength=0.0, rng=_rng()) is image
    assert _filtered(image) is image


def test_slices_get_a_contrast_and_an_offset_of_their_own():
    signal = np.broadcast_to(np.array([-1.0, 0.0, 2.0])[:, None, None], (3, 1, 4000))
    varied = vary_slices(signal, contrast=0.3, offset=0.5, lowest=None, rng=_rng())
    offset = varied[1, 0]  # where the signal is 0
    factor = (varied[2, 0] - offset) / 2
    np.testing.assert_allclose(varied[0, 0], offset - factor, rtol=1e-4, atol=1e-4)
    assert np.log(factor).std() == pytest.approx(0.3, rel=0.05)
    assert np.median(factor) == pytest.approx(1.0, abs=0.02)
    assert offset.std() == pytest.approx(0.5, rel=0.05)
    assert abs(np.corrcoef(factor, offset)[0, 1]) < 0.05
    clipped = vary_slices(signal, contrast=0.3, offset=0.5, lowest=-0.4, rng=_rng())
    np.testing.assert_array_equal(clipped, np.maximum(varied, np.float32(-0.4)))


def test_a_ghost_is_a_weaker_copy_that_wraps_around_along_y():
    signal = np.zeros((12, 12, 2000), dtype=np.float32)
    signal[2, 8] = 3.0
    ghosted = add_ghost(signal, strength=0.2, rng=_rng())
    np.testing.assert_array_equal(ghosted[2, 8], 3.0)
    (row,) = {int(row) for row in np.nonzero(ghosted[2].any(axis=-1))[0]} - {8}
    assert row in {(8 + 12 // part) % 12 for part in (2, 3, 4)}
    factor = ghosted[2, row] / 3.0
    assert (factor.min(), factor.max()) == pytest.approx((0.0, 0.4), abs=0.01)
    assert factor.mean() == pytest.approx(0.2, abs=0.01)
    assert np.count_nonzero(ghosted.any(axis=-1)) == 2


@pytest.mark.parametrize(
    ("change", "frequency", "factor"),
    [
        # exp(-2 pi^2 s^2 f^2) with s = 1.5 mm
        ({"smoothing_mm": 1.5}, 0.1, 0.6414),
        ({"smoothing_mm": 1.5}, 0.0, 1.0),
        # the same in mm: voxels of 2 mm, s = 3 mm
        ({"smoothing_mm": 3.0, "spacing_mm": 2.0}, 0.1, 0.6414),
        # 1 + 2 (1 - exp(-2 pi^2 f^2))
        ({"sharpening": 2.0}, 0.1, 1.3582),
        ({"sharpening": 2.0}, 0.0, 1.0),
        # half of the frequencies up to 0.5 per voxel
        ({"kspace_share": 0.5}, 0.2, 1.0),
        ({"kspace_share": 0.5}, 0.3, 0.0),
    ],
)
def test_waves_are_damped_or_sharpened_as_the_filter_says(change, frequency, factor):
    wave = _wave(frequency)
    np.testing.assert_allclose(_filtered(wave, **change), factor * wave, atol=2e-4)
    turned = np.swapaxes(wave, 0, 1)
    np.testing.assert_allclose(_filtered(turned, **change), factor * turned, atol=2e-4)


def test_an_edge_rings_where_k_space_ends():
    edge = np.zeros((512, 4, 1))
    edge[128:384] = 1.0
    ringing = _filtered(edge, kspace_share=0.125)
    assert ringing.max() == pytest.approx(1.09, abs=0.02)  # Gibbs: 9 % of the step
    assert ringing.min() == pytest.approx(-0.09, abs=0.02)
