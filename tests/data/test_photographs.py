"""What an image file can hold, and what becomes of it."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from mrigmm.data.photographs import Photograph, photograph_study, read_mask, read_photograph
from mrigmm.errors import InputError

# Rows, columns: not square, and different in each pixel.
GREY = (10 * np.arange(4)[:, None] + np.arange(6)).astype(np.uint8)
RGB = np.stack([GREY, 2 * GREY, 255 - GREY], axis=-1)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def png(path, width, height, depth, colour_type, rows):
    """A PNG by hand, for what Pillow does not write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_colours_are_those_of_the_file(tmp_path, suffix):
    photograph = read_photograph(save(tmp_path / f"p.{suffix}", RGB))
    np.testing.assert_array_equal(photograph.values, RGB)
    assert (photograph.channels, photograph.values.dtype) == (("R", "G", "B"), np.float32)
    assert photograph.opaque.all()
    assert photograph.warnings == ()
    np.testing.assert_array_equal(photograph.display, RGB)


def test_jpeg(tmp_path):
    smooth = np.full((16, 24, 3), (200, 100, 50), dtype=np.uint8)
    photograph = read_photograph(save(tmp_path / "p.jpg", smooth, quality=95))
    np.testing.assert_allclose(photograph.values, smooth, atol=3)


def test_grey_in_all_its_forms(tmp_path):
    deep = GREY.astype(np.uint16) * 1000
    files = {
        "L": (save(tmp_path / "l.png", GREY), GREY),
        "thrice": (save(tmp_path / "rgb.png", np.stack([GREY] * 3, axis=-1)), GREY),
        "palette": (tmp_path / "p.png", GREY),
        "16 bit": (save(tmp_path / "deep.png", deep), deep),
        "16 bit tiff": (save(tmp_path / "deep.tif", deep), deep),
        "float": (save(tmp_path / "float.tif", GREY / np.float32(7)), GREY / np.float32(7)),
        "bits": (save(tmp_path / "bits.png", GREY > 20), 255 * (GREY > 20)),
    }
    Image.fromarray(GREY).convert("P").save(files["palette"][0])
    for name, (file, expected) in files.items():
        photograph = read_photograph(file)
        assert photograph.channels == ("grey",), name
        np.testing.assert_array_equal(photograph.values[..., 0], expected, err_msg=name)
        assert photograph.eight_bit == (name not in ("16 bit", "16 bit tiff", "float"))
        assert photograph.display.shape == (4, 6, 3)
    assert read_photograph(files["16 bit"][0]).display.max() == 255  # 35,000 is the brightest there


def test_colours_of_16_bits_are_read_as_8_and_it_is_said(tmp_path):
    wide = RGB.astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    photograph = read_photograph(png(tmp_path / "p.png", 6, 4, 16, 2, rows))
    np.testing.assert_array_equal(photograph.values, RGB)
    assert photograph.warnings == ("colours of 16 bits are read as 8 bits",)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_left_out(tmp_path, kind):
    alpha = np.full(GREY.shape, 255, dtype=np.uint8)
    alpha[0, :3], alpha[1, 0] = 0, 1  # nearly transparent is not transparent
    file = tmp_path / "p.png"
    if kind == "P":
        Image.fromarray((alpha > 0).astype(np.uint8)).convert("P").save(file, transparency=0)
    else:
        Image.merge(
            kind, [*Image.fromarray(GREY if kind == "LA" else RGB).split(), Image.fromarray(alpha)]
        ).save(file)
    photograph = read_photograph(file)
    np.testing.assert_array_equal(photograph.opaque, alpha > 0)
    assert photograph.values.shape[-1] == (3 if kind == "RGBA" else 1)
    assert photograph.warnings == ("3 transparent pixels are left out",)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_pixels_are_as_stored_whatever_the_orientation(tmp_path, suffix, orientation):
    """Pillow turns TIFF by itself on loading, and nothing else."""
    big = np.kron(RGB, np.ones((8, 8, 1), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph = read_photograph(save(tmp_path / f"p.{suffix}", big, exif=exif))
    assert photograph.orientation == orientation
    np.testing.assert_allclose(photograph.values, big, atol=40 if suffix == "jpg" else 0)
    assert "labels lie on its pixels as stored" in photograph.warnings[0]


def test_an_orientation_that_does_not_exist_is_none(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 42
    assert read_photograph(save(tmp_path / "p.png", RGB, exif=exif)).orientation == 1


def test_of_several_pictures_the_first_is_taken(tmp_path):
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    for name in ("animated.png", "pages.tif"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        photograph = read_photograph(tmp_path / name)
        np.testing.assert_array_equal(photograph.values, RGB)
        assert photograph.warnings == ("the first of 2 pictures in the file is segmented",)


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (6, 4), (0, 255, 255, 0)).save(tmp_path / "p.tif")
    assert read_photograph(tmp_path / "p.tif").values[0, 0].tolist() == [255, 0, 0]


def test_what_is_no_image_is_refused(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    Image.fromarray(GREY).save(tmp_path / "p.gif")
    for file in (text, tmp_path / "p.gif"):
        with pytest.raises(InputError, match="no image that can be read") as caught:
            read_photograph(file)
        assert caught.value.problems[0].expected == "PNG, JPEG, TIFF, BMP"
        assert caught.value.problems[0].file == str(file)
    with pytest.raises(InputError, match="the image is not there"):
        read_photograph(tmp_path / "none.png")
    with pytest.raises(InputError, match="the image cannot be read"):
        read_photograph(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_half_an_image_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = save(tmp_path / f"p.{suffix}", noise)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match="the image cannot be read"):
        read_photograph(file)


def test_decompression_bombs_are_refused_before_they_open(tmp_path):
    """100 bytes that claim 2,500 and 30 million pixels."""
    for side, got in ((50_000, "2500000000 pixels"), (5_500, "5500 x 5500 pixels")):
        with pytest.raises(InputError, match="too large") as caught:
            read_photograph(png(tmp_path / "bomb.png", side, side, 8, 2, b"0"))
        assert got in caught.value.problems[0].got
        assert caught.value.problems[0].expected == "at most 25 million pixels"


def test_lab_and_numbers_that_are_none_are_refused(tmp_path):
    Image.fromarray(RGB).convert("LAB").save(tmp_path / "lab.tif")
    with pytest.raises(InputError, match="mode LAB cannot be segmented"):
        read_photograph(tmp_path / "lab.tif")
    values = GREY.astype(np.float32)
    values[2, 3] = np.nan
    with pytest.raises(InputError, match="no numbers"):
        read_photograph(save(tmp_path / "nan.tif", values))


def test_a_mask_is_what_is_not_black(tmp_path):
    photograph = read_photograph(save(tmp_path / "p.png", RGB))
    drawn = np.zeros((4, 6), dtype=np.uint8)
    drawn[1:3, 2:5] = 1
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.png", drawn), photograph), drawn > 0)
    with pytest.raises(InputError, match="another size") as caught:
        read_mask(save(tmp_path / "m2.png", drawn[:3]), photograph)
    problem = caught.value.problems[0]
    assert (problem.expected, problem.got) == ("6 x 4 pixels", "6 x 3 pixels")
    assert problem.remedy is None


def test_a_mask_that_was_drawn_on_the_turned_image_says_so(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = save(tmp_path / "p.png", RGB, exif=exif)
    turned = ImageOps.exif_transpose(Image.open(file))
    turned.save(tmp_path / "m.png")
    with pytest.raises(InputError, match="EXIF orientation"):
        read_mask(tmp_path / "m.png", read_photograph(file))


def test_the_study_of_a_photograph(tmp_path):
    """z-scores inside: R has mean 20 and SD 10 there, G is constant, what lies outside counts for nothing."""
    values = np.zeros((2, 3, 3), dtype=np.float32)
    values[..., 0] = [[10, 30, 10], [30, 200, 200]]
    values[..., 1] = [[5, 5, 5], [5, 90, 90]]
    values[..., 2] = values[..., 0]
    inside = np.array([[True, True, True], [True, False, False]])
    study = photograph_study(
        Photograph(tmp_path / "p.png", values, ("R", "G", "B"), np.ones((2, 3), bool)), inside
    )
    assert (study.id, study.sequences, study.spacing_mm) == ("p.png", ("R", "G", "B"), (1.0, 1.0, 1.0))
    assert study.image.shape == (3, 2, 3, 1)
    assert study.present.tolist() == [True, False, True]
    assert study.warnings == ("G is constant and is left out",)
    assert torch.equal(study.region[..., 0] > 0, torch.from_numpy(inside))
    np.testing.assert_allclose(study.image[0, ..., 0], [[-1, 1, -1], [1, 18, 18]])
    assert study.zscores["R"].undo(1.0) == 30
    np.testing.assert_array_equal(study.to_input_grid(study.region[None])[0], study.region)


def test_an_image_of_one_colour_is_refused(tmp_path):
    photograph = Photograph(
        tmp_path / "p.png", np.full((2, 3, 1), 7.0, np.float32), ("grey",), np.ones((2, 3), bool)
    )
    with pytest.raises(InputError, match="nothing to segment") as caught:
        photograph_study(photograph, photograph.opaque)
    assert caught.value.problems[0].got == "one colour in all 6 pixels"
