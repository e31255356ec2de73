"""Contrast of a located cavity, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mrigmm.methods.located_contrast import located_contrast, misnamed


def slices(blood, *, n=2):
    """A disc of 10 pixels' radius in a wall of 0, far from a chest of alternating -1 and 1; 2.5 mm."""
    x, y = np.mgrid[:64, :64] - 32
    radius = np.hypot(x, y)
    image = np.where((x + y) % 2, 1.0, -1.0)
    image[radius < 16] = 0
    image[radius < 10] = blood
    probability = (radius < 10).astype(np.float32)
    return np.stack([image] * n, axis=-1).astype(np.float32), np.stack([probability] * n)


@pytest.mark.parametrize("blood", [2.0, -1.0])
def test_difference_of_medians_in_sd_nearby(blood):
    image, cavity = slices(blood)
    x, y = np.mgrid[:64, :64] - 32
    inside = np.hypot(x, y) < 10
    far = np.min(
        [np.hypot(x - i, y - j) for i, j in zip(x[inside], y[inside], strict=True)], axis=0
    )  # pixels to the cavity
    near = image[..., 0][far * 2.5 < 40]
    assert located_contrast(image, cavity, 2.5) == pytest.approx(blood / near.std(), rel=1e-5)


def test_slices_without_a_cavity_do_not_count():
    image, cavity = slices(2.0)
    cavity[1] = 0
    image[..., 1] = 7
    assert located_contrast(image, cavity, 2.5) == located_contrast(*slices(2.0, n=1), 2.5)
    assert located_contrast(image, cavity * 0, 2.5) is None
    assert located_contrast(np.ones_like(image), cavity, 2.5) is None


def test_what_looks_like_another_sequence():
    assert not list(misnamed({"LGE": 0.0, "T2": 1.0, "bSSFP": 2.0, "other": -3.0}))
    (told,) = misnamed({"LGE": -0.5, "T2": -0.5})
    assert told.startswith("LGE looks like T2 rather than LGE")
    assert "darker than its surroundings by 0.5 SD" in told
    (told,) = misnamed({"bSSFP": 1.5, "T2": 1.5})
    assert told.startswith("T2 looks like LGE or bSSFP rather than T2")
    assert "brighter than its surroundings by 1.5 SD" in told
