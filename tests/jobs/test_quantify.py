import csv
import json

import nibabel as nib
import numpy as np
import pytest

import mrigmm
from mrigmm.errors import InputError

from ..conftest import LABELS, PATIENT, SHAPE, oblique_affine, save_nifti, ventricle
from .test_mvo import entry as obstruction

VOXEL_ML = 0.0144
FILES = (
    "quantities.json",
    "quantities.csv",
    "quantities_intervals.csv",
    "quantities_dictionary.csv",
    "segments.csv",
)


def content(folder):
    return json.loads((folder / "quantities.json").read_text())


def rows(file):
    return list(csv.DictReader(file.read_text().splitlines()))


@pytest.fixture
def predicted(workshop, tmp_path):
    """A cohort of one study, predicted with probabilities."""
    manifest = workshop.manifest()
    out = tmp_path / "out"
    mrigmm.predict(manifest, out, method="map-em", save_probabilities=True)
    return manifest, out


def test_predict_measures_at_once(predicted):
    """What stands in the tables of predict are counts of its label map, and quantify finds the same."""
    _, out = predicted
    labels = np.asarray(nib.load(out / "s1_labels.nii.gz").dataobj)
    study = content(out)["studies"]["s1"]
    count = {i: int((labels == i).sum()) * VOXEL_ML for i in range(5)}
    volumes = study["volumes"]
    assert volumes["lv_cavity_ml"] == pytest.approx(count[1], rel=1e-5)
    assert volumes["infarct_mass_g"] == pytest.approx(1.05 * count[4], rel=1e-5)
    assert volumes["lv_mass_g"] == pytest.approx(1.05 * (count[2] + count[3] + count[4]), rel=1e-5)
    assert volumes["salvage_percent_of_area_at_risk"] == pytest.approx(100 * count[3] / (count[3] + count[4]))
    assert volumes["mvo_mass_g"] == 0  # looked for, and none
    scar = np.asarray(nib.load(out / "s1_probabilities.nii.gz").dataobj)[..., 3]
    assert volumes["expected_infarct_mass_g"] == pytest.approx(1.05 * VOXEL_ML * scar.sum(), rel=1e-5)
    low, high = study["intervals"]["infarct_mass_g"]
    at_least = {p: 1.05 * VOXEL_ML * 1.00001 * (scar >= p).sum() for p in (0.98, 0.97, 0.03, 0.02)}
    assert at_least[0.98] / 1.0001 <= low <= at_least[0.97]
    assert at_least[0.03] / 1.0001 <= high <= at_least[0.02]
    assert json.loads((out / "s1.json").read_text())["quantities"] == study
    before = {name: (out / name).read_bytes() for name in FILES}
    mrigmm.quantify(out)
    for name in FILES:
        assert (out / name).read_bytes() == before[name]


def test_the_tables(predicted):
    _, out = predicted
    (row,) = rows(out / "quantities.csv")
    assert row["study"] == "s1"
    assert row["mvo_mass_g"] == "0"
    assert all(name.endswith(("_ml", "_g", "_percent_of_lv_mass", "_percent_of_area_at_risk"))
               for name in row if name not in ("study", "sequences", "edited"))  # fmt: skip
    assert [*row][-2:] == ["sequences", "edited"]  # later than the columns that were always there
    (second,) = rows(out / "quantities_intervals.csv")
    volumes = content(out)["studies"]["s1"]["volumes"]
    assert float(second["expected_infarct_mass_g"]) == pytest.approx(
        volumes["expected_infarct_mass_g"], rel=1e-5
    )
    assert set(second) & set(row) == {"study"}
    assert all(name.startswith(("expected_", "interval_")) for name in second if name != "study")
    assert row["sequences"] == "LGE+T2+bSSFP"
    table = rows(out / "segments.csv")
    assert [(r["study"], r["slice"], r["segment"]) for r in table] == [("s1", str(z), "") for z in (1, 2, 3)]
    # A quarter of the circumference and a bit less (2.0 to pi rad) is infarcted through the whole wall.
    assert float(table[0]["rays_percent_at_0"]) == pytest.approx(100 - 100 * (np.pi - 2) / (2 * np.pi), abs=5)
    assert float(table[0]["rays_percent_75_100"]) == pytest.approx(100 * (np.pi - 2) / (2 * np.pi), abs=5)


def test_the_table_says_which_sequences_a_study_has(workshop, tmp_path):
    """Of predict and quantify; one without contrast is none; older side files name the files read."""
    entries = [workshop.study("a", sequences=("LGE", "bSSFP")), workshop.study("b")]
    workshop.volume("b_T2.nii.gz", np.ones(ventricle().shape, np.float32))
    out = tmp_path / "out"
    mrigmm.predict(workshop.manifest(entries), out, method="map-em")
    assert [row["sequences"] for row in rows(out / "quantities.csv")] == ["LGE+bSSFP", "LGE+bSSFP"]
    side = json.loads((out / "b.json").read_text())
    del side["quantities"]["sequences"]
    (out / "b.json").write_text(json.dumps(side))
    mrigmm.quantify(out)
    assert [row["sequences"] for row in rows(out / "quantities.csv")] == ["LGE+bSSFP", "LGE+T2+bSSFP"]


def test_without_saved_probabilities_nothing_is_lost(predicted):
    _, out = predicted
    before = content(out)
    (out / "s1_probabilities.nii.gz").unlink()
    mrigmm.quantify(out)
    assert content(out) == before


def test_a_label_map_that_was_changed(predicted):
    """Hard counts follow the file; what belongs to the old one is left out, and said."""
    _, out = predicted
    image = nib.load(out / "s1_labels.nii.gz")
    labels = np.asarray(image.dataobj).copy()
    labels[labels == 4] = 2
    nib.save(nib.Nifti1Image(labels, image.affine, image.header), out / "s1_labels.nii.gz")
    mrigmm.quantify(out)
    study = content(out)["studies"]["s1"]
    assert study["volumes"]["infarct_mass_g"] == 0
    assert study["intervals"] == {}
    assert "expected_infarct_mass_g" not in study["volumes"]
    assert any("changed after predict" in note for note in study["notes"])


def test_against_the_reference(cli, predicted):
    manifest, out = predicted
    done = cli("quantify", out, "--manifest", manifest)
    assert done.code == 0, done.err
    assert "measured 1 study" in done.out
    found = content(out)
    truth = ventricle()
    study = found["studies"]["s1"]
    assert study["reference"]["infarct_mass_g"] == pytest.approx(
        1.05 * VOXEL_ML * (truth == 4).sum(), rel=1e-5
    )
    assert study["reference"]["mvo_mass_g"] is None
    figures = found["agreement"]["infarct_mass_g"]
    error = study["volumes"]["infarct_mass_g"] - study["reference"]["infarct_mass_g"]
    assert figures["n"] == 1
    assert figures["mean_error"] == pytest.approx(error)
    assert figures["mean_absolute_error"] == pytest.approx(abs(error))
    assert figures["mean_crps"] == study["crps"]["infarct_mass_g"] >= 0
    low, high = study["intervals"]["infarct_mass_g"]
    assert figures["interval_coverage_percent"] == 100 * (low <= study["reference"]["infarct_mass_g"] <= high)
    (row,) = rows(out / "quantities.csv")
    assert float(row["reference_infarct_mass_g"]) == pytest.approx(
        study["reference"]["infarct_mass_g"], rel=1e-5
    )
    (row,) = rows(out / "quantities_intervals.csv")
    assert float(row["crps_infarct_mass_g"]) == pytest.approx(study["crps"]["infarct_mass_g"], rel=1e-5)


def test_edema_of_the_reference_is_wall_where_it_is_not_segmented(workshop, tmp_path):
    manifest = workshop.manifest([workshop.study(region="cavity-wall")])
    out = tmp_path / "out"
    mrigmm.predict(manifest, out, method="map-em", classes="blood,myocardium,scar")
    mrigmm.quantify(out, manifest=manifest)
    study = content(out)["studies"]["s1"]
    wall = (ventricle() > 1).sum() * VOXEL_ML * 1.05
    assert study["reference"]["lv_mass_g"] == pytest.approx(wall, rel=1e-5)
    assert study["volumes"]["lv_mass_g"] == pytest.approx(wall, rel=1e-5)
    assert study["reference"]["edema_mass_g"] is None


def test_members_make_the_distribution(workshop, tmp_path):
    """Two methods without probabilities against a reference: an ensemble of two points."""
    manifest = workshop.manifest([workshop.study(region="cavity-wall")])
    out, other = tmp_path / "out", tmp_path / "other"
    mrigmm.predict(manifest, out, method="map-em")
    mrigmm.predict(manifest, other, method="otsu")
    side = json.loads((other / "s1.json").read_text())
    labels = np.asarray(nib.load(other / "s1_labels.nii.gz").dataobj).copy()
    labels[..., 0][labels[..., 0] == 4] = 2  # the methods agree on this study: one slice less
    save_nifti(other / "s1_labels.nii.gz", labels, oblique_affine())
    side["volume_ml"] = {name: float((labels == i).sum() * VOXEL_ML) for name, i in side["classes"].items()}
    (other / "s1.json").write_text(json.dumps(side))
    mrigmm.quantify(other)
    mrigmm.quantify(out, manifest=manifest, members=[other])
    own, theirs = (content(f)["studies"]["s1"]["volumes"]["infarct_mass_g"] for f in (out, other))
    assert own != theirs
    study = content(out)["studies"]["s1"]
    assert study["intervals"]["infarct_mass_g"] == sorted([own, theirs])
    true = study["reference"]["infarct_mass_g"]
    by_hand = (abs(own - true) + abs(theirs - true)) / 2 - abs(own - theirs) / 4
    assert study["crps"]["infarct_mass_g"] == pytest.approx(by_hand)
    assert "edema_mass_g" not in study["intervals"]  # otsu knows none
    with pytest.raises(InputError, match="the study has no prediction"):
        mrigmm.quantify(out, members=[tmp_path / "none"])


def with_right_ventricle(workshop, **changes):
    """The tiny study with a right ventricle in its label that ends towards the last slice."""
    study = workshop.study()
    label = ventricle().astype(np.int16)
    x, y = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE[:2]), indexing="ij")
    for z, width in enumerate((1.2, 0.9, 0.6)):
        label[(np.hypot(x, y) > 6) & (abs(np.arctan2(y, x)) < width), z] = 9
    workshop.volume(study["label"], label)
    return workshop.manifest([study], labels={**LABELS, "rv_blood": 9}, **changes)


def test_segments_by_the_right_ventricle_of_the_reference(workshop, tmp_path):
    out = tmp_path / "out"
    manifest = with_right_ventricle(workshop)
    mrigmm.predict(manifest, out, method="map-em")
    assert content(out)["studies"]["s1"]["segments"] == []
    mrigmm.quantify(out, manifest=manifest)
    segments = content(out)["studies"]["s1"]["segments"]
    assert [row["segment"] for row in segments] == list(range(1, 17))
    # The infarct lies at 115 to 180 degrees of the array, the septum at 0.
    mean = np.mean([row["transmurality_percent"] for row in segments if row["segment"] in (2, 3, 8, 9)])
    assert mean == 0
    assert max(row["transmurality_percent"] for row in segments) > 50
    table = rows(out / "segments.csv")
    assert [row["segment"] for row in table[3:]] == [str(n) for n in range(1, 17)]


def test_segments_by_a_named_insertion(cli, predicted, tmp_path):
    _, out = predicted
    centre = oblique_affine() @ [(SHAPE[0] - 1) / 2, (SHAPE[1] - 1) / 2, 1, 1]
    point = centre + 7 * oblique_affine() @ [1, 0, 0, 0]
    points = tmp_path / "points.csv"
    points.write_text("study,x_mm,y_mm,z_mm\ns1," + ",".join(str(v) for v in point[:3]) + "\nother,0,0,0\n")
    assert cli("quantify", out, "--rv-insertion", points).code == 0
    assert content(out)["studies"]["s1"]["segments"] == []  # the base is not known
    assert cli("quantify", out, "--rv-insertion", points, "--base", "first").code == 0
    first = content(out)["studies"]["s1"]["segments"]
    mrigmm.quantify(out, rv_insertion=points, base="last")
    last = content(out)["studies"]["s1"]["segments"]
    # Seen from the other end the septum is on the other side: segments 1 and 2 change places.
    assert first[0]["transmurality_percent"] == pytest.approx(last[1]["transmurality_percent"], abs=2)
    assert [row["segment"] for row in first] == list(range(1, 17))


@pytest.mark.parametrize(
    "text",
    ["", "a,b\n", "study,x_mm,y_mm,z_mm\ns1,1,2\n", "study,x_mm,y_mm,z_mm\ns1,1,2,nan\n",
     "study,x_mm,y_mm,z_mm\ns1,1,2,3\ns1,1,2,3\n", "study,x_mm,y_mm,z_mm\ns1,1,2,x\n"],
)  # fmt: skip
def test_a_damaged_table_of_insertions(predicted, tmp_path, text):
    points = tmp_path / "points.csv"
    points.write_text(text)
    with pytest.raises(InputError, match="the insertions of the right ventricle cannot be read"):
        mrigmm.quantify(predicted[1], rv_insertion=points)


def test_obstruction_counts_once(workshop, tmp_path):
    manifest, core = obstruction(workshop)
    out = tmp_path / "out"
    mrigmm.predict(manifest, out, method="otsu")
    mrigmm.quantify(out, manifest=manifest)
    study = content(out)["studies"]["s1"]
    labels = np.asarray(nib.load(out / "s1_labels.nii.gz").dataobj)
    assert study["volumes"]["mvo_mass_g"] == pytest.approx(1.05 * VOXEL_ML * core.sum(), rel=1e-5)
    assert study["volumes"]["infarct_mass_g"] == pytest.approx(
        1.05 * VOXEL_ML * (labels == 4).sum(), rel=1e-5
    )
    assert study["reference"]["mvo_mass_g"] == pytest.approx(study["volumes"]["mvo_mass_g"])
    save_nifti(out / "s1_mvo.nii.gz", (labels == 2).astype(np.uint8), oblique_affine())
    mrigmm.quantify(out)
    study = content(out)["studies"]["s1"]
    assert study["volumes"]["mvo_mass_g"] == 0
    assert any("no scar in the label map" in note for note in study["notes"])


def test_a_file_whose_slices_are_not_last(workshop, tmp_path):
    """The same heart stored with the slices first has the same numbers, slice by slice."""
    out = tmp_path / "out"
    turned = np.moveaxis(ventricle(), -1, 0)
    out.mkdir()
    for name, data, affine in (
        ("a", ventricle(), oblique_affine()),
        ("b", turned, oblique_affine()[:, [2, 0, 1, 3]]),
    ):
        save_nifti(out / f"{name}_labels.nii.gz", data, affine)
        (out / f"{name}.json").write_text(json.dumps({"classes": {k: v for k, v in LABELS.items() if v}}))
    mrigmm.quantify(out)
    studies = content(out)["studies"]
    assert studies["a"]["volumes"] == pytest.approx(studies["b"]["volumes"], nan_ok=True)
    assert studies["a"]["slices"] == studies["b"]["slices"]


def test_other_organs(workshop, tmp_path):
    labels = {"background": 0, "grey": [1, 2], "lesion": [3, 4]}
    out = tmp_path / "out"
    mrigmm.predict(workshop.manifest(labels=labels), out, method="kmeans")
    study = content(out)["studies"]["s1"]
    assert set(study["volumes"]) == {"grey_ml", "lesion_ml", "expected_grey_ml", "expected_lesion_ml"}
    assert study["slices"] == []
    assert "volumes only" in study["notes"][0]


def test_a_single_study_is_measured_too(workshop, tmp_path):
    entry = workshop.study()
    images = {name: workshop.folder / file for name, file in entry["image"].items()}
    out = tmp_path / "out"
    mrigmm.predict_study(images, workshop.folder / entry["region"], out, study_id="s1", method="map-em")
    assert list(content(out)["studies"]) == ["s1"]


def test_nothing_to_measure(tmp_path, predicted):
    with pytest.raises(InputError, match="the folder of predictions does not exist"):
        mrigmm.quantify(tmp_path / "none")
    with pytest.raises(InputError, match="one end of the files"):
        mrigmm.quantify(predicted[1], base="top")
    with pytest.raises(InputError, match="belongs to a manifest"):
        mrigmm.quantify(predicted[1], data_root=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"quantities": []},
        {"quantities": {"volumes": {"a": "x"}, "intervals": {}, "slices": [], "segments": [], "notes": []}},
        {"quantities": {"volumes": {}, "intervals": {"a": [1]}, "slices": [], "segments": [], "notes": []}},
        {"volume_ml": {"scar": "x"}},
        {"classes": None},
    ],
)
def test_a_damaged_side_file(predicted, change):
    manifest, out = predicted
    side = json.loads((out / "s1.json").read_text())
    (out / "s1.json").write_text(json.dumps(side | change))
    with pytest.raises(InputError, match="the side file of the prediction is damaged"):
        mrigmm.quantify(out, manifest=manifest)


@pytest.mark.parametrize("name", ["s1_probabilities.nii.gz", "s1_mvo.nii.gz"])
def test_maps_on_another_grid(predicted, name):
    _, out = predicted
    data = np.zeros((*SHAPE, 4)) if "prob" in name else np.zeros(SHAPE, np.uint8)
    save_nifti(out / name, data, oblique_affine(origin_mm=(0, 0, 0)))
    with pytest.raises(InputError, match="is not on the grid"):
        mrigmm.quantify(out)


@pytest.mark.parametrize("data", [np.zeros((*SHAPE, 3)), np.full((*SHAPE, 4), np.nan)])
def test_probabilities_that_are_none(predicted, data):
    _, out = predicted
    save_nifti(out / "s1_probabilities.nii.gz", data.astype(np.float32), oblique_affine())
    with pytest.raises(InputError, match="the probability map"):
        mrigmm.quantify(out)


def test_one_bad_study_does_not_stop_the_others(cli, workshop, tmp_path):
    manifest = workshop.manifest([workshop.study("a"), workshop.study("b"), workshop.study("c")])
    out = tmp_path / "out"
    mrigmm.predict(manifest, out, method="map-em")
    (out / "a.json").write_text("{")
    (workshop.folder / "b_label.nii.gz").write_text("no NIfTI")
    done = cli("quantify", out, "--manifest", manifest)
    assert done.code == 2
    assert list(content(out)["studies"]) == ["c"]
    # Predicting another study measures what is in order, and tells what is not.
    mrigmm.predict(manifest, out, method="map-em", overwrite=True)
    assert list(content(out)["studies"]) == ["a", "b", "c"]


def test_an_old_folder_that_predict_adds_to(workshop, tmp_path):
    """A side file of an earlier version has no numbers; a damaged one is told."""
    out = tmp_path / "out"
    first = workshop.manifest([workshop.study("a"), workshop.study("b")])
    mrigmm.predict(first, out, method="map-em")
    side = json.loads((out / "a.json").read_text())
    del side["quantities"]
    (out / "a.json").write_text(json.dumps(side))
    (out / "b.json").write_text("{")
    second = workshop.manifest([workshop.study("c", affine=PATIENT)], name="second.json")
    result = mrigmm.predict(second, out, method="map-em", overwrite=True)
    assert not result.failed
    assert [(p.study, p.severity) for p in result.problems] == [("b", "warning")]
    assert list(content(out)["studies"]) == ["c"]
