"""Label maps from anywhere: what their names and ids mean, their numbers, and what is refused."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

import mrigmm
from mrigmm.errors import InputError
from mrigmm.jobs.reading.masks import find_masks

from ..conftest import PATIENT, intensities, oblique_affine, save_nifti, ventricle

VOXEL_ML = 0.2025  # 4.5 x 4.5 x 10 mm
EMIDEC = np.array([0, 1, 2, 2, 3], np.int16)  # of our ids; without edema


def masks(folder, studies, ids=EMIDEC, name="{}_seg.nii.gz", affine=PATIENT):
    for study in studies:
        save_nifti(folder / name.format(study), ids[ventricle()], affine)
    return folder


def rows(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def test_numbers_pages_and_images(cli, tmp_path):
    """Counts of the masks, obstruction in the infarct, and the images on the pages."""
    truth = ventricle()
    source = masks(tmp_path / "masks", ["p1", "p2"])
    core = np.where(EMIDEC[truth] == 3, 4, EMIDEC[truth])
    core[..., 1:] = EMIDEC[truth][..., 1:]  # obstruction in the first slice
    save_nifti(source / "p2_seg.nii.gz", core, PATIENT)
    for study in ("p1", "p2"):
        save_nifti(tmp_path / "images" / f"{study}_0000.nii.gz", intensities(truth, "LGE"), PATIENT)
    out = tmp_path / "out"
    image = f"LGE={tmp_path}/images/{{id}}_0000.nii.gz"
    done = cli("measure", source, "--labels", "emidec", "--image", image, "-o", out)
    assert done.code == 0, done.err
    scar, wall = int((truth == 4).sum()), int((truth > 1).sum())
    for row in rows(out / "quantities.csv"):
        assert float(row["infarct_mass_g"]) == pytest.approx(1.05 * VOXEL_ML * scar, rel=1e-5)
        assert float(row["infarct_percent_of_lv_mass"]) == pytest.approx(100 * scar / wall, rel=1e-5)
        assert float(row["lv_cavity_ml"]) == pytest.approx(VOXEL_ML * (truth == 1).sum(), rel=1e-5)
        expected = 1.05 * VOXEL_ML * (truth[..., 0] == 4).sum() * (row["study"] == "p2")
        assert float(row["mvo_mass_g"]) == pytest.approx(expected, rel=1e-5)
        assert row["edema_mass_g"] == ""  # no class of these masks
    page = (out / "report.html").read_text()
    assert page.count("data:image/webp") >= 4
    assert "images cannot be shown" not in page
    assert json.loads((out / "p1.json").read_text())["method"] == "given masks"
    again = mrigmm.quantify(out)  # what is written is a folder like that of predict
    assert again.done == ("p1", "p2")
    assert not again.problems


def test_a_file_alone_and_a_mapping(tmp_path):
    ids = np.array([0, 10, 20, 30, 41], np.uint8)
    mask = masks(tmp_path, ["p1"], ids, "{}.nii.gz") / "p1.nii.gz"
    result = mrigmm.measure(mask, tmp_path / "out", labels="{LV: 10, myo: 20, oedema: 30, scar: [40, 41]}")
    assert result.studies["p1"]["infarct_mass_g"] == pytest.approx(
        1.05 * VOXEL_ML * (ventricle() == 4).sum(), rel=1e-5
    )
    assert result.studies["p1"]["edema_mass_g"] > 0
    assert set(np.unique(nib.load(tmp_path / "out" / "p1_labels.nii.gz").dataobj)) == {0, 1, 2, 3, 4}


def test_a_mask_with_flipped_axes_lies_on_its_image(tmp_path):
    truth = ventricle()
    flipped = nib.Nifti1Image(EMIDEC[truth], PATIENT).as_reoriented([[1, 1], [0, -1], [2, 1]])
    (tmp_path / "m").mkdir()
    nib.save(flipped, tmp_path / "m" / "p1.nii.gz")
    save_nifti(tmp_path / "p1.nii.gz", intensities(truth, "LGE"), PATIENT)
    result = mrigmm.measure(
        tmp_path / "m", tmp_path / "out", labels="emidec", images={"LGE": str(tmp_path / "{id}.nii.gz")}
    )
    assert not result.failed
    written = nib.load(tmp_path / "out" / "p1_labels.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.array([0, 1, 2, 2, 4])[truth])


def test_segments_by_the_right_ventricle_of_the_masks(tmp_path):
    truth = ventricle().astype(np.int16)
    x, y = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in truth.shape[:2]), indexing="ij")
    for z, width in enumerate((1.2, 0.9, 0.6)):
        truth[(np.hypot(x, y) > 6) & (abs(np.arctan2(y, x)) < width), z] = 9
    mask = save_nifti(tmp_path / "p1.nii.gz", truth, PATIENT)
    labels = "blood=1,myocardium=2,edema=3,scar=4,rv_blood=9"
    result = mrigmm.measure(mask, tmp_path / "out", labels=labels, base="first")
    content = json.loads(result.output.read_text())["studies"]["p1"]
    assert content["segments"] or any("not numbered" in note for note in content["notes"])
    assert (tmp_path / "out" / "p1_rv.nii.gz").exists()
    centre = PATIENT @ [(truth.shape[0] - 1) / 2, (truth.shape[1] - 1) / 2, 1, 1]
    point = centre + 7 * PATIENT @ [1, 0, 0, 0]
    points = tmp_path / "points.csv"
    points.write_text("study,x_mm,y_mm,z_mm\np1," + ",".join(str(v) for v in point[:3]) + "\n")
    result = mrigmm.measure(
        mask, tmp_path / "out", labels=labels, base="first", rv_insertion=points, overwrite=True
    )
    content = json.loads(result.output.read_text())["studies"]["p1"]
    assert [row["segment"] for row in content["segments"]] == list(range(1, 17))


def test_bad_masks_do_not_stop_the_others(cli, tmp_path):
    source = masks(tmp_path / "masks", ["good"])
    truth = EMIDEC[ventricle()]
    save_nifti(source / "fractions_seg.nii.gz", truth * np.float32(0.5), PATIENT)
    save_nifti(source / "unknown_seg.nii.gz", np.where(truth == 3, 7, truth), PATIENT)
    save_nifti(source / "several_seg.nii.gz", np.stack([truth, truth], axis=-1), PATIENT)
    save_nifti(source / "nothing_seg.nii.gz", np.zeros_like(truth), PATIENT)
    (source / "damaged_seg.nii.gz").write_bytes(b"no image")
    done = cli("measure", source, "--labels", "emidec", "-o", tmp_path / "out")
    assert done.code == 2
    for said in (
        "the mask map has values that are no whole numbers",
        "the mask map has an unknown class id",
        "the mask is empty",
        "study: several",
        "study: damaged",
    ):
        assert said in done.err
    assert "Traceback" not in done.err
    assert [row["study"] for row in rows(tmp_path / "out" / "quantities.csv")] == ["good"]
    content = json.loads((tmp_path / "out" / "quantities.json").read_text())
    assert sorted(content["no_prediction"]) == ["damaged", "fractions", "nothing", "several", "unknown"]
    with pytest.raises(InputError, match="the mask is empty"):
        mrigmm.measure(source / "nothing_seg.nii.gz", tmp_path / "none", labels="emidec")
    assert not list((tmp_path / "none").glob("*_labels.nii.gz"))


def test_what_the_ids_mean(tmp_path):
    """Never guessed where several schemes fit; by dataset.json of nnU-Net, and by ids that one scheme has."""
    source = masks(tmp_path / "masks", ["p1"])
    with pytest.raises(InputError, match="it is not known what the ids") as error:
        mrigmm.measure(source, tmp_path / "out")
    assert "mrigmm and emidec and myosaiq" in str(error.value)
    names = {"background": 0, "LV": 1, "myo": 2, "infarct": 3}
    content = {"channel_names": {"0": "LGE"}, "labels": names, "file_ending": ".nii.gz"}
    (source / "dataset.json").write_text(json.dumps(content))
    assert mrigmm.measure(source, tmp_path / "out").studies["p1"]["infarct_mass_g"] > 0
    myops = masks(tmp_path / "myops", ["p1"], np.array([0, 500, 200, 1220, 2221], np.int16))
    assert mrigmm.measure(myops, tmp_path / "out2").studies["p1"]["edema_mass_g"] > 0
    refused = {
        "blood": "the label ids cannot be read",
        "{a: 1.5}": "the label ids cannot be read",
        "blood=1,scar=1": "given more than once",
        "rv=1": "no class to measure",
    }
    for text, what in refused.items():
        with pytest.raises(InputError, match=what):
            mrigmm.measure(source, tmp_path / "out3", labels=text)


def test_what_is_refused(tmp_path):
    source = masks(tmp_path / "masks", ["p1", "p2"])
    with pytest.raises(InputError, match="does not say where the study's id stands"):
        mrigmm.measure(source, tmp_path / "out", labels="emidec", images={"LGE": "lge.nii.gz"})
    with pytest.raises(InputError, match="there are no masks"):
        mrigmm.measure(source, tmp_path / "out", labels="emidec", pattern="{id}_x.nii.gz")
    with pytest.raises(InputError, match="the folder does not exist"):
        mrigmm.measure(tmp_path / "no", tmp_path / "out", labels="emidec")
    result = mrigmm.measure(
        source, tmp_path / "out", labels="emidec", images={"LGE": str(tmp_path / "{id}.nii.gz")}
    )
    assert {p.what for p in result.problems} == {"no pictures: there is not one LGE of the study"}
    with pytest.raises(InputError, match="already has results"):
        mrigmm.measure(source, tmp_path / "out", labels="emidec")
    with pytest.raises(InputError, match="this is a folder of predictions"):
        mrigmm.measure(tmp_path / "out", tmp_path / "again")
    own = masks(tmp_path / "own", ["p1"], name="{}_labels.nii.gz")
    with pytest.raises(InputError, match="would replace an input"):
        mrigmm.measure(own, own, labels="emidec", overwrite=True)


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        (["p1_seg.nii.gz", "p2_seg.nii.gz", "p1.nii.gz"], ["p1", "p2"]),
        (["p1_LGE_mask.nii.gz", "p2_LGE_mask.nii.gz"], ["p1", "p2"]),
        (["case_01.nii.gz", "case_02.nii.gz"], ["case_01", "case_02"]),
        (["p1/seg.nii.gz", "p2/seg.nii.gz", "p2/lge.nii.gz"], ["p1", "p2"]),
        (["imagesTr/c1_0000.nii", "labelsTr/c1.nii", "labelsTr/c2.nii"], ["c1", "c2"]),
        (["sub-1/ses-a/sub-1_ses-a_mask.nii", "sub-1/ses-b/sub-1_ses-b_mask.nii"],
         ["sub-1_ses-a", "sub-1_ses-b"]),
        (["p1_acute.nii.gz", "p2_acute.nii.gz"], ["p1_acute", "p2_acute"]),
    ],
)  # fmt: skip
def test_names(tmp_path, files, ids):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    found, problems = find_masks(tmp_path)
    assert list(found) == ids
    assert len(problems) == (len(ids) < len(files))


def test_two_masks_of_one_study(tmp_path):
    for file in ("a/p1_seg.nii.gz", "a_p1_seg.nii.gz", "p1_seg.nii.gz"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    found, problems = find_masks(tmp_path)
    assert list(found) == ["p1"]
    assert {(p.what, p.study) for p in problems} == {("two masks have one study id", "a_p1")}


def test_a_lesion_alone(tmp_path):
    """Without a wall only the infarct is measured, and none is 0 g."""
    for study, n in (("p1", 4), ("p2", 0)):
        lesion = np.zeros((6, 6, 2), np.uint8)
        lesion[:n, 0, 0] = 1
        save_nifti(tmp_path / "m" / f"{study}.nii.gz", lesion, oblique_affine())
    result = mrigmm.measure(tmp_path / "m", tmp_path / "out", labels="scar=1")
    assert result.studies["p1"]["infarct_mass_g"] == pytest.approx(1.05 * 0.0144 * 4, rel=1e-5)
    assert result.studies["p2"]["infarct_mass_g"] == 0
    assert result.studies["p1"]["lv_mass_g"] is None


def test_edema_without_any_scar_is_questioned(tmp_path):
    """Masks of EMIDEC, where 3 is infarct, with the ids of mrigmm, where it is edema."""
    source = masks(tmp_path / "masks", ["p1"])
    result = mrigmm.measure(source, tmp_path / "out", labels="mrigmm")
    (told,) = (p for p in result.problems if p.what == "the masks have edema and no scar")
    assert (told.severity, told.got) == ("warning", "edema in 1 of 1 masks; ids: edema 3; scar 4")
    right = mrigmm.measure(source, tmp_path / "right", labels="emidec")
    assert not [p for p in right.problems if "no scar" in p.what]
