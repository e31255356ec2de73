from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrigmm.data.bias_field import bias_field, remove_shading
from mrigmm.data.geometry import Grid
from mrigmm.data.manifest import Study
from mrigmm.data.study import Corrections, load_study
from mrigmm.data.volumes import Volume

from ..conftest import oblique_affine, save_nifti

CLASSES = ("blood", "myocardium", "edema", "scar")
CORRECTED = Corrections(bias_correction=True)
BODY, WALL, BLOOD = 100.0, 60.0, 200.0


def heart(n_slices, slice_axis=2, seed=0):
    """A body of 100 mm around a wall around blood on 1.5 mm pixels, noise of SD 2, air around it.

    Returns the volume, where wall is, and pixel positions (u, v) in mm from the middle.
    """
    u, v = np.meshgrid(*[(np.arange(80) - 39.5) * 1.5] * 2, indexing="ij")
    body, wall, blood = (np.hypot(u, v) <= radius for radius in (50, 24, 14))
    clean = np.where(blood, BLOOD, np.where(wall, WALL, np.where(body, BODY, 1.0)))
    stack = np.repeat(clean[..., None], n_slices, axis=2)
    stack = stack + np.random.default_rng(seed).normal(0, 2, stack.shape)
    order = {2: (0, 1, 2), 0: (2, 0, 1)}[slice_axis]
    spacing = [10.0 if axis == slice_axis else 1.5 for axis in range(3)]
    data = np.moveaxis(np.clip(stack, 0, None), 2, slice_axis).astype(np.float32)
    grid = Grid(data.shape, oblique_affine(spacing, order=order))
    in_plane = [np.expand_dims(a, slice_axis) for a in (wall & ~blood, u, v)]
    return Volume(data, grid, None, data.shape, Path("LGE.nii.gz")), *in_plane


def shade(volume, u, v):
    """Sensitivity that rises from about 0.6 to 1.6 along a slanted line."""
    field = np.exp(0.008 * u + 0.005 * v)
    return replaced(volume, volume.data * field), field


def variation(values):
    return values.std() / values.mean()


@pytest.mark.parametrize(("n_slices", "slice_axis"), [(1, 2), (2, 0), (3, 2), (5, 0)])
def test_in_plane_shading_is_reduced(n_slices, slice_axis):
    clean, wall, u, v = heart(n_slices, slice_axis)
    shaded, truth = shade(clean, u, v)
    images, shading = remove_shading({"LGE": shaded}, [])
    corrected = images["LGE"]
    inside = np.broadcast_to(wall, corrected.data.shape)
    before, after = variation(shaded.data[inside]), variation(corrected.data[inside])
    assert after < 0.5 * before
    field, foreground = bias_field(shaded.data, shaded.grid)
    assert np.corrcoef(field[foreground], np.broadcast_to(truth, field.shape)[foreground])[0, 1] > 0.9
    np.testing.assert_array_equal(corrected.data, (shaded.data / field).astype(np.float32))
    assert field[foreground].mean() == pytest.approx(1, abs=1e-4)
    assert 0.4 < shading["LGE"].lowest < 0.9 < 1.1 < shading["LGE"].highest < 2.2
    assert shading["LGE"].seconds > 0


def test_geometry_stays():
    clean, _, u, v = heart(3)
    shaded, _ = shade(clean, u, v)
    corrected = remove_shading({"LGE": shaded}, [])[0]["LGE"]
    assert corrected.grid is shaded.grid
    assert corrected.header is shaded.header
    assert corrected.data.shape == shaded.data.shape
    assert corrected.data.dtype == np.float32


def test_phase_sensitive_images_keep_their_signs():
    """A signed image is divided by the field of its magnitude."""
    clean, wall, u, v = heart(3)
    shaded, _ = shade(clean, u, v)
    signed = replaced(shaded, np.where(wall, -shaded.data, shaded.data))
    magnitude = remove_shading({"LGE": shaded}, [])[0]["LGE"].data
    corrected = remove_shading({"LGE": signed}, [])[0]["LGE"].data
    np.testing.assert_array_equal(corrected, np.where(wall, -magnitude, magnitude))


def test_twice_the_same():
    clean, _, u, v = heart(2)
    shaded, _ = shade(clean, u, v)
    np.testing.assert_array_equal(*(bias_field(shaded.data, shaded.grid)[0] for _ in range(2)))


def replaced(volume, data):
    return replace(volume, data=np.asarray(data, np.float32), stored_shape=np.shape(data))


def test_where_no_body_stands_out_the_image_is_left_and_that_is_said():
    volume = heart(2)[0]
    flat = replaced(volume, np.full_like(volume.data, 7))
    tiny = replaced(volume, volume.data[36:44, 36:44])
    warnings: list[str] = []
    images, shading = remove_shading({"T2": flat, "bSSFP": tiny, "LGE": volume}, warnings)
    assert images["T2"] is flat
    assert images["bSSFP"] is tiny
    assert set(shading) == {"LGE"}
    assert warnings == [
        "T2: the bias field was not removed, it has one value in all voxels",
        "bSSFP: the bias field was not removed, its foreground has fewer than 50 pixels of 4 mm",
    ]


def test_a_study_is_read_with_and_without(tmp_path):
    clean, _, u, v = heart(3)
    shaded, _ = shade(clean, u, v)
    image = save_nifti(tmp_path / "lge.nii.gz", shaded.data, shaded.grid.affine)
    region = np.repeat((np.hypot(u, v) <= 24).astype(np.uint8), 3, axis=2)
    study = Study("s", {"LGE": image}, save_nifti(tmp_path / "region.nii.gz", region, shaded.grid.affine))
    before = load_study(study, ("LGE",), CLASSES)
    after = load_study(study, ("LGE",), CLASSES, corrections=CORRECTED)
    assert before.shading == {}
    assert set(after.shading) == {"LGE"}
    assert after.output.grid.same_as(before.output.grid)
    expected = shaded.data / bias_field(shaded.data, shaded.grid)[0]
    inside = region > 0
    expected = (expected - expected[inside].mean()) / expected[inside].std()
    found = after.to_input_grid(after.image)[0]
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3)
