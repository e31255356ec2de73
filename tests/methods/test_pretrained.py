"""The default method on a small simulated study: three slices, 1.5 mm, nothing trained."""

import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import load_study
from mrigmm.data.whole import load_whole
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.anatomy import load_found
from mrigmm.methods.base import Task
from mrigmm.methods.network_finder import LOWEST_QUALITY, NetworkFinder
from mrigmm.methods.pretrained import NO_INFARCT, PretrainedMethod, right_ventricle
from mrigmm.methods.registry import make_method
from mrigmm.methods.study_views import what_is_given
from mrigmm.networks.segmenter import GIVEN_VENTRICLE
from mrigmm.pretrained.folder import PretrainedFolder, shipped_folder
from mrigmm.quantification.segments import automatic_orientation, insertion_by_rv

from ..conftest import SEQUENCES
from .conftest import CLASSES, dice
from .test_study_verdict import model

NEVER, ALWAYS = (
    {"infarct": model(0.0, threshold=t), "expected_dice": {"wall": model(0.0, 0.9)}} for t in (1, 0)
)


def method(classes=CLASSES, calibration=None, sequences=SEQUENCES):
    made = PretrainedMethod(Task(classes, sequences, None), {})
    made.networks = replace(made.networks, calibration=calibration)
    return made


@pytest.fixture(scope="module")
def files(cohort):
    """A study of the cohort, ids of its labels, and the folder of its truth."""
    manifest = read_manifest(cohort)
    return manifest.split("test")[0], manifest.labels, cohort.parent / "truth"


@pytest.fixture(scope="module")
def study(files):
    """With its left ventricle given, undivided."""
    entry, labels, _ = files
    return load_study(entry, SEQUENCES, CLASSES, labels=labels, with_label=True)


@pytest.fixture(scope="module")
def result(study):
    return method(calibration=ALWAYS).segment(study)


def test_the_map(study, result):
    inside = study.region > 0
    assert ((result.labels > 0) == inside).all()
    torch.testing.assert_close(result.resp.sum(dim=0)[inside], torch.ones(int(inside.sum())))
    assert result.resp[:, ~inside].max() == 0
    assert result.mixture.means.shape == (1, 4, 3)
    true = study.label
    assert dice(result.labels == 1, true == 0) > 0.9
    assert dice(result.labels > 1, (true > 0) & inside) > 0.85
    assert dice(result.labels == 4, true == 3) > 0.5


def test_the_right_ventricle(files, study, result):
    entry, _, truth = files
    true = np.asarray(nib.load(truth / f"{entry.id}_rv_blood.nii.gz").dataobj) > 0
    assert not (result.rv & (study.region > 0)).any()
    found = study.to_input_grid(result.rv[None])[0]
    assert dice(torch.from_numpy(found), torch.from_numpy(true)) > 0.7


def test_the_insertion_of_the_right_ventricle(files, study, result):
    """By the networks' ventricles within 15 degrees of that by the true ones."""
    entry, _, truth = files
    true = nib.load(truth / f"{entry.id}_rv_blood.nii.gz")
    label = study.to_input_grid(study.label[None])[0]
    ids = study.to_input_grid(result.labels[None])[0]
    rv = study.to_input_grid(result.rv[None])[0]
    cavity, wall = label == 0, (label > 0) & (label < 4)
    expected = insertion_by_rv(np.asarray(true.dataobj) > 0, cavity, wall, true.affine, base_first=True)
    found = automatic_orientation(rv, ids == 1, ids > 1, true.affine)
    assert found.base_first
    assert abs((found.insertion_degrees - expected + 180) % 360 - 180) < 15
    assert found.spread_degrees < 20


def test_the_verdict_decides_whether_scar_is_reported(study, result):
    """Probability 1/2: above a threshold of 0, below one of 1; what was scar becomes normal wall."""
    assert result.details["infarct"] == {
        "probability": 0.5,
        "threshold": 0.0,
        "found": True,
        "set_aside_ml": 0.0,
        "calibrated": True,
    }
    assert result.details["expected_dice"] == {"wall": 0.9}
    assert result.warnings == ()
    aside = method(calibration=NEVER).segment(study)
    assert aside.warnings == (NO_INFARCT,)
    scar = result.labels == 4
    assert scar.any()
    assert not (aside.labels == 4).any()
    assert not aside.mvo.any()
    ml = int(scar.sum()) * study.output.grid.voxel_volume_ml
    assert aside.details["infarct"]["set_aside_ml"] == pytest.approx(ml, rel=1e-5)


def test_without_calibration_nothing_is_set_aside(study, result):
    plain = method().segment(study)
    assert plain.details.keys() == {"precision"}
    assert torch.equal(plain.labels, result.labels)


def test_mirrored_images_give_the_mirrored_map(study, result):
    mirrored = study.image.clone()
    mirrored[:] = study.image.flip(1)
    seen = replace(
        study, image=mirrored, region=study.region.flip(0), observed=study.observed.flip(1), label=None
    )
    found = method().segment(seen).labels.flip(0)
    # The square around the ventricle is cut on whole pixels, which a mirror may move by one.
    assert (found == result.labels)[study.region > 0].float().mean() > 0.95


def test_without_t2_no_edema(files):
    entry, labels, _ = files
    lge = load_study(replace(entry, images={"LGE": entry.images["LGE"]}), SEQUENCES, CLASSES, labels=labels)
    found = method().segment(lge)
    assert found.sequences == ("LGE",)
    assert found.resp[2].max() == 0
    assert (found.labels == 4).any()


def test_networks_of_ones_own(tmp_path):
    """A folder of pretrain, here a copy of what is shipped without its calibration."""
    folder = PretrainedFolder(shutil.copytree(shipped_folder().path, tmp_path / "own"))
    folder.calibration.unlink(missing_ok=True)
    made = PretrainedMethod(Task(CLASSES, SEQUENCES, None), {"networks": str(folder.path)})
    assert made.networks.source == folder
    assert made.networks.calibration is None
    assert made.describe()["networks"] == method().describe()["networks"]
    assert NetworkFinder(folder=folder.path).networks.source == folder
    folder.record.unlink()
    with pytest.raises(InputError, match="there are no finished networks"):
        PretrainedMethod(Task(CLASSES, SEQUENCES, None), {"networks": folder.path})


@pytest.mark.parametrize("classes", [("blood", "scar"), ("blood", "myocardium", "fat")])
def test_classes_that_it_does_not_know(classes):
    with pytest.raises(InputError, match="pretrained knows blood, myocardium, edema and scar"):
        make_method("pretrained", Task(classes, SEQUENCES, None), {})


def test_sequences_that_it_does_not_know(ring):
    study = replace(ring.paint(ring.base()), sequences=("T1", "PD", "DWI"))
    made = make_method("pretrained", Task(CLASSES, study.sequences, None), {})
    with pytest.raises(InputError, match="pretrained knows none of the study's sequences") as caught:
        made.segment(study)
    assert "expected: one of LGE, T2, bSSFP, other" in str(caught.value)


def test_the_largest_piece_of_blood_is_the_right_ventricle():
    probability, region = torch.zeros(8, 8, 2), torch.zeros(8, 8, 2, dtype=torch.uint8)
    assert right_ventricle(probability, region) is None
    probability[0:3, 0] = 0.9  # 6 voxels
    probability[5:7, 5:7] = 0.6  # 8 voxels, of which two inside the region
    region[5, 5] = int(Region.LV)
    probability[7, 7] = 0.9  # meets the other at a corner only
    found = right_ventricle(probability, region)
    assert int(found.sum()) == 6
    assert found[0:3, 0].all() or found[5:7, 5:7].sum() == 6


def test_the_ventricle_is_found_where_nothing_is_given(files, study):
    entry, labels, _ = files
    whole = load_whole(entry, SEQUENCES, labels)
    finder = NetworkFinder()
    found = finder.find(whole)
    codes = torch.from_numpy(whole.to_input_grid(torch.from_numpy(found.codes)[None])[0])
    true = torch.from_numpy(study.to_input_grid(study.label[None])[0])
    lv = (true >= 0) & (true <= 3)
    assert dice(codes > 0, lv) > 0.85
    assert dice(codes == Region.CAVITY, true == 0) > 0.8
    assert 0.5 < found.study_quality <= 1
    assert finder.told(found).severity == ("warning" if found.study_quality < LOWEST_QUALITY else "note")
    assert finder.record(found)["found_by"] == "pretrained networks"
    assert finder.record(found)["quality_0_to_1"] == found.study_quality
    assert "found by the pretrained networks and not given" in finder.told(found).what


def test_a_given_ventricle_is_divided_and_what_is_known_stays(study):
    """The outline stays, and so does a closed wall; cavity and wall that are given are not looked for."""
    undivided = replace(study, region=((study.region > 0) * Region.LV).to(torch.uint8))
    found = method().divided(undivided)
    assert what_is_given(undivided) == GIVEN_VENTRICLE
    assert torch.equal(found.region > 0, study.region > 0)
    cavity = found.region == Region.CAVITY
    assert dice(cavity, study.label == 0) > 0.9
    assert not (cavity.numpy() & ~ndimage.binary_erosion(found.region > 0, np.ones((3, 3, 1)))).any()
    assert method().divided(found) is found
    without_blood = method(CLASSES[1:])
    assert without_blood.divided(undivided) is undivided
    half = found.region.clone()
    half[..., 0] = undivided.region[..., 0]
    assert torch.equal(method().divided(replace(study, region=half)).region[..., 1:], found.region[..., 1:])


def test_sequences_that_look_like_another_one_are_told(files):
    """LGE and T2 exchanged: both are told, and no Dice is expected of the map."""
    entry, labels, _ = files
    given = {"LGE": entry.images["T2"], "T2": entry.images["LGE"], "bSSFP": entry.images["bSSFP"]}
    exchanged = replace(entry, images=given, region=None)
    study = load_found(exchanged, SEQUENCES, CLASSES, NetworkFinder(), labels=labels)
    told = [str(problem) for problem in study.findings if "rather than" in problem.what]
    assert len(told) == 2
    assert "LGE looks like T2 rather than LGE" in told[0]
    assert "T2 looks like LGE or bSSFP rather than T2" in told[1]
    found = method(calibration=ALWAYS).segment(study)
    assert "infarct" in found.details
    assert "expected_dice" not in found.details
    right = load_found(replace(entry, region=None), SEQUENCES, CLASSES, NetworkFinder(), labels=labels)
    assert not any("rather than" in problem.what for problem in right.findings)
    assert "expected_dice" in method(calibration=ALWAYS).segment(right).details


def test_noise_has_no_ventricle(files):
    entry, labels, _ = files
    whole = load_whole(entry, SEQUENCES, labels)
    noise = whole.image.clone()
    noise[:] = torch.randn(noise.shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="no left ventricle was found"):
        NetworkFinder().find(replace(whole, image=noise))


def test_a_sequence_of_another_name_shows_the_ventricle_alone(files):
    """One contrast, nothing given: cavity and wall are found; no infarct or edema can be told."""
    entry, labels, _ = files
    other = replace(entry, images={"other": entry.images["bSSFP"]}, region=None)
    sequences = ("other",)
    study = load_found(other, sequences, CLASSES, NetworkFinder(), labels=labels, with_label=True)
    found = method(sequences=sequences).segment(study)
    assert dice(found.labels == 1, study.label == 0) > 0.8
    assert set(found.labels.unique().tolist()) == {0, 1, 2}
