import io

import numpy as np
import pytest
from PIL import Image

from mrigmm.reporting.figures import MAX_SLICES, loss_figure, motion_figure

DPI, CELL, EXTRA = 90, 1.9, 0.5  # of the figure: dots per inch, inches per panel, inches around


def pixels(png):
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def near(picture, colour, tolerance=3):
    """How many pixels have (nearly) this colour."""
    return int((np.abs(picture - np.asarray(colour)).max(axis=-1) <= tolerance).sum())


def study(slices=3, n=40):
    """A picture that is black below and white above, with the four classes side by side in the middle."""
    image = np.zeros((n, n, slices), np.float32)
    image[:, n // 2 :] = 1
    labels = np.zeros(image.shape, np.uint8)
    for index in range(4):
        labels[4 + 8 * index : 12 + 8 * index, 10:30] = index + 1
    return {"LGE": image, "T2": image}, labels


@pytest.mark.parametrize(("slices", "columns"), [(1, 1), (3, 3), (6, 6), (14, MAX_SLICES)])
def test_size(slices, columns):
    images, labels = study(slices)
    picture = pixels(motion_figure(images, images, {}, labels > 0))
    rows = len(images)
    expected = (round((CELL * rows + EXTRA) * DPI), round((CELL * columns + EXTRA) * DPI))
    np.testing.assert_allclose(picture.shape[:2], expected, atol=1)


def test_only_slices_with_labels_are_shown():
    images, labels = study(8)
    labels[..., [0, 1, 2, 5, 6, 7]] = 0
    picture = pixels(motion_figure(images, images, {}, labels > 0))
    assert abs(picture.shape[1] - (2 * CELL + EXTRA) * DPI) <= 1


def test_nothing_labelled_still_makes_a_picture():
    images, labels = study()
    picture = pixels(motion_figure(images, images, {}, labels < 0))
    assert near(picture, (255, 255, 255)) > 1000


@pytest.mark.parametrize("value", [0.0, 1e30])
def test_a_constant_image_is_drawn(value):
    _, labels = study()
    images = {"LGE": np.full(labels.shape, value, np.float32)}
    assert pixels(motion_figure(images, images, {}, labels > 0)).size


def test_the_loss_figure_shows_held_out_studies_when_there_are_any():
    log = {"epoch": [0.0, 1.0], "objective": [2.0, 1.0], "learning_rate": [1e-3, 0.0]}
    blue, orange = (31, 119, 180), (255, 127, 14)  # matplotlib's first two
    plain, watched = pixels(loss_figure(log)), pixels(loss_figure({**log, "held_out": [1.5, 1.8]}))
    assert near(plain, blue) > 100
    assert near(plain, orange) == 0
    assert near(watched, orange) > 100


def test_motion_is_shown_before_and_after():
    images, labels = study(slices=3)
    after = {**images, "T2": 1 - images["T2"]}
    picture = pixels(motion_figure(images, after, {"T2": ["0.0, 1.5 mm, 0.0°"] * 3}, labels > 0))
    # LGE, T2 before, T2 after
    expected = (round((CELL * 3 + EXTRA) * DPI), round((CELL * 3 + EXTRA) * DPI))
    np.testing.assert_allclose(picture.shape[:2], expected, atol=1)
    assert near(picture, (255, 255, 0), tolerance=60) > 100  # outlines
    # White is above in the array's second axis, hence up, and after registration of T2 below.
    height = picture.shape[0]
    rows = [
        picture[int(height * (row + 0.5) / 3) - 60 : int(height * (row + 0.5) / 3) + 60] for row in range(3)
    ]
    halves = [(row[:60].mean(), row[60:].mean()) for row in rows]
    assert halves[0][0] > halves[0][1]
    assert halves[1][0] > halves[1][1]
    assert halves[2][0] < halves[2][1]
