"""Headers that name two voxel sizes, another unit, or axes that ITK programs refuse."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own name
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import load_study
from mrigmm.data.volumes import read_map
from mrigmm.errors import InputError

from ...conftest import Workshop, oblique_affine, save_nifti
from ..cases import ALL_FILES, SHAPE, TRUTH, Place, every, messages, patched, place_in
from ..test_properties import examples

KIND = "scale of the header"
CHECK = "The voxel size by the sform's columns, by pixdim, by the qform and by the unit are compared."

ONE_MM = np.diag([-1.0, -1.0, 1.0, 1.0])
TWO_SIZES = (
    "has two voxel sizes in its header: 1.2 x 1.2 x 10 mm (pixdim) was taken, and not 1 x 1 x 1 mm (sform)"
)


def viewer(role):
    """The sform that some viewers write: 1 mm, whatever pixdim and qform say."""
    return patched(role, srow_x=("12f", tuple(ONE_MM[:3].ravel())))


def numbers(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "quantities.csv").open(newline="") as file:
        return {row["study"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def predicted(tmp_path_factory) -> Place:
    """Twice the same study, "good" as it is and "bad" with sforms of 1 mm, segmented and evaluated."""
    place = place_in(tmp_path_factory.mktemp("scale"))
    # A reference that is moved by a voxel, so that there are distances.
    save_nifti(place.folder / place.good["label"], np.roll(TRUTH, 1, axis=0), oblique_affine())
    for role in ALL_FILES:
        good = place.good[role] if role in ("region", "label") else place.good["image"][role]
        shutil.copy(place.folder / good, place.file(role))
        viewer(role)(place)
    manifest = place.manifest()
    mrigmm.predict(manifest, place.out, method="map-em")
    mrigmm.evaluate(place.out, manifest)
    return place


def test_an_sform_of_1_mm(predicted):
    """sform of 1 mm beside pixdim and qform of 1.2 x 1.2 x 10 mm -> numbers by pixdim, and a warning"""
    found = numbers(predicted.out)
    assert float(found["bad"]["lv_mass_g"]) == pytest.approx(float(found["good"]["lv_mass_g"]), rel=1e-4)
    studies = json.loads((predicted.out / "metrics.json").read_text())["studies"]
    assert studies["good"]["wall"]["hd95_mm"] == pytest.approx(1.2, rel=1e-4)
    for one, two in zip(studies["good"].values(), studies["bad"].values(), strict=True):
        assert two["hd95_mm"] == pytest.approx(one["hd95_mm"], rel=1e-4, nan_ok=True)
        assert two["nsd_2mm"] == pytest.approx(one["nsd_2mm"], rel=1e-4, nan_ok=True)
    side = json.loads((predicted.out / "bad.json").read_text())
    assert f"LGE {TWO_SIZES}" in side["warnings"]


def test_check_names_both_sizes_and_the_file(cli, predicted):
    """the same, `check` -> a warning with both sizes, study and file"""
    result = cli("check", predicted.manifest(), "--json")
    said = [p for p in json.loads(result.out)["problems"] if TWO_SIZES in p["what"]]
    assert {(p["study"], p["severity"]) for p in said} == {("bad", "warning")}
    assert {p["file"] for p in said} == {str(predicted.file(role)) for role in ALL_FILES}


def test_the_label_map_lies_on_the_image_in_every_program(predicted):
    """the same, label map -> the header of the image: on it by sform and in ITK programs"""
    path = predicted.out / "bad_labels.nii.gz"
    labels, image = nib.load(path), nib.load(predicted.file("LGE"))
    for form in ("sform", "qform"):
        np.testing.assert_array_equal(
            getattr(labels.header, f"get_{form}")(), getattr(image.header, f"get_{form}")()
        )
    seen, of = sitk.ReadImage(str(path)), sitk.ReadImage(str(predicted.file("LGE")))
    assert (seen.GetSpacing(), seen.GetOrigin()) == (of.GetSpacing(), of.GetOrigin())
    assert read_map(path, study="bad", role="label").grid.voxel_volume_ml == pytest.approx(0.0144, rel=1e-4)


def test_everything_in_mm_follows(predicted):
    """the same, training and thresholds in mm -> the study in memory has pixdim's voxels"""
    cohort = read_manifest(predicted.manifest())
    good, bad = (
        load_study(study, cohort.sequences, cohort.classes, labels=cohort.labels)
        for study in cohort.splits["test"]
    )
    assert good.spacing_mm == pytest.approx((1.2, 1.2, 10), rel=1e-4)
    assert bad.spacing_mm == pytest.approx(good.spacing_mm, rel=1e-4)


def redrawn(source: Path, target: Path) -> None:
    """A map saved by an ITK program: it has the header that ITK makes of the one that it read."""
    sitk.WriteImage(sitk.ReadImage(str(source)), str(target))


def resaved(source: Path, target: Path) -> None:
    """A map saved by a program that reads the sform alone."""
    image = nib.load(source)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine), target)


@pytest.mark.parametrize("program", [redrawn, resaved])
@pytest.mark.parametrize("code", [1, 2])
def test_maps_of_other_programs_fit(predicted, tmp_path, program, code):
    """maps on such an image, saved by ITK or by a program that reads the sform -> fit; the same numbers"""
    shutil.copytree(predicted.folder, tmp_path / "data")
    shutil.copytree(predicted.out, tmp_path / "out")
    place = Place(Workshop(tmp_path / "data"), predicted.good, predicted.bad, tmp_path / "out")
    for role in ("LGE", "T2", "bSSFP"):  # ITK takes the sform's directions for code 1, else the qform's
        patched(role, sform_code=("h", code))(place)
    for path in (place.file("region"), place.file("label"), place.out / "bad_labels.nii.gz"):
        program(path, path)
    manifest = place.manifest()
    mrigmm.evaluate(place.out, manifest)
    before, after = (
        json.loads((out / "metrics.json").read_text())["studies"]["bad"] for out in (predicted.out, place.out)
    )
    for one, two in zip(before.values(), after.values(), strict=True):
        assert two["dice"] == one["dice"]
        assert two["hd95_mm"] == pytest.approx(one["hd95_mm"], rel=1e-4, nan_ok=True)
    again = mrigmm.predict(manifest, tmp_path / "again", method="map-em")
    assert [*again.done] == ["good", "bad"]
    mass = [float(numbers(out)["bad"]["lv_mass_g"]) for out in (predicted.out, tmp_path / "again")]
    assert mass[1] == pytest.approx(mass[0], rel=1e-4)


def test_sizes_that_none_confirms(cli, place):
    """sform and pixdim of two sizes, neither of 1 mm, and no qform -> refused with both sizes"""
    every(ALL_FILES, lambda role: patched(role, qform_code=("h", 0)))(place)
    patched("LGE", pixdim=("4f", (1, 1.5, 1.5, 8.0)))(place)
    result = cli("predict", place.manifest(), "-o", place.out, "--method", "map-em")
    assert result.code == 2
    (message,) = messages(result.err)
    assert message["what"] == "LGE has two voxel sizes in its header, and either may be right"
    assert (message["study"], message["file"]) == ("bad", str(place.file("LGE")))
    assert message["got"] == "1.2 x 1.2 x 10 mm (sform), 1.5 x 1.5 x 8 mm (pixdim; there is no qform)"


def in_cm(place, unit):
    for role in ALL_FILES:
        place.volume(role, place.data(role), np.diag([0.1, 0.1, 0.1, 1]) @ oblique_affine())
        patched(role, xyzt_units=("B", unit))(place)


def test_cm_in_a_header_without_unit(cli, place):
    """lengths in cm, and no unit in the header -> refused, saying what it looks like"""
    in_cm(place, 0)
    result = cli("predict", place.manifest(), "-o", place.out, "--method", "map-em")
    message = messages(result.err)[0]
    assert (result.code, message["what"]) == (2, "LGE has lengths that look like cm")
    assert "0.12 x 0.12 x 1 mm" in message["got"]
    assert "multiply the affine by 10" in message["remedy"]


def test_cm_in_a_header_that_says_mm(cli, place):
    """lengths in cm in a header that says mm -> read as mm, as a mouse's would be, with a warning"""
    in_cm(place, 2)
    result = cli("predict", place.manifest(), "-o", place.out, "--method", "map-em")
    assert result.code == 0
    assert "if these are cm, volumes and masses are 1000 times too small" in " ".join(result.err.split())


def test_axes_that_itk_refuses(cli, place):
    """axes rounded to two digits, no qform -> read; `check` says that ITK refuses it; ITK opens the map"""
    rows = oblique_affine()[:3].copy()
    rows[:, :3] = np.round(rows[:, :3], 2)
    for role in ALL_FILES:
        patched(role, qform_code=("h", 0), srow_x=("12f", tuple(rows.ravel())))(place)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(place.file("LGE")))
    checked = cli("check", place.manifest(), "--json")
    said = [p for p in json.loads(checked.out)["problems"] if p["what"].startswith("ITK programs")]
    assert {(p["study"], p["severity"]) for p in said} == {("bad", "note")}
    assert checked.code == 0
    mrigmm.predict(place.manifest(), place.out, method="map-em")
    path = place.out / "bad_labels.nii.gz"
    seen = sitk.ReadImage(str(path))
    np.testing.assert_allclose(seen.GetSpacing(), (1.2, 1.2, 10), rtol=0.01)
    labels = nib.load(path)
    np.testing.assert_array_equal(labels.affine, nib.load(place.file("LGE")).affine)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(seen).T, np.asarray(labels.dataobj))


SIZES = st.tuples(st.floats(0.6, 3.0), st.floats(0.6, 3.0), st.floats(5.0, 12.0))
# What a form or pixdim says in place of the true size.
LIES = st.sampled_from(["true", "1 mm", "cm", "metres", "another"])


@examples(150)
@given(
    size=SIZES,
    other=SIZES,
    angle=st.integers(0, 1000),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    sform=LIES,
    pixdim=LIES,
    forms=st.sampled_from(["both", "sform", "qform"]),
    unit=st.sampled_from([(0, 1.0), (2, 1.0), (1, 1e-3), (3, 1e3)]),
    nifti2=st.booleans(),
    shape=st.sampled_from([SHAPE, (24, 20, 1), (30, 30)]),
)
def test_one_volume_or_none(
    tmp_path_factory, size, other, angle, origin, sform, pixdim, forms, unit, nifti2, shape
):
    """any sform, qform, pixdim and unit of the same voxels (hypothesis) -> the same ml, or refused"""
    # One of the sources may lie; qform and pixdim are one source, since a qform has pixdim's lengths.
    if forms == "qform" or sform != "true":
        pixdim = "true"
    if pixdim == "another" and forms == "both":
        pixdim = "1 mm"  # what two of the three say is believed
    says = {
        "true": np.array(size),
        "1 mm": np.ones(3),
        "cm": 0.1 * np.array(size),
        "metres": 1e-3 * np.array(size),
        "another": np.array(other),
    }
    code, factor = unit
    turn = Rotation.random(random_state=angle).as_matrix()
    place = np.append(np.array(origin) * factor, 1.0)

    def affine(lengths):
        return np.column_stack([np.vstack([turn * lengths * factor, np.zeros(3)]), place])

    header = (nib.Nifti2Header if nifti2 else nib.Nifti1Header)()
    header.set_data_shape(shape)
    header.set_qform(affine(says[pixdim]), 0 if forms == "sform" else 1)
    header.set_sform(affine(says[sform]), 0 if forms == "qform" else 1)
    header["xyzt_units"] = code
    path = tmp_path_factory.getbasetemp() / "one_volume.nii"
    data = np.ones(shape, np.uint8)
    (nib.Nifti2Image if nifti2 else nib.Nifti1Image)(data, None, header).to_filename(path)
    refused = None
    try:
        grid = read_map(path, study="s", role="region").grid
    except InputError as error:
        refused = error.problems[0]
    if refused is not None:
        assert refused.remedy
        assert (sform, pixdim) != ("true", "true")
        return
    if len(shape) < 3 or shape[2] == 1:  # the thickness of one slice has no second witness
        assert grid.spacing_mm[:2] == pytest.approx(size[:2], rel=0.011)
        return
    assert grid.voxel_volume_ml == pytest.approx(np.prod(size) / 1000, rel=0.031)  # three axes within 1 %
    np.testing.assert_allclose(grid.affine[:3, 3], origin, rtol=1e-3, atol=1e-3)


def test_the_case_of_50_g(tmp_path, cli):
    """ACDC as given out: sform of 1 mm, pixdim and qform of 1.316 x 1.316 x 10 mm -> 50.0 g, not 2.9 g"""
    folder = tmp_path / "D" / "training" / "patient100"
    y, x = np.mgrid[:64, :64] - 32
    radius = np.hypot(x, y)[..., None] + np.zeros(4)
    label = np.select([radius < 12, radius < 19], [3, 2], 0).astype(np.uint8)
    image = np.select([radius < 12, radius < 19], [800, 200], 400)
    image = image + np.random.default_rng(0).normal(0, 40, radius.shape)
    for name, data in (("_frame01", image.astype(np.int16)), ("_frame01_gt", label)):
        path = save_nifti(folder / f"patient100{name}.nii.gz", data, np.diag([-1.31579, -1.31579, 10, 1]))
        stored = nib.load(path)
        stored.header.set_sform(ONE_MM, 1)
        nib.Nifti1Image(np.asarray(stored.dataobj), None, stored.header).to_filename(path)
    (folder / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: NOR\n")
    manifest = tmp_path / "D" / "m.json"
    made = cli("manifest", "acdc", tmp_path / "D", "-o", manifest, "--region-from-labels", "cavity-wall")
    assert made.code == 0
    mrigmm.predict(manifest, tmp_path / "P", method="map-em", split="all")
    (row,) = numbers(tmp_path / "P").values()
    # 688 pixels of wall in each of 4 slices: 688 x 4 x 0.0173130 ml x 1.05 g/ml
    assert float(row["lv_mass_g"]) == pytest.approx(50.03, abs=0.05)
