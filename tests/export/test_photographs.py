import numpy as np
from PIL import Image, ImageOps

from mrigmm.export.photographs import write_label_image, write_overlay
from mrigmm.labels import segment_colours

LABELS = np.array([[0, 1, 1, 2, 2], [0, 1, 1, 2, 2], [0, 1, 1, 2, 2]], dtype=np.uint8)


def test_labels_are_numbers_with_colours(tmp_path):
    write_label_image(tmp_path / "l.png", LABELS, 2)
    with Image.open(tmp_path / "l.png") as written:
        assert (written.mode, written.format, written.size) == ("P", "PNG", (5, 3))
        np.testing.assert_array_equal(written, LABELS)
        red, blue = segment_colours(2)
        assert [written.convert("RGB").getpixel(at) for at in ((0, 0), (1, 0), (4, 2))] == [
            (0, 0, 0),
            red,
            blue,
        ]


def test_viewers_turn_the_labels_as_they_turn_the_image(tmp_path):
    write_label_image(tmp_path / "l.png", LABELS, 2, orientation=6)
    with Image.open(tmp_path / "l.png") as written:
        np.testing.assert_array_equal(written, LABELS)
        np.testing.assert_array_equal(ImageOps.exif_transpose(written), np.rot90(LABELS, -1))


def test_the_overlay_draws_borders_and_nothing_else(tmp_path):
    """The border between the segments is one pixel on either side; beside 0 only the segment's own side."""
    picture = np.full((3, 5, 3), 77, dtype=np.uint8)
    write_overlay(tmp_path / "o.png", picture, LABELS, 2)
    with Image.open(tmp_path / "o.png") as written:
        drawn = np.asarray(written)
    red, blue = segment_colours(2)
    assert [tuple(pixel) for pixel in drawn[1].tolist()] == [(77,) * 3, red, red, blue, (77,) * 3]
    assert (picture == 77).all()


def test_every_segment_has_a_colour_of_its_own():
    colours = {*segment_colours(255), (0, 0, 0)}
    assert len(colours) == 256
    assert segment_colours(3) == segment_colours(5)[:3]
