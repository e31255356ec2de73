"""Readers: folders of anybody's masks, of predictions, or single files, compared with each other."""

import csv
import json

import numpy as np
import pytest

import mrigmm
from mrigmm.errors import InputError

from ..conftest import PATIENT, save_nifti, ventricle
from .test_evaluate import prediction

VOXEL_G = 1.05 * 0.2025  # 4.5 x 4.5 x 10 mm
STUDIES = ("p1", "p2", "p3")


def rows(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def label(study, *, less=0, rv=True):
    """A ventricle whose scar loses a slice from study to study, and `less`, and a right ventricle."""
    truth = ventricle().astype(np.int16)
    gone = STUDIES.index(study) + less
    truth[..., :gone][truth[..., :gone] == 4] = 2
    if rv:
        x, y = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in truth.shape[:2]), indexing="ij")
        for z, width in enumerate((1.2, 0.9, 0.6)):
            truth[(np.hypot(x, y) > 6) & (abs(np.arctan2(y, x)) < width), z] = 9
    return truth


@pytest.fixture
def readers(tmp_path):
    """Reader a with right ventricle and our ids, reader b with EMIDEC's, who leaves out a slice of scar."""
    emidec = np.array([0, 1, 2, 2, 3, 0, 0, 0, 0, 0], np.int16)
    for study in STUDIES:
        save_nifti(tmp_path / "a" / f"{study}_readerA.nii.gz", label(study), PATIENT)
        less = int(study == "p1")
        save_nifti(tmp_path / "b" / f"{study}_seg.nii.gz", emidec[label(study, less=less)], PATIENT)
    return tmp_path / "a", tmp_path / "b"


OURS = "blood=1,myocardium=2,edema=3,scar=4,rv_blood=9"


def test_masks_of_two_people(cli, readers, tmp_path):
    """By hand: of n voxels of scar in a slice a has 3, 2 and 1, b 2, 2 and 1."""
    out = tmp_path / "out"
    points = tmp_path / "points.csv"
    centre = PATIENT @ [(ventricle().shape[0] - 1) / 2, (ventricle().shape[1] - 1) / 2, 1, 1]
    point = centre + 7 * PATIENT @ [1, 0, 0, 0]
    line = ",".join(str(v) for v in point[:3])
    points.write_text("study,x_mm,y_mm,z_mm\n" + "".join(f"{study},{line}\n" for study in STUDIES))
    done = cli("agreement", *readers, "--labels", OURS, "--labels", "emidec", "-o", out,
               "--rv-insertion", points, "--base", "first")  # fmt: skip
    assert done.code == 0, done.err
    n = int((ventricle()[..., 0] == 4).sum())
    table = {row["quantity"]: row for row in rows(out / "agreement_quantities.csv")}
    infarct = table["infarct_mass_g"]
    mass = VOXEL_G * n
    assert (infarct["first"], infarct["second"], infarct["n"]) == ("a", "b", "3")
    assert float(infarct["bias"]) == pytest.approx(mass / 3, rel=1e-5)
    sd = mass / np.sqrt(3)
    assert float(infarct["sd"]) == pytest.approx(sd, rel=1e-5)
    assert float(infarct["upper_limit"]) == pytest.approx(mass / 3 + 1.959964 * sd, rel=1e-5)
    # Rows (3, 2), (2, 2), (1, 1): MSR = 2 (0.25 + ... ) by hand: means 2.5, 2, 1 about 11/6.
    msr = 2 * ((2.5 - 11 / 6) ** 2 + (2 - 11 / 6) ** 2 + (1 - 11 / 6) ** 2) / 2
    msc = 3 * 2 * (1 / 6) ** 2
    mse = (2 * ((0.5 - 1 / 6) ** 2 + 2 * (1 / 6) ** 2)) / 2
    assert float(infarct["icc"]) == pytest.approx((msr - mse) / (msr + mse + 2 / 3 * (msc - mse)), rel=1e-5)
    assert float(table["lv_mass_g"]["bias"]) == 0
    assert "edema_mass_g" not in table  # the second reader has no edema
    dice = {(r["study"], r["class"]): float(r["dice"]) for r in rows(out / "agreement.csv")}
    assert dice["p1", "scar"] == pytest.approx(4 / 5, abs=1e-5)
    assert dice["p1", "myocardium"] < 1
    assert dice["p2", "scar"] == dice["p2", "myocardium"] == 1  # edema counts as myocardium, as b drew it
    kappas = {row["segment"]: row for row in rows(out / "agreement_segments.csv")}
    assert kappas["all"]["n"] == "48"
    assert 0 < float(kappas["all"]["kappa"]) < 1
    assert (out / "agreement.png").read_bytes().startswith(b"\x89PNG")
    text = (out / "agreement.md").read_text()
    assert "ICC(A,1) of McGraw and Wong" in text
    assert "infarct (% of LV mass)" in text
    assert "| all |" not in text  # of two readers
    assert "Weighted kappa of each AHA segment" in text
    content = json.loads((out / "agreement.json").read_text())
    assert content["quantities"]["infarct_mass_g"]["values"]["p1"] == pytest.approx(
        {"a": 3 * mass, "b": 2 * mass}, rel=1e-5
    )


def test_people_and_programs(cli, readers, tmp_path):
    """`compare` without a manifest: a folder of predictions, and two of masks, of which one lacks a study."""
    program = tmp_path / "program"
    program.mkdir()
    for study in STUDIES:
        prediction(program, study, label(study, rv=False).astype(np.uint8), PATIENT)
    (readers[1] / "p2_seg.nii.gz").unlink()
    out = tmp_path / "out"
    done = cli("compare", program, *readers, "--labels", OURS, "--labels", "emidec", "-o", out)
    assert done.code == 2
    assert "there is no mask of the study" in done.err
    assert "compared 2 studies" in done.err + done.out
    table = rows(out / "agreement_quantities.csv")
    assert {(row["first"], row["second"]) for row in table} == {
        ("program", "a"),
        ("program", "b"),
        ("a", "b"),
    }
    assert all(row["icc"] == "" for row in table)  # of two studies
    assert not (out / "agreement.png").exists()
    again = mrigmm.compare(program, readers[0], labels=OURS, out=out)  # made anew, as every comparison
    assert again.done == STUDIES
    assert (out / "agreement.png").exists()


def test_files_of_one_study(readers, tmp_path):
    files = [readers[0] / "p1_readerA.nii.gz", readers[1] / "p1_seg.nii.gz"]
    result = mrigmm.agreement(files, tmp_path / "out", labels=[OURS, "emidec"])
    assert len(result.done) == 1
    assert not result.failed
    assert result.quantities["infarct_mass_g"].values.shape == (1, 2)


def test_masks_scored_by_references(workshop, readers, tmp_path):
    """With a manifest, masks are scored as predictions are."""
    entries = []
    for study in STUDIES:
        entries.append(workshop.study(study, affine=PATIENT))
        workshop.volume(entries[-1]["label"], label(study, rv=False), PATIENT)
    manifest = workshop.manifest(entries)
    labels = [OURS, "emidec"]
    result = mrigmm.compare(*readers, manifest, labels=labels, out=tmp_path / "out")
    scar = result.metrics["dice"]["scar"]
    assert scar.pairs == {"p1": (1, pytest.approx(0.8)), "p2": (1, 1), "p3": (1, 1)}
    with pytest.raises(InputError, match="holds given masks"):
        mrigmm.compare(*readers, manifest, labels=labels)
    with pytest.raises(InputError, match="with a manifest, two folders"):
        mrigmm.compare(*readers, manifest, others=[readers[0]], labels=labels)


def test_what_is_refused(readers, tmp_path):
    with pytest.raises(InputError, match="in a folder of their own"):
        mrigmm.compare(*readers, labels="emidec")
    with pytest.raises(InputError, match="--labels does not say"):
        mrigmm.agreement(readers, tmp_path / "out", labels=["emidec"] * 3)
    with pytest.raises(InputError, match="it is not known what the ids"):
        mrigmm.agreement(readers, tmp_path / "out")
    with pytest.raises(InputError, match="one end of the files"):
        mrigmm.agreement(readers, tmp_path / "out", labels=[OURS, "emidec"], base="top")
    with pytest.raises(InputError, match="belongs to a manifest"):
        mrigmm.compare(*readers, labels="emidec", out=tmp_path / "out", data_root=tmp_path)
    assert not (tmp_path / "out").exists()
