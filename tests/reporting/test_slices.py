import io

import numpy as np
import pytest
from PIL import Image

from mrigmm.labels import AGREEMENT_COLOURS, TISSUES
from mrigmm.reporting.figures import MAX_SLICES
from mrigmm.reporting.slices import TILE, slice_pictures

IDS = {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}
GAP = 4
OPACITY, ERROR_OPACITY = 0.5, 0.8


def pixels(picture):
    image = Image.open(io.BytesIO(picture.data))
    assert (image.format, image.size) == ("WEBP", (picture.width, picture.height))
    return np.asarray(image.convert("RGB")).astype(int)


def near(rgb, colour, tolerance=12):
    """Where a picture has (nearly) this colour; WebP is not exact."""
    return np.abs(rgb - np.asarray(colour)).max(axis=-1) <= tolerance


def study(slices=3, n=40):
    """Dark images with the four classes side by side in the middle."""
    image = np.zeros((n, n, slices), np.float32)
    image[0, 0] = 1  # something to scale by
    labels = np.zeros(image.shape, np.uint8)
    for index in range(4):
        labels[4 + 8 * index : 12 + 8 * index, 10:30] = index + 1
    return {"LGE": image, "T2": image}, labels


def draw(images, labels, spacing_mm=(1.0, 1.0, 10.0), **options):
    return slice_pictures(images, labels, IDS, spacing_mm=spacing_mm, **options)


def test_one_row_per_sequence_and_one_for_the_label_map():
    assert [row.title for row in draw(*study())] == ["LGE", "T2", "label map on LGE"]


def test_with_a_reference_its_row_and_the_errors_of_edema_and_scar():
    images, labels = study()
    rows = draw(images, labels, reference=labels, reference_classes={name: (name,) for name in IDS})
    assert [row.title for row in rows][3:] == [
        "reference on LGE",
        "errors of edema on T2",
        "errors of scar on LGE",
    ]
    assert rows[-1].legend == tuple(AGREEMENT_COLOURS)


def test_a_reference_without_edema_shows_no_errors_of_it():
    images, labels = study()
    rows = draw(
        images,
        labels,
        reference=labels,
        reference_classes={"myocardium": ("myocardium", "edema"), "scar": ("scar",)},
    )
    assert [row.title for row in rows if "errors" in row.title] == ["errors of scar on LGE"]


def test_microvascular_obstruction_has_a_colour_of_its_own_in_the_label_map():
    images, labels = study(1)
    plain, marked = (pixels(draw(images, labels, mvo=mvo)[-1]) for mvo in (None, labels == 4))
    assert 0 < (plain != marked).any(axis=-1).mean() < 0.25  # one of four stripes


@pytest.mark.parametrize(("slices", "columns"), [(1, 1), (3, 3), (14, MAX_SLICES)])
def test_the_slices_stand_side_by_side(slices, columns):
    row = draw(*study(slices))[0]
    assert (row.width, row.height) == (columns * (TILE + GAP) - GAP, TILE)


def test_pictures_are_true_to_the_millimetres():
    """40 pixels of 1 mm across; up 20 pixels of 2 mm, and 6 of them (12 mm) above and below."""
    row = draw(*study(1), spacing_mm=(1.0, 2.0, 10.0))[0]
    assert (row.width, row.height) == (round(TILE * 40 / 64), TILE)


def test_far_from_the_border_12_mm_are_shown_around_the_region():
    images, labels = study(1, n=200)  # labels on 32 x 20 pixels, far from the upper end
    row = draw(images, labels, spacing_mm=(1.0, 1.0, 10.0))[0]
    # 4 + 32 + 12 pixels across (the image ends 4 pixels before), 10 + 20 + 12 up.
    assert (row.width, row.height) == (TILE, round(TILE * 42 / 48))


@pytest.mark.parametrize("name", list(IDS))
def test_the_contours_are_in_the_colour_of_their_class(name):
    images, labels = study()
    contours, _, overlay = draw(images, labels)
    border = near(pixels(contours), TISSUES[name].colour, 60).sum()
    filled = near(pixels(overlay), np.array(TISSUES[name].colour) * OPACITY).sum()
    # 8 x 20 pixels of 40, in each of 3 slices, drawn TILE / 40 times as large.
    np.testing.assert_allclose(filled, 3 * 8 * 20 * (TILE / 40) ** 2, rtol=0.15)
    assert 0.05 * filled < border < 0.5 * filled


def test_the_error_map():
    """Scar predicted on 8 columns, true on the 4 right of them and 4 more."""
    images, _ = study(1)
    predicted, true = np.zeros((2, 40, 40, 1), np.uint8)
    predicted[10:18, 10:30] = IDS["scar"]
    true[14:22, 10:30] = IDS["scar"]
    rgb = pixels(draw(images, predicted, reference=true, reference_classes={"scar": ("scar",)})[-1])
    rgb = rgb[TILE // 4 :]  # without the slice's number
    columns = [
        np.flatnonzero(near(rgb, np.array(AGREEMENT_COLOURS[name]) * ERROR_OPACITY, 20).any(axis=0)).mean()
        for name in ("false positive", "agree", "false negative")
    ]
    # The window begins at 0 (10 - 12 mm) and ends at 34 (21 + 12 mm and the last).
    np.testing.assert_allclose(columns, np.array([12.0, 16.0, 20.0]) * rgb.shape[1] / 34, atol=3)


def test_the_first_axis_runs_right_and_the_second_up():
    labels = np.ones((40, 40, 1), np.uint8)
    labels[30:, 35:] = IDS["scar"]  # right and up
    rgb = pixels(draw({"LGE": np.zeros(labels.shape, np.float32)}, labels)[-1])
    down, across = np.argwhere(near(rgb, np.array(TISSUES["scar"].colour) * OPACITY)).mean(axis=0)
    np.testing.assert_allclose([across, down], np.array([35.0, 2.5]) * TILE / 40, atol=3)


@pytest.mark.parametrize("value", [0.0, 1e30])
def test_a_constant_image_and_an_empty_label_map_are_drawn(value):
    images = {"LGE": np.full((20, 16, 2), value, np.float32)}
    assert pixels(draw(images, np.zeros((20, 16, 2), np.uint8))[0]).size


def test_a_study_of_a_hundred_takes_its_share_of_50_megabytes():
    """Twelve slices of noise, three sequences, a reference: of noise no picture gets smaller."""
    rng = np.random.default_rng(0)
    _, labels = study(12, n=80)
    images = {name: rng.normal(size=labels.shape).astype(np.float32) for name in ("LGE", "T2", "bSSFP")}
    rows = draw(images, labels, reference=labels, reference_classes={name: (name,) for name in IDS})
    assert sum(len(row.uri) for row in rows) < 420_000
