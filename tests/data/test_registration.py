from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from mrigmm.data.geometry import Grid
from mrigmm.data.manifest import Study
from mrigmm.data.registration import MAX_SHIFT_MM, SliceMotion, find_motion
from mrigmm.data.study import Corrections, load_study
from mrigmm.data.volumes import Volume

from ..conftest import oblique_affine, save_nifti

CLASSES = ("blood", "myocardium", "edema", "scar")
REGISTERED = Corrections(registration=True)
REGION_MM = 22.0
# Intensities of background, blood, wall, scar, right ventricle, fat.
CONTRAST = {
    "LGE": (40, 160, 30, 240, 150, 200),
    "T2": (50, 40, 110, 190, 45, 90),
    "bSSFP": (60, 250, 90, 110, 240, 200),
}
STILL = SliceMotion()
# The reference grid: 1.2 mm pixels, slices 10 mm apart along the first array axis, oblique, not in RAS order.
REFERENCE = Grid(
    (3, 72, 70), oblique_affine((10.0, 1.2, 1.2), order=(2, 0, 1), flips=(1, -1, 1), origin_mm=(12, -30, 55))
)


def in_plane(grid=REFERENCE):
    """Centre of slice 0 and unit vectors along its two in-plane array axes (second and third)."""
    centre = apply_affine(grid.affine, (0, 35.5, 34.5))
    return centre, grid.affine[:3, 1:3] / 1.2, grid.affine[:3, 0] / 10.0


def scene(u, v, sequence):
    """A ventricle of radius 22 mm at the origin with scar, right ventricle and fat; borders of 1 mm."""

    def disc(u0, v0, radius):
        return 1 / (1 + np.exp((np.hypot(u - u0, v - v0) - radius) / 0.5))

    background, blood, wall, scar, right, fat = CONTRAST[sequence]
    image = background + (right - background) * disc(-30, 6, 12) + (fat - background) * disc(22, -26, 7)
    image += (wall - image) * disc(0, 0, 22)
    image += (scar - image) * disc(15, 8, 5)
    return image + (blood - image) * disc(0, 0, 13)


def acquired(sequence, grid=REFERENCE, motion=(STILL,) * 3, seed=0):
    """The scene on a grid, each 10 mm slab of space moved as told, noise of SD 3."""
    points = apply_affine(grid.affine, np.moveaxis(np.indices(grid.shape), 0, -1))
    centre, axes, normal = in_plane()
    u, v = np.moveaxis((points - centre) @ axes, -1, 0)
    slab = np.clip(np.rint((points - centre) @ normal / 10), 0, 2).astype(int)
    shift = np.array([m.shift_mm for m in motion])[slab]
    angle = np.deg2rad([m.degrees for m in motion])[slab]
    u, v = u - shift[..., 0], v - shift[..., 1]
    u, v = np.cos(angle) * u + np.sin(angle) * v, -np.sin(angle) * u + np.cos(angle) * v
    noise = np.random.default_rng([seed, *sequence.encode()]).normal(0, 3, grid.shape)
    data = (scene(u, v, sequence) + noise).astype(np.float32)
    return Volume(data, grid, nib.Nifti1Header(), grid.shape, Path(f"{sequence}.nii.gz"))


def region():
    u, v = np.meshgrid((np.arange(72) - 35.5) * 1.2, (np.arange(70) - 34.5) * 1.2, indexing="ij")
    return np.repeat((np.hypot(u, v) <= REGION_MM)[None], 3, axis=0)


def error_mm(found, true):
    """Largest distance over the border of the region between where two motions put it."""
    around = np.linspace(0, 2 * np.pi, 60)
    border = REGION_MM * np.stack([np.cos(around), np.sin(around)])

    def put(motion):
        a = np.deg2rad(motion.degrees)
        turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        return (turn @ border).T + motion.shift_mm

    return float(np.linalg.norm(put(found) - put(true), axis=1).max())


def on_disk(folder, volumes, region_map=None):
    images = {
        name: save_nifti(folder / f"{name}.nii.gz", v.data, v.grid.affine) for name, v in volumes.items()
    }
    reference = next(iter(volumes.values())).grid
    codes = (region() if region_map is None else region_map).astype(np.uint8)
    return Study("s", images, save_nifti(folder / "region.nii.gz", codes, reference.affine))


MOTION = (SliceMotion((2.3, -1.1)), SliceMotion((-0.6, 4.7)), SliceMotion((1.5, 2.0), 4.0))
GRIDS = {
    "same grid": REFERENCE,
    # 1.5 mm pixels, half a pixel off, first and second in-plane axis exchanged, slices last
    "other axes and pixels": Grid(
        (60, 64, 3), oblique_affine((1.5, 1.5, 10.0), order=(1, 0, 2), flips=(1, -1, 1), origin_mm=(0, 0, 0))
    ),
}


def centred(grid):
    """The grid moved so that its middle lies in the middle of the reference grid."""
    middle = apply_affine(REFERENCE.affine, (1, 35.5, 34.5)) + 0.3 * in_plane()[1][:, 0]
    affine = grid.affine.copy()
    affine[:3, 3] += middle - apply_affine(grid.affine, (np.array(grid.shape) - 1) / 2)
    return Grid(grid.shape, affine)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_shift_and_rotation_are_recovered(grid):
    grid = grid if grid is REFERENCE else centred(grid)
    back = tuple(SliceMotion((-0.5 * m.shift_mm[0], 3.1), -m.degrees) for m in MOTION)
    images = {
        "LGE": acquired("LGE"),
        "T2": acquired("T2", grid, MOTION),
        "bSSFP": acquired("bSSFP", motion=back),
    }
    warnings: list[str] = []
    found = find_motion(images, "LGE", region(), warnings)
    assert warnings == []
    for name, truth in (("T2", MOTION), ("bSSFP", back)):
        assert max(error_mm(f, t) for f, t in zip(found[name], truth, strict=True)) < 0.3


def test_nothing_moved():
    images = {name: acquired(name) for name in CONTRAST}
    found = find_motion(images, "LGE", region(), [])
    assert set(found) == {"T2", "bSSFP"}
    assert max(error_mm(m, STILL) for slices in found.values() for m in slices) < 0.2
    assert all(m.degrees == 0 for slices in found.values() for m in slices)


def test_twice_the_same():
    images = {"LGE": acquired("LGE"), "T2": acquired("T2", motion=MOTION)}
    assert find_motion(images, "LGE", region(), []) == find_motion(images, "LGE", region(), [])


@pytest.mark.parametrize("too_much", [SliceMotion((7.0, -6.0)), SliceMotion((0.5, 0.0), 6.5)], ids=str)
def test_motion_beyond_a_limit_is_left_and_said(too_much):
    images = {"LGE": acquired("LGE"), "T2": acquired("T2", motion=(MOTION[0], too_much, MOTION[1]))}
    warnings: list[str] = []
    found = find_motion(images, "LGE", region(), warnings)["T2"]
    assert found[1] == STILL
    assert error_mm(found[0], MOTION[0]) < 0.3
    assert error_mm(found[2], MOTION[1]) < 0.3
    (warning,) = warnings
    assert warning.startswith("T2, slice 2: left unregistered, motion of ")
    assert warning.endswith(" is beyond the limit of 8 mm and 5 degrees")
    assert MAX_SHIFT_MM == 8


def test_slices_without_region_stay():
    images = {"LGE": acquired("LGE"), "T2": acquired("T2", motion=MOTION)}
    only_second = region() & (np.arange(3) == 1)[:, None, None]
    warnings: list[str] = []
    found = find_motion(images, "LGE", only_second, warnings)["T2"]
    assert found[0] == found[2] == STILL
    assert error_mm(found[1], MOTION[1]) < 0.3
    assert warnings == []


def test_no_contrast_and_no_field_of_view_are_said():
    flat = acquired("T2")
    flat.data[:] = 7
    narrow = Grid((3, 10, 10), REFERENCE.affine)
    images = {"LGE": acquired("LGE"), "T2": flat, "bSSFP": acquired("bSSFP", narrow)}
    warnings: list[str] = []
    found = find_motion(images, "LGE", region(), warnings)
    assert found == {"T2": (STILL,) * 3, "bSSFP": (STILL,) * 3}
    assert "T2, slice 1: left unregistered, no contrast around the region" in warnings
    assert "bSSFP, slice 3: left unregistered, too little around the region was acquired" in warnings
    assert len(warnings) == 6


def test_the_study_is_read_as_if_nothing_had_moved(tmp_path):
    moved = on_disk(tmp_path / "moved", {"LGE": acquired("LGE"), "T2": acquired("T2", motion=MOTION)})
    still = on_disk(tmp_path / "still", {"LGE": acquired("LGE"), "T2": acquired("T2")})
    truth = load_study(still, ("LGE", "T2"), CLASSES).voxels[:, 1]
    before = load_study(moved, ("LGE", "T2"), CLASSES)
    after = load_study(moved, ("LGE", "T2"), CLASSES, corrections=REGISTERED)
    assert before.motion == {}
    assert set(after.motion) == {"T2"}
    np.testing.assert_array_equal(after.image[0], before.image[0])
    rms = [float((study.voxels[:, 1] - truth).square().mean().sqrt()) for study in (before, after)]
    assert rms[1] < 0.25 * rms[0]


def test_grid_and_motion_are_undone_together(tmp_path):
    other = centred(GRIDS["other axes and pixels"])
    moved = on_disk(tmp_path / "moved", {"LGE": acquired("LGE"), "T2": acquired("T2", other, MOTION)})
    still = on_disk(tmp_path / "still", {"LGE": acquired("LGE"), "T2": acquired("T2")})
    truth = load_study(still, ("LGE", "T2"), CLASSES).voxels[:, 1]
    before = load_study(moved, ("LGE", "T2"), CLASSES)
    after = load_study(moved, ("LGE", "T2"), CLASSES, corrections=REGISTERED)
    rms = [float((study.voxels[:, 1] - truth).square().mean().sqrt()) for study in (before, after)]
    assert rms[1] < 0.35 * rms[0]
    assert after.output.grid.same_as(REFERENCE)


def test_a_missing_sequence_and_one_slice(tmp_path):
    one = Grid((1, 72, 70), REFERENCE.affine)
    study = on_disk(
        tmp_path, {"LGE": acquired("LGE", one), "bSSFP": acquired("bSSFP", one, MOTION)}, region()[:1]
    )
    tensors = load_study(study, ("LGE", "T2", "bSSFP"), CLASSES, corrections=REGISTERED)
    assert tensors.present.tolist() == [True, False, True]
    assert set(tensors.motion) == {"bSSFP"}
    assert len(tensors.motion["bSSFP"]) == 1
    assert error_mm(tensors.motion["bSSFP"][0], MOTION[0]) < 0.3


def test_a_single_sequence_has_nothing_to_be_registered_to(tmp_path):
    tensors = load_study(
        on_disk(tmp_path, {"LGE": acquired("LGE")}), ("LGE", "T2"), CLASSES, corrections=REGISTERED
    )
    assert tensors.motion == {}


def test_without_lge_the_first_sequence_stays(tmp_path):
    study = on_disk(tmp_path, {"T2": acquired("T2"), "bSSFP": acquired("bSSFP", motion=MOTION)})
    tensors = load_study(study, ("T2", "bSSFP"), CLASSES, corrections=REGISTERED)
    assert max(error_mm(f, t) for f, t in zip(tensors.motion["bSSFP"], MOTION, strict=True)) < 0.3
