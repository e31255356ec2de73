import numpy as np
import pytest
from pydicom.uid import JPEGLSLossless, RLELossless

from mrigmm.data.dicom.stack import read_voxels, stack_slices
from mrigmm.errors import InputError

from .files import ORIGIN_MM, directions, enhanced, image, position, save, series, voxels
from .test_series import parts, write_cine


def stacked(folder):
    return stack_slices(parts(folder), study="s", role="LGE")


def read(folder):
    return read_voxels(stacked(folder), study="s", role="LGE")


def refused(folder, action=read):
    with pytest.raises(InputError) as caught:
        action(folder)
    (problem,) = caught.value.problems
    assert problem.study == "s"
    return problem


def test_affine_by_hand(tmp_path):
    series(tmp_path, numbers=[3, 1, 2])
    row, column, normal = directions()
    affine = stacked(tmp_path).affine
    # LPS to RAS changes the sign of x and y; columns 1.25 mm apart, rows 1.5 mm, slices 10 mm.
    flip = np.array([-1, -1, 1])
    np.testing.assert_allclose(affine[:3, 0], 1.25 * row * flip, atol=1e-6)
    np.testing.assert_allclose(affine[:3, 1], 1.5 * column * flip, atol=1e-6)
    np.testing.assert_allclose(affine[:3, 2], 10.0 * normal * flip, atol=1e-6)
    np.testing.assert_allclose(affine[:3, 3], np.array(ORIGIN_MM) * flip, atol=1e-6)


def test_voxels_are_column_row_slice(tmp_path):
    pixels = voxels()
    series(tmp_path, pixels, numbers=[3, 1, 2])
    data, notes = read(tmp_path)
    assert data.dtype == np.int16
    assert notes == ()
    np.testing.assert_array_equal(data, pixels.transpose(2, 1, 0))


def test_slices_given_from_the_top(tmp_path):
    pixels = voxels()
    series(tmp_path, pixels[::-1], heights_mm=[20.0, 10.0, 0.0])
    np.testing.assert_array_equal(read(tmp_path)[0], pixels.transpose(2, 1, 0))


def test_slice_distance_is_that_of_the_positions(tmp_path):
    series(tmp_path, heights_mm=[0.0, 12.5, 25.0], SliceThickness=8.0, SpacingBetweenSlices=8.0)
    assert np.linalg.norm(stacked(tmp_path).affine[:3, 2]) == pytest.approx(12.5, abs=1e-6)


def test_a_sheared_stack(tmp_path):
    row, _, normal = directions()
    step = 10.0 * normal + 2.0 * row
    for k in range(3):
        moved = [float(v) for v in np.array(ORIGIN_MM) + k * step]
        save(image(voxels()[k], number=k + 1, ImagePositionPatient=moved), tmp_path / f"{k}.dcm")
    np.testing.assert_allclose(stacked(tmp_path).affine[:3, 2], step * [-1, -1, 1], atol=1e-6)


def test_one_slice_has_its_nominal_thickness(tmp_path):
    series(tmp_path, voxels()[:1])
    np.testing.assert_allclose(
        stacked(tmp_path).affine[:3, 2], 8.0 * directions()[2] * [-1, -1, 1], atol=1e-6
    )


def test_one_slice_without_thickness(tmp_path):
    series(tmp_path, voxels()[:1], SliceThickness=None)
    assert "thickness of a single slice is not known" in refused(tmp_path).what


def test_a_missing_slice(tmp_path):
    series(tmp_path, voxels(shape=(4, 6, 5)), heights_mm=[0.0, 10.0, 30.0, 40.0])
    problem = refused(tmp_path)
    assert problem.what == "LGE: 1 slice is missing inside the stack"
    assert problem.got == "distances 10.00, 20.00, 10.00 mm"
    assert problem.file.endswith("1_1_003.dcm")  # the slice above the gap


def test_irregular_distances(tmp_path):
    series(tmp_path, heights_mm=[0.0, 10.0, 23.0])
    assert refused(tmp_path).what == "LGE: the slices do not lie at regular distances"


@pytest.mark.parametrize(
    ("heights", "files"),
    [
        ([0.0, 10.0, 13.0, 20.0, 30.0], ["1_1_003.dcm"]),
        ([0.0, 0.7, 10.0, 20.0, 30.0], ["1_1_002.dcm"]),
        ([0.0, 10.0, 20.0, 20.6, 30.0, 33.0, 40.0], ["1_1_004.dcm", "1_1_006.dcm"]),
    ],
)
def test_slices_off_a_regular_stack_are_named(tmp_path, heights, files):
    series(tmp_path, voxels(shape=(len(heights), 6, 5)), heights_mm=heights)
    problem = refused(tmp_path)
    assert problem.what.startswith(
        f"LGE: {len(files)} slice{'s' * (len(files) > 1)} off the regular distances of the others: "
    )
    assert [name for name in problem.what.split() if name.startswith("(")] == [f"({name})" for name in files]
    assert problem.file.endswith(files[0])
    assert "move its file out of the folder" in problem.remedy


def test_rounded_positions_are_regular(tmp_path):
    series(tmp_path, heights_mm=[0.0, 10.04, 20.0])
    assert len(stacked(tmp_path).frames) == 3


def test_a_slice_that_is_shifted_in_plane(tmp_path):
    series(tmp_path, voxels()[:2])
    row, _, _ = directions()
    moved = [float(v) for v in np.array(position(20.0)) + 5.0 * row]
    save(image(voxels()[2], number=3, ImagePositionPatient=moved), tmp_path / "3.dcm")
    assert "regular" in refused(tmp_path).what


def test_a_repeated_slice(tmp_path):
    pixels = voxels(shape=(4, 6, 5))
    series(tmp_path, pixels[:3], AcquisitionTime="100000")
    save(image(pixels[3], number=4, height_mm=10.0, AcquisitionTime="100500"), tmp_path / "again.dcm")
    stack = stacked(tmp_path)
    assert stack.notes == ("LGE: 1 slice was acquired several times; the last one is used",)
    np.testing.assert_array_equal(read(tmp_path)[0], pixels[[0, 3, 2]].transpose(2, 1, 0))


def test_a_repeated_slice_that_nothing_tells_apart(tmp_path):
    series(tmp_path)
    save(image(voxels()[0], number=4, height_mm=10.0), tmp_path / "again.dcm")
    assert "no time tells them apart" in refused(tmp_path).what


def test_the_first_phase_of_a_cine(tmp_path):
    write_cine(tmp_path, [90.0, 0.0, 30.0, 60.0])
    stack = stacked(tmp_path)
    assert "cine of 4 frames; the one of the lowest trigger time is written" in stack.notes[0]
    np.testing.assert_array_equal(read(tmp_path)[0], voxels(1).transpose(2, 1, 0))


def write_untimed(folder, images_per_slice, **options):
    """Slices with several images that only their number tells apart; the lowest has the highest file name."""
    for z, count in enumerate(images_per_slice):
        pixels = voxels(z, shape=(count, 6, 5))
        numbers = [100 * z + count - k for k in range(count)]
        series(folder, pixels, heights_mm=[10.0 * z] * count, numbers=numbers, **options)


def test_a_cine_without_times_is_taken_by_number(tmp_path):
    write_untimed(tmp_path, [5, 5, 5], description="cine_sax")
    stack = stack_slices(parts(tmp_path), study="s", role="bSSFP")
    assert [frame.instance for frame in stack.frames] == [1, 101, 201]
    (note,) = stack.notes
    assert note.startswith(
        "bSSFP: 5 images of each slice and no trigger time; the one of the lowest instance"
    )


@pytest.mark.parametrize("images_per_slice", [[5, 5, 4], [3, 3, 3]])
def test_images_that_are_no_cine_are_not_taken_by_number(tmp_path, images_per_slice):
    write_untimed(tmp_path, images_per_slice, description="cine_sax")
    with pytest.raises(InputError, match="no time tells them apart"):
        stack_slices(parts(tmp_path), study="s", role="bSSFP")


def test_repeated_lge_is_not_taken_by_number(tmp_path):
    write_untimed(tmp_path, [5, 5, 5])
    assert "no time tells them apart" in refused(tmp_path).what


def test_rescaling_slice_by_slice(tmp_path):
    pixels = voxels()
    for k, slope in enumerate((0.5, 2.0, 1.0)):
        series(
            tmp_path,
            pixels[[k]],
            heights_mm=[10.0 * k],
            numbers=[k + 1],
            RescaleSlope=slope,
            RescaleIntercept=-3.0,
        )
    data, _ = read(tmp_path)
    assert data.dtype == np.float32
    expected = pixels * np.array([0.5, 2.0, 1.0])[:, None, None] - 3.0
    np.testing.assert_array_equal(data, expected.transpose(2, 1, 0))


def test_values_beyond_int16(tmp_path):
    pixels = voxels()
    pixels[0, 0, 0] = 65535
    series(tmp_path, pixels)
    data, _ = read(tmp_path)
    assert data.dtype == np.float32
    assert data[0, 0, 0] == 65535


def test_signed_pixels(tmp_path):
    pixels = voxels(dtype=np.int16) - np.int16(2000)
    series(tmp_path, pixels)
    np.testing.assert_array_equal(read(tmp_path)[0], pixels.transpose(2, 1, 0))


@pytest.mark.parametrize(("dtype", "low"), [(np.uint16, 65535), (np.int16, -1)])
def test_monochrome1_is_inverted(tmp_path, dtype, low):
    pixels = voxels(dtype=dtype)
    series(tmp_path, pixels, PhotometricInterpretation="MONOCHROME1")
    data, notes = read(tmp_path)
    np.testing.assert_array_equal(data, low - pixels.transpose(2, 1, 0).astype(float))
    assert notes == ("LGE: stored with white as low (MONOCHROME1) and inverted",)


def test_enhanced_frames_in_any_order(tmp_path):
    pixels = voxels()
    scaled = [{"PixelValueTransformationSequence": {"RescaleSlope": 2.0, "RescaleIntercept": 1.0}}] * 3
    save(enhanced(pixels[[2, 0, 1]], [20.0, 0.0, 10.0], own=scaled), tmp_path / "e.dcm")
    np.testing.assert_array_equal(read(tmp_path)[0], 2 * pixels.transpose(2, 1, 0) + 1)


def test_an_enhanced_cine(tmp_path):
    pixels = voxels(shape=(8, 6, 5))
    own = [
        {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 30.0 * (3 - k % 4)}}
        for k in range(8)
    ]
    save(enhanced(pixels, [0.0] * 4 + [10.0] * 4, own=own), tmp_path / "e.dcm")
    np.testing.assert_array_equal(read(tmp_path)[0], pixels[[3, 7]].transpose(2, 1, 0))


def test_series_that_do_not_fit_together(tmp_path):
    series(tmp_path)
    series(tmp_path, voxels(shape=(3, 6, 6)), series=2)
    problem = refused(tmp_path)
    assert problem.what == "LGE: two series of the map are no slices of one volume"
    assert "3 slices of 5 x 6 pixels" in problem.expected
    assert "3 slices of 6 x 6 pixels" in problem.got


def test_two_series_of_the_same_slices(tmp_path):
    series(tmp_path)
    series(tmp_path, series=2)
    assert refused(tmp_path).what == "LGE: two images lie at the same height"


def test_cut_off_pixels(tmp_path):
    (file, *_) = series(tmp_path)
    file.write_bytes(file.read_bytes()[:-10])
    problem = refused(tmp_path)
    assert problem.what == "LGE: 1 file of series 1 'LGE_sax' is cut short"
    assert (problem.file, problem.got) == (str(file), "50 of 60 bytes of pixels")


def test_colour(tmp_path):
    series(tmp_path, PhotometricInterpretation="RGB")
    assert refused(tmp_path).what == "LGE is no grey-scale image"


def test_compression_that_can_be_read(tmp_path):
    pixels = voxels()
    for k in range(3):
        data = image(pixels[k], number=k + 1, height_mm=10.0 * k)
        data.compress(RLELossless, generate_instance_uid=False)
        save(data, tmp_path / f"{k}.dcm")
    np.testing.assert_array_equal(read(tmp_path)[0], pixels.transpose(2, 1, 0))


def test_compression_without_a_decoder(tmp_path, monkeypatch):
    class Missing:
        is_available = False

    monkeypatch.setattr("mrigmm.data.dicom.stack.get_decoder", lambda syntax: Missing)
    for k in range(3):
        data = image(voxels()[k], number=k + 1, height_mm=10.0 * k)
        data.compress(RLELossless, generate_instance_uid=False)
        data.file_meta.TransferSyntaxUID = JPEGLSLossless
        save(data, tmp_path / f"{k}.dcm")
    problem = refused(tmp_path)
    assert problem.what == "LGE is compressed, and no decoder for it is installed"
    assert "JPEG-LS Lossless" in problem.got
    assert "pylibjpeg" in problem.remedy


def test_pixels_that_do_not_decode(tmp_path):
    data = image(voxels()[0])
    data.compress(RLELossless, generate_instance_uid=False)
    file = save(data, tmp_path / "a.dcm")
    file.write_bytes(file.read_bytes()[:-40])
    problem = refused(tmp_path)
    assert problem.what == "LGE: the pixels cannot be read"
    assert problem.file == str(file)
