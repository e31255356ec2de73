import numpy as np
import pytest

import mrigmm
from mrigmm.errors import InputError

from ..conftest import SHAPE, oblique_affine, ventricle


def found(result):
    return [(p.study, p.severity, p.what) for p in result.problems]


def test_a_good_cohort(cohort):
    result = mrigmm.check(cohort)
    assert result.problems == ()
    assert len(result.done) == 4
    assert not result.failed


def test_every_problem_of_every_study(workshop):
    entries = [
        workshop.study(name) for name in ("good", "two files", "grids", "empty", "label", "part", "none")
    ]
    (workshop.folder / "two files_T2.nii.gz").write_bytes(b"")
    (workshop.folder / "two files_bSSFP.nii.gz").unlink()
    workshop.volume("two files_label.nii.gz", ventricle() * 2)
    workshop.volume("grids_bSSFP.nii.gz", np.ones(SHAPE), oblique_affine(origin_mm=(500, 0, 0)))
    workshop.volume("empty_region.nii.gz", np.zeros(SHAPE, np.uint8))
    workshop.volume("label_label.nii.gz", ventricle() + 0.5)
    entries[5]["image"] = {"LGE": entries[5]["image"]["LGE"]}
    entries[6]["region"] = None
    result = mrigmm.check(workshop.manifest(entries))
    assert found(result) == [
        ("two files", "error", "the T2 file is not a NIfTI file"),
        ("two files", "error", "the bSSFP file does not exist"),
        ("two files", "error", "the label map has an unknown class id"),
        ("grids", "error", "bSSFP does not show the region: its grid lies elsewhere"),
        ("empty", "error", "the region is empty"),
        ("label", "error", "the label map has values that are no whole numbers"),
        ("part", "warning", "no T2"),
        ("part", "warning", "no bSSFP"),
        ("part", "warning", "edema cannot be told reliably without T2"),
        ("none", "error", "the study has no region map, and a mixture is fitted inside one"),
    ]
    assert result.done == ("good", "part")
    assert result.failed


def test_a_bad_file_does_not_hide_what_is_wrong_with_the_others(workshop):
    entry = workshop.study()
    (workshop.folder / "s1_T2.nii.gz").write_bytes(b"")
    workshop.volume("s1_region.nii.gz", np.ones((4, 4, 4), np.uint8))
    result = mrigmm.check(workshop.manifest([entry]))
    assert found(result) == [
        ("s1", "error", "the T2 file is not a NIfTI file"),
        ("s1", "error", "the region map is not on the grid of the reference sequence"),
    ]


def test_without_its_reference_sequence_a_study_is_not_judged_by_another(workshop):
    entry = workshop.study()
    (workshop.folder / "s1_LGE.nii.gz").write_bytes(b"")
    affine = oblique_affine((0.9, 0.9, 10.0))  # on a grid of its own, which is fine
    workshop.volume("s1_T2.nii.gz", np.ones((30, 30, 3), np.float32), affine)
    result = mrigmm.check(workshop.manifest([entry]))
    assert found(result) == [("s1", "error", "the LGE file is not a NIfTI file")]


def test_structural_errors_are_problems_too(workshop):
    result = mrigmm.check(workshop.manifest([workshop.study()], tset=[], labels={"blood": "x"}))
    assert [what for _, _, what in found(result)] == ["unknown key 'tset'", "label 'blood' has no valid id"]
    assert result.done == ()


def test_what_prediction_would_say_about_the_cohort(workshop):
    entry = workshop.study()
    entry["image"] = {"DE": entry["image"]["LGE"]}
    result = mrigmm.check(workshop.manifest([entry], modality={"0": "DE"}))
    assert [f for f in found(result) if f[1] == "error"] == [(None, "error", "unknown sequence name 'DE'")]
    assert result.problems[0].remedy == "name it LGE"


def test_a_region_from_the_label_is_worth_a_note(workshop):
    entry = {**workshop.study(), "region": {"rule": "lv"}}
    result = mrigmm.check(workshop.manifest([entry]))
    assert found(result) == [("s1", "warning", "the region comes from the reference label")]
    assert result.done == ("s1",)


def test_nothing_to_check(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        mrigmm.check(tmp_path / "no.json")


def test_the_reference_label_as_region_is_worth_the_same_note(workshop):
    entry = workshop.study()
    workshop.volume(entry["label"], np.minimum(ventricle(), 2))
    result = mrigmm.check(workshop.manifest([{**entry, "region": entry["label"]}]))
    assert ("s1", "warning", "the region comes from the reference label") in found(result)
