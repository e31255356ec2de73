"""Region maps that are maps of something else, or drawn the wrong way round."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mrigmm
from mrigmm.data.geometry import Grid
from mrigmm.data.quality import codes_slices_last, exchanged, implausible_size, slice_shapes
from mrigmm.data.quality.topology import doubtful_parts
from mrigmm.labels import Region

from ...test_real_data import real_folder

KIND = "Parts of the region map"
CHECK = (
    "The ids of a region map are compared with where its parts lie: a cavity inside a wall, in every slice."
)

AFFINE = np.diag([1.5, 1.5, 10.0, 1.0])
N_SLICES = 6


def ring(cavity=1, wall=2):
    """Region ids (X, Y, Z): cavity of radius 18 mm in a wall of 10 mm."""
    x, y = (np.indices((52, 52)) - 25.5) * 1.5
    r = np.hypot(x, y)
    return np.repeat(np.select([r < 18, r < 28], [cavity, wall], 0)[..., None], N_SLICES, 2).astype(np.uint8)


def write(folder: Path, region: np.ndarray) -> Path:
    """A manifest of one study of LGE whose scar lies at one side."""
    folder.mkdir(exist_ok=True)
    truth = ring()
    values = np.array([300.0, 500.0, 150.0])[truth]
    values[34:][truth[34:] == 2] = 600
    values += np.random.default_rng(0).normal(0, 30, truth.shape)
    nib.Nifti1Image(values.astype(np.float32), AFFINE).to_filename(folder / "LGE.nii.gz")
    nib.Nifti1Image(region, AFFINE).to_filename(folder / "region.nii.gz")
    study = {"id": "s", "image": ["LGE.nii.gz"], "region": "region.nii.gz"}
    path = folder / "manifest.json"
    path.write_text(json.dumps({"modality": {"0": "LGE"}, "labels": "mrigmm", "training": [study]}))
    return path


def test_ids_exchanged(cli, tmp_path):
    """1 = wall and 2 = cavity -> refused by check, predict and train, with a command that exchanges them"""
    manifest = write(tmp_path / "in", ring(cavity=2, wall=1))
    what = "cavity and wall are exchanged: the region map's 2 lies inside its 1"
    single = (
        "--image",
        f"LGE={tmp_path / 'in' / 'LGE.nii.gz'}",
        "--region",
        tmp_path / "in" / "region.nii.gz",
    )
    for command in (
        ("check", manifest, "--json"),
        ("predict", manifest, "--split", "training", "-o", tmp_path / "p", "--method", "map-em"),
        ("predict", *single, "-o", tmp_path / "q", "--method", "map-em"),
        ("train", manifest, "-o", tmp_path / "r", "--preset", "tiny"),
    ):
        ended = cli(*command)
        assert ended.code != 0
        assert what in ended.out + ended.err
        assert "np.array([0, 2, 1]" in ended.out + ended.err
    assert not list(tmp_path.glob("*/*_labels.nii.gz"))


def test_the_remedy_is_right(tmp_path):
    """1 = wall and 2 = cavity, exchanged as the message says -> the same map as one drawn rightly"""
    manifest = write(tmp_path, ring(cavity=2, wall=1))
    (problem,) = [p for p in mrigmm.check(manifest).problems if p.severity == "error"]
    code = problem.remedy.split('"')[1]
    files = ["", str(tmp_path / "region.nii.gz"), str(tmp_path / "new.nii.gz")]
    exec(code.replace(", sys;", ";"), {"sys": type("sys", (), {"argv": files})})
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "new.nii.gz").dataobj), ring())


def test_ids_exchanged_in_a_mask(tmp_path):
    """a label map whose ids of blood and wall are exchanged, `measure` -> refused; the others are measured"""
    (tmp_path / "masks").mkdir()
    for name, mask in (("right", ring()), ("wrong", ring(cavity=2, wall=1))):
        nib.Nifti1Image(mask, AFFINE).to_filename(tmp_path / "masks" / f"{name}.nii.gz")
    found = mrigmm.measure(tmp_path / "masks", tmp_path / "out", labels="blood=1,myocardium=2")
    assert [*found.studies] == ["right"]
    (told,) = (p for p in found.problems if p.severity == "error")
    assert (told.study, told.what.split(":")[0]) == ("wrong", "cavity and wall are exchanged")
    assert not (tmp_path / "out" / "wrong_labels.nii.gz").exists()


def test_ids_exchanged_in_labels(workshop):
    """ "labels" name blood as myocardium and the reverse, and the region follows them -> refused"""
    labels = {"background": 0, "blood": [2, 3, 4], "myocardium": 1}
    entry = {**workshop.study(), "region": {"rule": "cavity-wall"}}
    (error,) = [
        p for p in mrigmm.check(workshop.manifest([entry], labels=labels)).problems if p.severity == "error"
    ]
    assert error.what.startswith("cavity and wall are exchanged")
    assert "under 'labels'" in error.remedy


def one_slice(change):
    """A region whose third slice was changed."""
    region = ring()
    region[..., 2] = change(region[..., 2])
    return region


def open_slice(plane):
    plane[30:, 20:32][plane[30:, 20:32] == 2] = 0
    return plane


def apart(plane):
    plane[:6, :6] = 2
    return plane


def crescent():
    x, y = (np.indices((52, 52)) - 25.5) * 1.5
    plane = (np.hypot(x - 6, y) < 30) & (np.hypot(x + 12, y) > 28)
    return np.repeat(plane[..., None], N_SLICES, 2).astype(np.uint8)


CASES = {
    "cavity alone": (lambda: one_slice(lambda p: (p > 0) * 1), "cavity without wall", "slice 3"),
    "apex undivided": (
        lambda: np.concatenate([ring()[..., 1:], (ring()[..., :1] > 0).astype(np.uint8)], 2),
        "cavity without wall",
        "slice 6",
    ),
    "wall alone": (lambda: one_slice(lambda p: (p > 0) * 2), "wall without cavity", "slice 3"),
    "open cavity": (lambda: one_slice(open_slice), "not enclosed by wall", "slice 3"),
    "empty slice": (lambda: one_slice(lambda p: p * 0), "has a gap", "slice 3"),
    "two parts": (lambda: one_slice(apart), "two parts", "slice 3"),
    "ring of 1": (lambda: ring(cavity=0, wall=1), "is a ring", "slices 1 to 6"),
    "crescent": (crescent, "not round", None),
}


@pytest.fixture(scope="module", params=[*CASES])
def told(request, tmp_path_factory):
    """What check, predict with a manifest and without, and the side file say of a case."""
    folder = tmp_path_factory.mktemp("case")
    make, what, where = CASES[request.param]
    manifest = write(folder / "in", make())
    files = {"LGE": folder / "in" / "LGE.nii.gz"}
    checked = mrigmm.check(manifest)
    cohort = mrigmm.predict(manifest, folder / "p", split="training", method="map-em")
    single = mrigmm.predict_study(files, folder / "in" / "region.nii.gz", folder / "q", method="map-em")
    return what, where, checked, cohort, single, folder


def test_doubtful_parts_are_one_warning_everywhere(told):
    """a part missing, open, apart, or of another shape -> one warning with the slices, in every command"""
    what, where, *results, folder = told
    for result in results:
        assert not result.failed
        (problem,) = [p for p in result.problems if what in p.what]
        assert problem.severity == "warning"
        assert where is None or problem.got == f"{where} (from 1)"
    (side,) = (folder / "p").glob("s.json")
    assert [what in line for line in json.loads(side.read_text())["warnings"]].count(True) == 1
    assert what in mrigmm.report(folder / "p").output.read_text()


def test_an_outflow_tract_and_an_apex_are_usual(tmp_path):
    """base open by a quarter, apex of wall alone -> one note and no warning"""
    region = ring()
    region[..., 0] = open_slice(region[..., 0])
    region[..., 5] = np.where(region[..., 5] == 1, 2, 0)
    result = mrigmm.check(write(tmp_path, region))
    about = [(p.severity, p.what) for p in result.problems if p.what.startswith(("the region", "the cavity"))]
    assert about == [("note", "the cavity is not enclosed by wall")]


def findings(file: Path, ids=(1, 2)):
    image = nib.load(file)
    data = np.asarray(image.dataobj)
    cavity, wall = (np.isin(data, part) for part in ids)
    codes = np.select([cavity, wall], [Region.CAVITY, Region.WALL], 0).astype(np.uint8)
    grid = Grid(image.shape, image.affine)
    codes, spacing = codes_slices_last(codes, grid)
    shapes = slice_shapes(codes, spacing)
    assert exchanged(shapes) == []
    size = implausible_size(codes, spacing, grid.voxel_volume_ml)
    return [*doubtful_parts(shapes, spacing[2]), *([] if size is None else [size])]


@pytest.mark.parametrize("preset", ["myops-like", "small", "thin-slices", "thin-wall", "thick-wall"])
def test_simulated_hearts_are_no_finding(preset, tmp_path):
    """simulated hearts with thin, thick and usual walls -> nothing is said"""
    mrigmm.simulate(tmp_path / "c", studies=1, seed=5, preset=preset, region="cavity-wall")
    (region,) = (tmp_path / "c" / "regions").glob("*.nii.gz")
    assert findings(region) == []


def test_a_simulated_right_ventricle_is_a_finding(tmp_path):
    """the blood of a simulated right ventricle as region -> a warning"""
    mrigmm.simulate(tmp_path / "c", studies=1, seed=5, preset="small")
    (rv,) = (tmp_path / "c" / "truth").glob("*_rv_blood.nii.gz")
    assert any("not round" in problem.what for problem in findings(rv))


@pytest.mark.real
def test_drawings_of_real_patients_are_no_warning():
    """cavity and wall of four real patients at end-diastole -> notes of open bases at most"""
    found = [
        problem
        for file in sorted(real_folder("sunnybrook_hfi_cc0").glob("*_ED_label.nii.gz"))
        for problem in findings(file)
    ]
    assert {(p.severity, p.what) for p in found} == {("note", "the cavity is not enclosed by wall")}
    assert len(found) == 2
