"""Points of the right ventricle in another coordinate system, of another study, or without effect."""

import json

import numpy as np
import pytest

import mrigmm
from mrigmm.errors import InputError

from ...conftest import LABELS, SHAPE, oblique_affine, save_nifti, ventricle

KIND = "insertion points and base"
CHECK = "points and base as the user names them, and place, ids and shape of the ventricles in the maps"

# Far enough from the isocentre for LPS to lie elsewhere, and the same near to it.
FAR, NEAR = (31.0, -17.5, 42.25), (15.0, 2.0, 42.25)


def maps(folder, origin_mm=FAR, studies=("s_1", "s_2"), labels=None):
    """Label maps of another program, whose side files name the classes only."""
    folder.mkdir()
    affine = oblique_affine(origin_mm=origin_mm)
    for name in studies:
        save_nifti(folder / f"{name}_labels.nii.gz", ventricle() if labels is None else labels, affine)
        (folder / f"{name}.json").write_text(json.dumps({"classes": {k: v for k, v in LABELS.items() if v}}))
    return affine


def insertion(affine):
    """A point (3,) 7 voxels from the centre: one outside the wall."""
    return (affine @ [(SHAPE[0] - 1) / 2 + 7, (SHAPE[1] - 1) / 2, 1, 1])[:3]


def table(file, points):
    lines = [",".join([name, *(f"{v:.3f}" for v in point)]) for name, point in points.items()]
    file.write_text("\n".join(["study,x_mm,y_mm,z_mm", *lines]) + "\n")
    return file


def both(point):
    return {"s_1": point, "s_2": point}


def segments(folder):
    studies = json.loads((folder / "quantities.json").read_text())["studies"]
    return {
        name: [row["transmurality_percent"] for row in found["segments"]] for name, found in studies.items()
    }


LPS = np.array([-1, -1, 1])


def told(result):
    """Problems of points and base; so small a ventricle is a warning of its own."""
    return [p for p in result.problems if "insertion" in p.what or "--base" in p.what]


def test_right_points(tmp_path):
    """points in RAS; the same as LPS in a file of 3D Slicer -> 16 segments, the same by both"""
    affine = maps(tmp_path / "out")
    point = insertion(affine)
    result = mrigmm.quantify(
        tmp_path / "out", rv_insertion=table(tmp_path / "p.csv", both(point)), base="first"
    )
    assert told(result) == []
    expected = segments(tmp_path / "out")
    assert {len(found) for found in expected.values()} == {16}
    markup = {"coordinateSystem": "LPS"}
    markup["controlPoints"] = [{"label": s, "position": [*(point * LPS)]} for s in ("s_1", "s_2")]
    (tmp_path / "p.mrk.json").write_text(json.dumps({"markups": [markup]}))
    mrigmm.quantify(tmp_path / "out", rv_insertion=tmp_path / "p.mrk.json", base="first")
    assert segments(tmp_path / "out") == expected


def test_points_in_lps(cli, tmp_path):
    """points in LPS in a table of RAS, 40 mm away -> refused once for all; the flipped one fits"""
    affine = maps(tmp_path / "out", origin_mm=(60.0, -40.0, 42.0))
    file = table(tmp_path / "p.csv", both(insertion(affine) * LPS))
    done = cli("quantify", tmp_path / "out", "--rv-insertion", file, "--base", "first")
    assert done.code == 2
    assert done.err.count("lies more than 40 mm from the left one") == 1
    assert "s_1, s_2" in done.err
    assert "read as LPS+, as 3D Slicer writes it, it fits" in done.err
    assert not (tmp_path / "out" / "quantities.json").exists()


def test_one_point_in_lps(tmp_path):
    """one of two points in LPS -> that study is refused, the other measured"""
    affine = maps(tmp_path / "out", origin_mm=(60.0, -40.0, 42.0))
    point = insertion(affine)
    file = table(tmp_path / "p.csv", {"s_1": point, "s_2": point * LPS})
    result = mrigmm.quantify(tmp_path / "out", rv_insertion=file, base="first")
    assert result.done == ("s_1",)
    assert [(p.study, p.severity) for p in told(result)] == [("s_2", "error")]


def test_a_point_of_something_else(tmp_path):
    """a point 100 mm away by either reading -> refused, and no other reading is offered"""
    affine = maps(tmp_path / "out")
    file = table(tmp_path / "p.csv", both(insertion(affine) + np.array([0, 0, 100])))
    with pytest.raises(InputError, match="more than 40 mm") as caught:
        mrigmm.quantify(tmp_path / "out", rv_insertion=file, base="first")
    assert caught.value.problems[0].remedy == "check the point, and that it belongs to this study"


def test_a_heart_at_the_isocentre(tmp_path):
    """points in LPS less than 40 mm away -> a warning that the other reading is at the wall"""
    affine = maps(tmp_path / "out", origin_mm=NEAR)
    file = table(tmp_path / "p.csv", both(insertion(affine) * LPS))
    problems = told(mrigmm.quantify(tmp_path / "out", rv_insertion=file, base="first"))
    assert [(p.study, p.severity) for p in problems] == [("s_1", "warning"), ("s_2", "warning")]
    assert "more than 15 mm" in problems[0].what
    assert "LPS+" in problems[0].what


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (("s-1", "S_2"), "did you mean s_1?"),
        (("x", "y"), "known names: s_1, s_2"),
        (("s_1", "S2"), "did you mean s_2?"),
    ],
)
def test_ids_of_no_study(tmp_path, names, remedy):
    """ids that no study has, or has in another spelling -> refused, with the id that is meant"""
    affine = maps(tmp_path / "out")
    file = table(tmp_path / "p.csv", dict.fromkeys(names, insertion(affine)))
    with pytest.raises(InputError, match="named after no study") as caught:
        mrigmm.quantify(tmp_path / "out", rv_insertion=file, base="first")
    assert caught.value.problems[0].remedy == remedy


def test_points_of_other_studies(tmp_path):
    """points of a larger cohort -> used; told only where a study has none"""
    affine = maps(tmp_path / "out")
    point = insertion(affine)
    larger = table(tmp_path / "p.csv", {**both(point), "other": point})
    assert told(mrigmm.quantify(tmp_path / "out", rv_insertion=larger, base="first")) == []
    fewer = table(tmp_path / "q.csv", {"s_1": point, "other": point})
    found = [p.what for p in told(mrigmm.quantify(tmp_path / "out", rv_insertion=fewer, base="first"))]
    assert "no prediction here: other; studies without a point: s_2" in found[0]
    assert "--base has no effect on s_2" in found[1]


def test_without_effect(tmp_path):
    """`--base` or points alone -> no segments, and what is missing"""
    affine = maps(tmp_path / "out")
    (found,) = told(mrigmm.quantify(tmp_path / "out", base="first"))
    assert "--base has no effect on s_1, s_2" in found.what
    file = table(tmp_path / "p.csv", both(insertion(affine)))
    (found,) = told(mrigmm.quantify(tmp_path / "out", rv_insertion=file))
    assert "--rv-insertion has no effect on s_1, s_2" in found.what
    assert "--base first or last" in found.what


def test_the_wrong_end(tmp_path):
    """`--base` at the end where the ventricle is small -> a warning"""
    labels = ventricle()
    x, y = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE[:2]), indexing="ij")
    labels[np.hypot(x, y) > 4, 2] = 0  # the last slice is the apex
    maps(tmp_path / "out", labels=labels)
    for base, number in (("first", 0), ("last", 2)):
        found = told(mrigmm.quantify(tmp_path / "out", base=base))
        assert sum("may be the other end: the left ventricle is larger" in p.what for p in found) == number


def test_a_mirrored_file_beside_the_right_ventricle_of_the_reference(tmp_path):
    """a header that mirrors the heart, and the right ventricle in the reference -> segments with a warning"""
    labels = ventricle()
    x, y = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE[:2]), indexing="ij")
    reference = labels.astype(np.uint8)
    for z, width in enumerate((1.2, 0.9, 0.6)):  # to the patient's right, narrowing to the last slice
        reference[(np.hypot(x, y) > 6) & (abs(np.arctan2(y, x)) < width), z] = 9
    for name, to_apex, mirrored in (("right", 10.0, False), ("mirrored", -10.0, True)):
        affine = np.array([[4.5, 0, 0, 0], [0, 0, to_apex, 0], [0, 4.5, 0, 0], [0, 0, 0, 1]])
        folder = tmp_path / name
        folder.mkdir()
        save_nifti(folder / "s_labels.nii.gz", labels, affine)
        save_nifti(folder / "reference.nii.gz", reference, affine)
        (folder / "s.json").write_text(json.dumps({"classes": {k: v for k, v in LABELS.items() if v}}))
        study = {"id": "s", "image": ["s_labels.nii.gz"], "label": "reference.nii.gz"}
        content = {"modality": {"0": "LGE"}, "labels": {**LABELS, "rv_blood": 9}, "test": [study]}
        (folder / "manifest.json").write_text(json.dumps(content))
        result = mrigmm.quantify(folder, manifest=folder / "manifest.json")
        assert len(segments(folder)["s"]) == 16
        warned = [p.what for p in result.problems if "may be exchanged" in p.what]
        assert bool(warned) is mirrored
