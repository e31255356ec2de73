"""Inputs of every geometry through predict to the label map on their grid, read by two libraries."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own name

import mrigmm
from mrigmm.jobs.reading.predicted import read_predicted_study

from ..conftest import SEQUENCES, SHAPE, intensities, oblique_affine, save_nifti, ventricle

LV = ventricle() > 0


def segment(workshop, tmp_path, entry, **changes):
    """Predict one study; its label map and side file."""
    manifest = workshop.manifest([entry], **changes)
    result = mrigmm.predict(manifest, tmp_path / "out", method="map-em")
    assert result.done == (entry["id"],), result.problems
    image = nib.load(tmp_path / "out" / f"{entry['id']}_labels.nii.gz")
    return image, json.loads((tmp_path / "out" / f"{entry['id']}.json").read_text())


def assert_on_grid(labels, source, *, simpleitk=True):
    """Shape, affine and codes of the file that gives the grid; in SimpleITK the same physical place."""
    expected = nib.load(source)
    assert labels.shape == expected.shape
    np.testing.assert_array_equal(labels.affine, expected.affine)
    assert labels.header["sform_code"] == expected.header["sform_code"]
    if simpleitk:  # a header that ITK refuses gets a qform that it takes
        assert labels.header["qform_code"] == expected.header["qform_code"]
        a, b = sitk.ReadImage(str(source)), sitk.ReadImage(labels.get_filename())
        for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(a, get)() == getattr(b, get)()


def agreement(labels, truth):
    return float((np.asarray(labels.dataobj).reshape(truth.shape) == truth).mean())


@pytest.mark.parametrize(
    ("shape", "stored"),
    [
        ((16, 14, 1), (16, 14)),
        ((16, 14, 1), (16, 14, 1)),
        ((16, 14, 1), (16, 14, 1, 1)),
        (SHAPE, (*SHAPE, 1)),
        (SHAPE, (*SHAPE, 1, 1)),
    ],
)
def test_stored_dimensions(workshop, tmp_path, shape, stored):
    entry = {"id": "s1", "image": {}, "region": "r.nii"}
    for name in SEQUENCES:
        entry["image"][name] = f"{name}.nii"
        workshop.volume(f"{name}.nii", intensities(ventricle(shape), name).reshape(stored))
    workshop.volume("r.nii", (ventricle(shape) > 0).astype(np.uint8).reshape(stored))
    labels, _ = segment(workshop, tmp_path, entry)
    assert_on_grid(labels, workshop.folder / "LGE.nii")
    assert labels.shape == stored
    assert agreement(labels, ventricle(shape)) > 0.97


@pytest.mark.parametrize(
    "affine",
    [
        oblique_affine(),
        oblique_affine(flips=(1, -1, 1)),  # left-handed
        oblique_affine(order=(2, 0, 1)),
        np.diag([1.2, 1.2, 10.0, 1.0]),
    ],
    ids=["oblique", "left-handed", "permuted", "plain"],
)
def test_orientations(workshop, tmp_path, affine):
    labels, _ = segment(workshop, tmp_path, workshop.study(affine=affine))
    assert_on_grid(labels, workshop.folder / "s1_LGE.nii.gz")
    assert agreement(labels, ventricle()) > 0.97


@pytest.mark.parametrize("axis", [0, 2])
def test_sheared_affines(workshop, tmp_path, axis):
    """Only the sform can hold a shear. SimpleITK refuses the input, and takes the output, by a near qform."""
    affine = oblique_affine()
    affine[:3, axis] += 0.4 * affine[:3, 1] * (10 if axis == 2 else 1)
    entry = {"id": "s1", "image": {}, "region": "s1_region.nii"}

    def write(name, data):
        image = nib.Nifti1Image(data, affine)
        image.set_sform(affine, code=1)
        image.set_qform(None, code=0)
        nib.save(image, workshop.folder / name)

    for name in SEQUENCES:
        entry["image"][name] = f"{name}.nii"
        write(f"{name}.nii", intensities(ventricle(), name))
    write("s1_region.nii", LV.astype(np.uint8))
    labels, side = segment(workshop, tmp_path, entry)
    source = workshop.folder / "LGE.nii"
    assert_on_grid(labels, source, simpleitk=False)
    with pytest.raises(RuntimeError):
        sitk.ReadImage(str(source))
    assert sitk.ReadImage(labels.get_filename()).GetSize() == labels.shape
    assert agreement(labels, ventricle()) > 0.97
    # 0.4 of a shear leaves the volume of a voxel as it is.
    assert sum(side["volume_ml"].values()) == pytest.approx(LV.sum() * 0.0144, rel=1e-5)


def test_a_sheared_sequence_is_resampled_to_its_place_in_mm(workshop, tmp_path):
    """T2 on a grid sheared in plane that covers the heart: the same label map as without."""
    entry = workshop.study()
    straight, _ = segment(workshop, tmp_path / "a", entry)
    plain, sheared = oblique_affine(), oblique_affine()
    sheared[:3, 1] += 0.25 * sheared[:3, 0]
    sheared[:3, 3] -= 4 * sheared[:3, 0]
    # Each row of the sheared grid is shifted by a quarter of a pixel more than the one before.
    x, y = np.indices((24, SHAPE[1]))
    position = x - 4 + 0.25 * y
    image = intensities(ventricle(), "T2")
    moved = np.stack(
        [
            np.stack(
                [np.interp(position[:, j], np.arange(SHAPE[0]), image[:, j, k]) for j in range(SHAPE[1])], 1
            )
            for k in range(SHAPE[2])
        ],
        axis=-1,
    )
    assert np.linalg.norm(plain - sheared) > 1
    workshop.volume("s1_T2.nii.gz", moved.astype(np.float32), sheared, qform_code=0)
    other, _ = segment(workshop, tmp_path / "b", entry)
    assert_on_grid(other, workshop.folder / "s1_LGE.nii.gz")
    found, expected = np.asarray(other.dataobj), np.asarray(straight.dataobj)
    # Interpolated twice, T2 is blurred by less than a pixel: only the borders of edema may move.
    assert (found == expected)[LV].mean() > 0.9
    assert (found[LV] == 4).sum() > 0


# --- Cine --------------------------------------------------------------------------------------

FRAMES = 6


def cine(largest=2, shape=SHAPE):
    """A beating heart (X, Y, Z, T): the cavity has 3 pixels of radius in frame `largest`, else less."""
    x, y = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape[:2]), indexing="ij")
    radius = np.hypot(x, y)
    rest = intensities(ventricle(shape), "bSSFP")
    frames = []
    for frame in range(FRAMES):
        smaller = 0.5 * abs(frame - largest)
        wall = (radius > 3 - smaller) & (radius <= 3)
        frames.append(np.where(wall[..., None], 95, rest))
    return np.stack(frames, axis=-1).astype(np.float32)


@pytest.mark.parametrize("largest", [0, 2, 5])
def test_end_diastole_is_found(workshop, tmp_path, largest):
    entry = workshop.study()
    workshop.volume("s1_bSSFP.nii.gz", cine(largest))
    labels, side = segment(workshop, tmp_path, entry)
    assert side["frames"] == {"bSSFP": largest}
    assert f"bSSFP: frame {largest} was taken as end-diastole (first frame: 0)" in side["notes"]
    assert_on_grid(labels, workshop.folder / "s1_LGE.nii.gz")
    assert agreement(labels, ventricle()) > 0.97


def test_a_named_frame_is_taken(workshop, tmp_path):
    entry = workshop.study()
    workshop.volume("s1_bSSFP.nii.gz", cine(2))
    entry["image"]["bSSFP"] = {"file": "s1_bSSFP.nii.gz", "frame": 4}
    _, side = segment(workshop, tmp_path, entry)
    assert side["frames"] == {"bSSFP": 4}
    assert side["notes"] == []
    # The same as that frame in a file of its own.
    workshop.volume("one.nii.gz", cine(2)[..., 4])
    entry["image"]["bSSFP"] = "one.nii.gz"
    (tmp_path / "out").rename(tmp_path / "cine")
    labels, side = segment(workshop, tmp_path, entry)
    assert side["frames"] == {}
    of_cine = nib.load(tmp_path / "cine" / "s1_labels.nii.gz")
    np.testing.assert_array_equal(np.asarray(of_cine.dataobj), np.asarray(labels.dataobj))


def test_a_cine_that_gives_the_grid(workshop, tmp_path):
    """The only sequence is a 4-D cine: the label map is 3-D, on the grid of its frames."""
    entry = workshop.study(sequences=())
    workshop.volume("cine.nii.gz", cine(3))
    entry["image"] = {"bSSFP": "cine.nii.gz"}
    entry["region"] = {"rule": "lv"}
    labels, side = segment(workshop, tmp_path, entry)
    assert side["frames"] == {"bSSFP": 3}
    source = nib.load(workshop.folder / "cine.nii.gz")
    assert labels.shape == source.shape[:3]
    np.testing.assert_array_equal(labels.affine, source.affine)
    a = sitk.ReadImage(str(workshop.folder / "cine.nii.gz"))
    b = sitk.ReadImage(labels.get_filename())
    assert b.GetSize() == a.GetSize()[:3]
    assert b.GetOrigin() == a.GetOrigin()[:3]
    np.testing.assert_allclose(
        np.reshape(b.GetDirection(), (3, 3)), np.reshape(a.GetDirection(), (4, 4))[:3, :3]
    )
    blood = np.asarray(labels.dataobj) == 1
    assert (blood == (ventricle() == 1)).mean() > 0.97


def test_a_cine_on_another_grid_with_a_region_by_rule_nonzero(workshop, tmp_path):
    """No file holds the region: the middle of the image tells."""
    entry = workshop.study(sequences=())
    entry["image"] = {"bSSFP": "cine.nii.gz"}
    entry["region"] = {"rule": "nonzero"}
    workshop.volume("cine.nii.gz", np.where(LV[..., None], cine(1), 0))
    _, side = segment(workshop, tmp_path, entry)
    assert side["frames"] == {"bSSFP": 1}


def test_a_cine_on_a_grid_of_its_own(workshop, tmp_path):
    """Twice as many pixels, 20 mm more on each side."""
    entry = workshop.study()
    fine = oblique_affine((0.6, 0.6, 10.0))
    fine[:3, 3] -= 40 * fine[:3, 0] + 40 * fine[:3, 1] + 0.5 * (fine[:3, 0] + fine[:3, 1]) / 2
    repeated = cine(4).repeat(2, axis=0).repeat(2, axis=1)
    padded = np.pad(repeated, ((40, 40), (40, 40), (0, 0), (0, 0)), constant_values=60)
    save_nifti(workshop.folder / "s1_bSSFP.nii.gz", padded, fine)
    labels, side = segment(workshop, tmp_path, entry)
    assert side["frames"] == {"bSSFP": 4}
    assert_on_grid(labels, workshop.folder / "s1_LGE.nii.gz")
    assert agreement(labels, ventricle()) > 0.97


def test_frames_of_a_single_study(cli, workshop, tmp_path):
    entry = workshop.study()
    workshop.volume("s1_bSSFP.nii.gz", cine(2))
    arguments = [*workshop.single(entry), "--id", "s1", "--method", "map-em"]
    for folder, extra, frame in (("a", [], 2), ("b", ["--frame", "bSSFP=5"], 5)):
        assert cli("predict", *arguments, *extra, "-o", tmp_path / folder).code == 0
        assert json.loads((tmp_path / folder / "s1.json").read_text())["frames"] == {"bSSFP": frame}


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ("bSSFP", "--frame must be NAME=N"),
        ("bSSFP=-1", "--frame must be NAME=N"),
        ("bSSFP=x", "--frame must be NAME=N"),
        ("cine=1", "a frame of 'cine' is named, but no such image"),
        ("bSSFP=9", "bSSFP has no frame 9"),
        ("LGE=1", "LGE has no frame 1"),
    ],
)
def test_frames_that_are_not_there(cli, workshop, tmp_path, frame, message):
    entry = workshop.study()
    workshop.volume("s1_bSSFP.nii.gz", cine(2))
    result = cli(
        "predict", *workshop.single(entry), "--method", "map-em", "--frame", frame, "-o", tmp_path / "out"
    )
    assert result.code == 2
    assert message in result.err


def test_a_frame_belongs_to_a_single_study(cli, workshop, tmp_path):
    result = cli("predict", workshop.manifest(), "--frame", "bSSFP=0", "-o", tmp_path, "--method", "map-em")
    assert (result.code, "--frame belongs to --image" in result.err) == (2, True)


def test_the_report_shows_the_frame_that_was_segmented(workshop, tmp_path):
    entry = workshop.study()
    workshop.volume("s1_bSSFP.nii.gz", cine(2))
    segment(workshop, tmp_path, entry)
    shown = read_predicted_study(tmp_path / "out", "s1").images
    found, frame = (np.asarray(image, float).ravel() for image in (shown["bSSFP"], cine(2)[..., 2]))
    assert np.corrcoef(found, frame)[0, 1] > 0.999999  # in z-scores
    assert np.corrcoef(found, cine(2)[..., 0].ravel())[0, 1] < 0.99


# --- Phase-sensitive LGE -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["map-em", "em-gmm", "map-em-2step", "otsu"])
@pytest.mark.parametrize("offset", [-500.0, 1500.0])
def test_an_offset_of_lge_changes_no_label(workshop, tmp_path, method, offset):
    """Phase-sensitive LGE is negative where the wall is nulled; nothing depends on where 0 lies."""
    entries = [workshop.study(name, region="cavity-wall") for name in ("plain", "moved")]
    psir = intensities(ventricle(), "LGE").astype(np.float32) - 100
    assert (psir[LV] < 0).any()
    workshop.volume("plain_LGE.nii.gz", psir)
    workshop.volume("moved_LGE.nii.gz", psir + np.float32(offset))
    mrigmm.predict(workshop.manifest(entries), tmp_path / "out", method=method)
    plain, moved = (
        np.asarray(nib.load(tmp_path / "out" / f"{name}_labels.nii.gz").dataobj)
        for name in ("plain", "moved")
    )
    np.testing.assert_array_equal(plain, moved)
    assert (plain == 4).any()
