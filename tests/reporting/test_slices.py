import io
import re

import numpy as np
import pytest
from PIL import Image

from mrigmm.labels import AGREEMENT_COLOURS, TISSUES
from mrigmm.reporting.pictures import MAX_SLICES
from mrigmm.reporting.slices import TILE, chosen_slices, flat_pictures, study_slices

IDS = {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}
NAMED = {name: (name,) for name in IDS}


def study(slices=3, n=40):
    """Dark images with the four classes, 8 columns each, beside one another in the middle."""
    image = np.zeros((n, n, slices), np.float32)
    image[0, 0] = 1  # something to scale by
    labels = np.zeros(image.shape, np.uint8)
    for index in range(4):
        labels[10:30, 4 + 8 * index : 12 + 8 * index] = index + 1
    return {"LGE": image, "T2": image}, labels


def draw(images, labels, spacing_mm=(1.0, 1.0, 10.0), **options):
    return study_slices(images, labels, IDS, spacing_mm=spacing_mm, **options)


def area(rings):
    """Area in pixels that rings in half pixels enclose, holes left out."""
    total = 0.0
    for ring in rings:
        x, y = np.array(ring).T
        total += (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    return abs(total) / 4


def test_one_row_per_sequence_and_with_a_reference_its_row_and_the_errors_of_edema_and_scar():
    images, labels = study()
    assert [row.title for row in draw(images, labels).rows] == ["LGE", "T2"]
    rows = draw(images, labels, reference=labels, reference_classes=NAMED).rows
    assert [row.title for row in rows][2:] == [
        "reference on LGE",
        "errors of edema on T2",
        "errors of scar on LGE",
    ]
    assert rows[-1].legend == tuple(AGREEMENT_COLOURS)
    known = {"myocardium": ("myocardium", "edema"), "scar": ("scar",)}
    rows = draw(images, labels, reference=labels, reference_classes=known).rows
    assert [row.title for row in rows if "errors" in row.title] == ["errors of scar on LGE"]


def test_borders_run_around_their_class():
    """Columns 28 to 35 and rows 10 to 29; the window begins at row 0, column 0. Corners are cut: 4 x 1/8."""
    scar = {b.name: b for b in draw(*study()).borders["predicted"][1]}["scar"]
    (ring,) = scar.rings
    x, y = np.array(ring).T
    assert (x.min() / 2, x.max() / 2, y.min() / 2, y.max() / 2) == (28, 36, 10, 30)
    assert area(scar.rings) == 8 * 20 - 4 / 8
    assert not scar.thin
    assert re.fullmatch(r"M\d+ \d+l(-?\d+[ -]\d+ ?)+z", scar.path)


def test_a_hole_is_left_out():
    images, labels = study(1)
    labels[15:17, 30:34, 0] = 0
    (scar,) = (b for b in draw(images, labels).borders["predicted"][0] if b.name == "scar")
    assert len(scar.rings) == 2
    assert area(scar.rings) == 8 * 20 - 4 / 8 - (2 * 4 - 4 / 8)


@pytest.mark.parametrize(("pixels", "thin"), [(9, True), (11, False)])
def test_islands_under_a_tenth_of_a_millilitre_have_thin_borders(pixels, thin):
    """Pixels of 1 x 1 x 10 mm: 10 of them are 0.1 ml, over all slices."""
    images, labels = study(3)
    labels[labels == 4] = 2
    labels[35, 10:15, 1] = labels[35, 10 : 5 + pixels, 2] = 4
    found = [b for place in draw(images, labels).borders["predicted"] for b in place if b.name == "scar"]
    assert [border.thin for border in found] == [thin, thin]


def test_microvascular_obstruction_has_borders_of_its_own_inside_the_scar():
    images, labels = study(1)
    mvo = np.zeros(labels.shape, bool)
    mvo[12:16, 0:32] = True  # columns 28 to 31 are scar
    (core,) = (b for b in draw(images, labels, mvo=mvo).borders["predicted"][0] if b.name == "mvo")
    assert area(core.rings) == 4 * 4 - 4 / 8


def test_the_slice_with_most_infarct_is_always_shown():
    _, labels = study(14)
    labels[labels == 4] = 2
    spread = chosen_slices(labels, labels == 4)
    assert (len(spread[0]), spread[1]) == (MAX_SLICES, None)
    labels[20, 20, 4] = 4
    assert 4 not in spread[0]
    chosen, most = chosen_slices(labels, labels == 4)
    assert (len(chosen), most) == (MAX_SLICES, 4)
    assert 4 in chosen
    assert chosen == sorted(chosen)


def test_places_have_the_number_of_the_file_and_millimetres_from_the_first_labelled_slice():
    images, labels = study(4)
    labels[..., 0] = 0
    labels[5:25, 20:22, 2] = 4
    slices = draw(images, labels, spacing_mm=(1, 1, 8.5), numbers=[4, 3, 2, 1])
    assert [(p.number, p.mm, p.most_infarct) for p in slices.places] == [
        (3, 0.0, False),
        (2, 8.5, True),
        (1, 17.0, False),
    ]
    assert slices.most_infarct == slices.thumbnail == 1
    assert {border.name for border in slices.infarct(1)} == {"scar"}


def test_pictures_are_true_to_the_millimetres():
    """40 pixels of 1 mm across; down 20 pixels of 2 mm, and 6 of them (12 mm) above and below."""
    slices = draw(*study(1), spacing_mm=(2.0, 1.0, 10.0))
    assert slices.size == (round(TILE * 40 / 64), TILE)
    assert slices.pixels == (32, 40)
    assert slices.bar == pytest.approx(20 * slices.size[0] / 40)
    np.testing.assert_allclose(slices.scale, (slices.size[0] / 80, TILE / 64))


def test_far_from_the_border_12_mm_are_shown_around_the_region():
    images, labels = study(1, n=200)  # labels on 20 x 32 pixels, far from the lower end
    # 4 + 32 + 12 pixels across (the image begins 4 pixels before), 10 + 20 + 12 down.
    assert draw(images, labels).pixels == (42, 48)


def test_the_error_map():
    """Scar predicted in columns 10 to 17, true in 14 to 21; the window begins at 0 (10 - 12 mm)."""
    images, _ = study(1)
    predicted, true = np.zeros((2, 40, 40, 1), np.uint8)
    predicted[10:30, 10:18] = IDS["scar"]
    true[10:30, 14:22] = IDS["scar"]
    slices = draw(images, predicted, reference=true, reference_classes={"scar": ("scar",)})
    columns = {
        border.name: np.mean([x for ring in border.rings for x, _ in ring]) / 2
        for border in slices.borders["errors of scar on LGE"][0]
    }
    assert columns == {"agree": 16.0, "false positive": 12.0, "false negative": 20.0}


@pytest.mark.parametrize("value", [0.0, 1e30])
def test_a_constant_image_and_an_empty_label_map_are_drawn(value):
    images = {"LGE": np.full((20, 16, 2), value, np.float32)}
    slices = draw(images, np.zeros((20, 16, 2), np.uint8))
    assert len(slices.images["LGE"]) == 2
    assert slices.most_infarct is None
    assert slices.thumbnail == 1


def test_flat_pictures_show_outlines_and_the_label_map():
    images, labels = study()
    outlines, _, label_map = flat_pictures(draw(images, labels), [*IDS])
    assert [p.title for p in flat_pictures(draw(images, labels), [*IDS])] == ["LGE", "T2", "label map on LGE"]
    for name in IDS:
        full, half = np.array(TISSUES[name].colour), np.array(TISSUES[name].colour) / 2
        drawn, filled = (
            np.asarray(Image.open(io.BytesIO(p.data)).convert("RGB")).astype(int)
            for p in (outlines, label_map)
        )
        border = (np.abs(drawn - full).max(axis=-1) < 60).sum()
        inside = (np.abs(filled - half).max(axis=-1) <= 12).sum()
        # 8 x 20 pixels of 40, in each of 3 slices, drawn TILE / 40 times as large.
        np.testing.assert_allclose(inside, 3 * 8 * 20 * (TILE / 40) ** 2, rtol=0.15)
        assert 0.02 * inside < border < 0.4 * inside


def test_a_study_of_a_hundred_takes_its_share_of_50_megabytes():
    """Twelve slices of noise, three sequences, a reference: of noise no picture gets smaller."""
    rng = np.random.default_rng(0)
    _, labels = study(12, n=80)
    images = {name: rng.normal(size=labels.shape).astype(np.float32) for name in ("LGE", "T2", "bSSFP")}
    slices = draw(images, labels, reference=labels, reference_classes=NAMED)
    pictures = sum(len(p.uri) for of_one in slices.images.values() for p in of_one)
    paths = sum(len(b.path) for places in slices.borders.values() for found in places for b in found)
    assert pictures + paths < 420_000
