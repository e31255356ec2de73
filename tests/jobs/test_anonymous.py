"""Headers and findings for a bug report name nobody."""

import json

import nibabel as nib
import numpy as np

from ..conftest import PATIENT


def patient(workshop, name, seed):
    """A study whose headers and files name the patient."""
    entry = workshop.study(name, affine=PATIENT, seed=seed)
    image = nib.load(workshop.folder / f"{name}_LGE.nii.gz")
    header = image.header.copy()
    header["descrip"], header["aux_file"] = b"Meier^Anna", b"19530207"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, header), image.get_filename())
    return entry


def test_a_bug_report_has_headers_and_findings_and_no_name(workshop, cli):
    entries = [patient(workshop, name, seed) for seed, name in enumerate(("Meier_Anna", "x1_19530207"))]
    (workshop.folder / "Meier_Anna_T2.nii.gz").write_bytes(b"Meier")
    manifest = workshop.manifest(entries)
    result = cli("check", str(manifest), "--anonymous")
    assert result.code == 1
    for name in ("Meier", "Anna", "19530207", "x1", str(workshop.folder)):
        assert name not in result.out
    report = json.loads(result.out)
    assert list(report["studies"]) == ["study 1", "study 2"]
    header = report["studies"]["study 2"]["LGE"]
    shape = nib.load(workshop.folder / "x1_19530207_LGE.nii.gz").shape
    assert header["dim"] == " ".join(map(str, (3, *shape, 1, 1, 1, 1)))
    assert header["sizeof_hdr"] == 348
    affine = [[float(number) for number in header[f"srow_{axis}"].split()] for axis in "xyz"]
    assert np.allclose(affine, PATIENT[:3], atol=1e-4)
    assert report["studies"]["study 1"]["T2"] == {}
    (problem,) = (p for p in report["problems"] if p["severity"] == "error")
    assert (problem["study"], problem["what"]) == ("study 1", "the T2 file is not a NIfTI file")
    assert "mrigmm" in report["versions"]


def test_a_manifest_that_cannot_be_read_gives_its_problems(workshop, cli):
    (workshop.folder / "m.json").write_text('{"name": "Meier", "training": [{"id": "Anna"}]}')
    result = cli("check", str(workshop.folder / "m.json"), "--anonymous")
    assert result.code == 1
    report = json.loads(result.out)
    assert report["studies"] == {}
    assert report["problems"]
    assert "Anna" not in result.out
    assert "Meier" not in result.out
