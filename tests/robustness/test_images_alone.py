"""Images alone, given to the default: what is no heart is refused, how a file is stored changes nothing."""

import json

import nibabel as nib
import numpy as np
import pytest

import mrigmm
from mrigmm.errors import InputError

from ..test_real_data import real_folder

NOT_FOUND = "no left ventricle was found"


def flipped(data, affine, axis):
    """The array with an axis turned round, and the affine that leaves every voxel in its place."""
    affine = affine.copy()
    affine[:3, 3] += affine[:3, axis] * (data.shape[axis] - 1)
    affine[:3, axis] *= -1
    return np.flip(data, axis), affine


class Images:
    """Sequences of a study, written and segmented with nothing else."""

    def __init__(self, folder, volumes):
        self.folder, self.volumes = folder, volumes

    def changed(self, change, *, only=None, rename=None):
        names = self.volumes if only is None else (only,)
        return Images(self.folder, {rename or name: change(*self.volumes[name]) for name in names})

    def segment(self, name):
        """Label map, side file, and what was told."""
        files = {}
        for sequence, (data, affine) in self.volumes.items():
            files[sequence] = self.folder / f"{name}_{sequence}.nii.gz"
            nib.save(nib.Nifti1Image(np.ascontiguousarray(data), affine), files[sequence])
        out = self.folder / name
        result = mrigmm.predict_study(files, None, out, study_id="s", device="cpu")
        labels = np.asarray(nib.load(out / "s_labels.nii.gz").dataobj)
        return labels, json.loads((out / "s.json").read_text()), {p.what for p in result.problems}


@pytest.fixture
def images(cohort, tmp_path):
    """A simulated study of three slices."""
    entry = json.loads(cohort.read_text())["test"][0]
    loaded = {name: nib.load(cohort.parent / file) for name, file in entry["image"].items()}
    return Images(tmp_path, {name: (np.asarray(i.dataobj), i.affine) for name, i in loaded.items()})


@pytest.fixture(scope="module")
def as_it_is(cohort, tmp_path_factory):
    """Its label map as the files are."""
    out = tmp_path_factory.mktemp("as_it_is")
    entry = json.loads(cohort.read_text())["test"][0]
    files = {name: cohort.parent / file for name, file in entry["image"].items()}
    mrigmm.predict_study(files, None, out / "o", study_id="s", device="cpu")
    return np.asarray(nib.load(out / "o" / "s_labels.nii.gz").dataobj)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_turned_axes_change_nothing(images, as_it_is, axis):
    """Upside-down and mirrored arrays whose header says so -> the same map, voxel by voxel."""
    labels, _, _ = images.changed(lambda data, affine: flipped(data, affine, axis)).segment("turned")
    np.testing.assert_array_equal(np.flip(labels, axis), as_it_is)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_heart_has_the_mirrored_map(images, as_it_is, axis):
    """Mirrored voxels under the same header -> the mirrored map, but for pixels at borders."""
    labels, _, _ = images.changed(lambda data, affine: (np.flip(data, axis), affine)).segment("mirrored")
    assert (np.flip(labels, axis) == as_it_is).mean() > 0.99


def test_one_slice(images):
    """One slice -> segmented."""
    labels, side, _ = images.changed(lambda data, affine: (data[..., 1:2], affine)).segment("one")
    assert labels.shape[2] == 1
    assert {1, 2} <= set(np.unique(labels))
    assert side["region"]["quality"] > 0.8
    assert side["quantities"]["segments"] == []


@pytest.mark.gate
def test_forty_slices(images):
    """40 slices of one heart, 10 mm apart -> segmented, and no ventricle has this size."""
    many = images.changed(lambda data, affine: (np.repeat(data, 14, axis=2)[..., :40], affine), only="LGE")
    labels, _, told = many.segment("forty")
    assert (labels > 0).any(axis=(0, 1)).all()
    assert "no adult left ventricle has this size" in told


def test_a_heart_that_the_image_cuts(images, as_it_is):
    """Half a heart at the image's edge -> segmented with a warning that it touches the edge."""
    middle = round(np.argwhere(as_it_is > 0)[:, 0].mean())
    _, side, told = images.changed(lambda data, affine: (data[middle:], affine)).segment("cut")
    assert "the region touches the border of the image" in told
    assert side["region"]["quality"] < 0.95


def test_noise(images):
    """Noise -> refused, and nothing is written."""
    noise = np.random.default_rng(0).normal(100, 20, (80, 80, 4)).astype(np.float32)
    with pytest.raises(InputError, match=NOT_FOUND) as caught:
        images.changed(lambda _, affine: (noise, affine), only="LGE").segment("noise")
    assert "give a region map, or leave this study out" in str(caught.value)
    assert not list((images.folder / "noise").glob("s*"))


def test_constant_images(images):
    """One value everywhere -> refused with what was found."""
    with pytest.raises(InputError, match="the images show nothing") as caught:
        images.changed(lambda data, affine: (np.full_like(data, 7), affine)).segment("constant")
    assert "one value in all voxels of LGE, T2, bSSFP" in str(caught.value)


def test_a_sequence_that_nothing_knows(images):
    """T1 alone -> refused with the names that are known."""
    with pytest.raises(InputError, match="unknown sequence name 'T1'") as caught:
        images.changed(lambda data, affine: (data, affine), only="LGE", rename="T1").segment("t1")
    assert "LGE, T2, bSSFP" in str(caught.value)


@pytest.mark.real
@pytest.mark.parametrize(("name", "kind"), [("T2", "T2"), ("LGE", "T1POST")])
def test_a_brain(tmp_path, name, kind):
    """A brain, by its own sequence's name or by a wrong one -> refused."""
    files = {name: real_folder("ms_brain_ccby") / f"patient07_{kind}.nii.gz"}
    with pytest.raises(InputError, match=NOT_FOUND):
        mrigmm.predict_study(files, None, tmp_path / "out", study_id="s", device="cpu")


def test_of_a_cine_the_frame_that_was_taken_is_told(images):
    def cine(data, affine):
        return np.stack([data, data], axis=-1), affine

    _, _, told = images.changed(cine, only="bSSFP").segment("cine")
    assert any("frame 0 was taken" in what for what in told), told
