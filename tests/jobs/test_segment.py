"""From what is given to a manifest and on to the numbers; `test_segment_lab_folder.py` has the whole way."""

import json
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

import mrigmm
from mrigmm.cli import segment as command
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError
from mrigmm.jobs.segmenting.understand import Reading, understand

from ..conftest import SEQUENCES

QUICK = {"method": "map-em"}
# What takes longer to import than a study to segment, and `segment` with the shipped networks does not need.
NOT_FOR_SEGMENT = ("lightning", "matplotlib", "monai", "pandas", "SimpleITK", "sklearn")
NOT_FOR_SEGMENT += ("scipy.optimize", "scipy.spatial", "scipy.stats")


@pytest.fixture
def lab(workshop):
    """A folder of two patients, each with three sequences and a region map."""
    for study in ("P01", "P02"):
        workshop.study(study, region="cavity-wall", seed=len(study))
        (workshop.folder / f"{study}_label.nii.gz").unlink()
    return workshop.folder


def test_files_are_recognised_segmented_and_measured(lab, tmp_path, cli):
    out = tmp_path / "out"
    dry = cli("segment", lab, "-o", out, "--dry-run")
    assert (dry.code, dry.err) == (0, "")
    assert "P01_T2" in dry.out
    assert "2 studies recognised; nothing is segmented yet" in dry.out
    assert [file.name for file in out.iterdir()] == ["manifest.json"]
    study = read_manifest(out / "manifest.json", lab).split("test")[1]
    assert (study.id, set(study.images), study.region) == ("P02", set(SEQUENCES), lab / "P02_region.nii.gz")

    (lab / "P02_LGE.nii.gz").write_bytes((lab / "P02_LGE.nii.gz").read_bytes()[:900])  # its voxels end early
    done = cli("segment", lab, "-o", out, "--method", "map-em")
    assert done.code == 2  # one bad study, and the other is there
    assert "P02" in done.err
    assert "segmented 1 study" in done.out
    assert (out / "report.html").exists()
    again = cli("segment", lab, "-o", out, "--method", "map-em", "--resume", "--json")
    assert again.code == 2
    content = json.loads(again.out)
    assert content["studies"] == ["P01"]
    assert content["understood_as"] == "files by their names"
    numbers = content["answers"]["P01"]
    table = (out / "quantities.csv").read_text().splitlines()
    row = dict(zip(table[0].split(","), table[1].split(","), strict=True))
    assert numbers["infarct_g"] == pytest.approx(float(row["infarct_mass_g"]), rel=1e-4)
    assert numbers["lv_mass_g"] == pytest.approx(float(row["lv_mass_g"]), rel=1e-4)
    assert numbers["infarct_probability"] is None  # of the pretrained networks alone
    assert content["label_maps"] == {"P01": str(out / "P01_labels.nii.gz")}


@pytest.mark.gate
def test_segmenting_imports_only_what_it_needs(lab, tmp_path):
    program = (
        "import gc, sys\nfrom mrigmm.cli import app\n"
        "try:\n    app()\nfinally:\n"
        "    print(*sys.modules, gc.isenabled(), gc.get_freeze_count() > 10_000, sep='\\n', file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "segment", lab, "-o", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    loaded = result.stderr.splitlines()
    assert "segmented 2 studies" in result.stdout, result.stderr
    assert "torch" in loaded
    assert loaded[-2:] == ["True", "True"]  # garbage is collected again, and not among what was imported
    assert not {*NOT_FOR_SEGMENT} & {*loaded}


def test_another_manifest_is_not_replaced_without_being_asked(lab, tmp_path):
    out = tmp_path / "out"
    understand(lab, out, Reading())
    edited = json.loads((out / "manifest.json").read_text())
    del edited["test"][1]
    (out / "manifest.json").write_text(json.dumps(edited))
    with pytest.raises(InputError, match="another manifest is there"):
        understand(lab, out, Reading())
    taken = understand(out / "manifest.json", out, Reading(data_root=lab))
    assert [study.id for study in taken.cohort.split("all")] == ["P01"]
    assert len(understand(lab, out, Reading(), replaces=True).cohort.split("all")) == 2


def test_results_inside_the_folder_are_no_images(lab):
    first = understand(lab, lab / "out", Reading())
    shutil.copy(lab / "P01_LGE.nii.gz", lab / "out" / "P01_LGE_labels.nii.gz")
    shutil.copytree(lab / "out", lab / "older")
    (lab / "older" / "labels_itksnap.txt").write_text("")
    again = understand(lab, lab / "out", Reading())
    assert again.cohort.splits == first.cohort.splits
    assert [problem.what for problem in again.problems] == [
        "2 NIfTI files of earlier results are passed over"
    ]
    with pytest.raises(InputError, match="would lie among the images"):
        understand(lab, lab, Reading())


def test_the_output_is_one_of_the_images(lab, tmp_path):
    file = next(lab.rglob("*.nii.gz"))
    before = file.read_bytes()
    with pytest.raises(InputError, match="the output is not a folder"):
        mrigmm.segment_folder(file, file)
    assert file.read_bytes() == before


def test_one_study_by_its_files(lab, tmp_path):
    files = [lab / "P01_LGE.nii.gz", lab / "P01_T2.nii.gz"]
    found = understand(files, tmp_path / "a", Reading())
    (study,) = found.cohort.split("test")
    assert (study.id, dict(study.images)) == ("P01", {"LGE": files[0], "T2": files[1]})
    named = {"LGE": files[1], "region": lab / "P02_region.nii.gz"}
    found = understand(named, tmp_path / "b", Reading())
    (study,) = found.cohort.split("test")
    assert (study.images["LGE"], study.region) == (files[1], lab / "P02_region.nii.gz")
    assert found.table().rows == (("P01_T2", "P01_T2", "P02_region"),)
    result = mrigmm.segment_folder(named, tmp_path / "b", **QUICK)
    assert result.answers.keys() == {"P01_T2"}
    assert "infarct (g)" in repr(result)


def test_known_layouts_and_manifests_are_taken_as_such(lab, tmp_path):
    download = tmp_path / "MyoPS2020" / "train25"
    download.mkdir(parents=True)
    for name, ours in (("DE", "LGE"), ("T2", "T2"), ("C0", "bSSFP")):
        shutil.copy(lab / f"P01_{ours}.nii.gz", download / f"myops_training_101_{name}.nii.gz")
    found = understand(download.parent, tmp_path / "out", Reading())
    assert found.how == "a folder as MyoPS has them"
    assert [study.id for study in found.cohort.split("training")] == ["myops_training_101"]
    (download / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="in several ways") as refused:
        understand(download.parent, tmp_path / "out", Reading())
    assert "--kind myops" in str(refused.value)
    asked = understand(download.parent, tmp_path / "out", Reading(ask=lambda question: 0))
    assert asked.how == found.how
    with pytest.raises(InputError, match="--images belongs to names of any kind"):
        understand(download.parent, tmp_path / "out", Reading(kind="myops", images={"LGE": ("*",)}))
    with pytest.raises(InputError, match="unknown kind of folder 'myop'"):
        understand(download.parent, tmp_path / "out", Reading(kind="myop"))
    (download / "myops_training_101_C0.nii.gz").rename(download / "x.nii.gz")
    for name in ("DE", "T2"):
        (download / f"myops_training_101_{name}.nii.gz").unlink()
    with pytest.raises(InputError, match="has the marks of nnunet") as broken:
        understand(download.parent, tmp_path / "out", Reading())
    assert "--kind any" in str(broken.value)
    manifest = understand(lab, tmp_path / "m", Reading()).manifest
    shutil.copy(manifest, lab / "manifest.json")
    assert understand(lab, tmp_path / "n", Reading()).manifest == lab / "manifest.json"
    assert understand(lab, tmp_path / "n", Reading(kind="any")).manifest == tmp_path / "n" / "manifest.json"
    with pytest.raises(InputError, match="--labels belong to a folder"):
        understand(manifest, tmp_path / "out", Reading(labels="myops"))


def test_what_is_nothing_to_read_is_refused_with_a_remedy(tmp_path, cli):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("LGE")
    shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "empty")
    for source, what in (
        ("none", "there is no such file or folder"),
        ("empty", "there are no images in the folder"),
        ("archive.zip", "this is an archive"),
    ):
        refused = cli("segment", tmp_path / source, "-o", tmp_path / "out")
        assert (refused.code, refused.out) == (2, "")
        assert what in refused.err
        assert "remedy" in refused.err
    both = cli("segment", tmp_path, "--image", "LGE=x.nii", "-o", tmp_path / "out")
    assert "give either a folder" in both.err
    assert (
        "either a trained run or a method"
        in cli("segment", tmp_path, "-o", "o", "--run", "r", "--method", "em-gmm").err
    )


def test_questions_are_put_on_a_terminal(lab, tmp_path, cli, monkeypatch):
    for number, name in enumerate(("STIR", "prep"), start=1):
        for study in ("P01", "P02"):
            image = nib.load(lab / f"{study}_bSSFP.nii.gz")
            data = np.asarray(image.dataobj) * number
            nib.save(nib.Nifti1Image(data, image.affine), lab / f"{study}_T2_{name}.nii.gz")
    for study in ("P01", "P02"):
        (lab / f"{study}_T2.nii.gz").unlink()
    refused = cli("segment", lab, "-o", tmp_path / "out", "--dry-run")
    assert refused.code == 2
    assert "--images T2='" in refused.err
    monkeypatch.setattr(command.sys.stdin, "isatty", lambda: True, raising=False)
    answers = iter(["1\n", "\n"])
    monkeypatch.setattr(command.sys.stdin, "readline", lambda: next(answers), raising=False)
    asked = cli("segment", lab, "-o", tmp_path / "out", "--dry-run")
    assert asked.code == 0, asked.err
    assert "which file is the T2 of P01?" in asked.err
    assert "P02_T2_STIR" in asked.out or "P02_T2_prep" in asked.out
    assert next(answers) == "\n"  # one answer for both
    corrected = cli("segment", lab, "-o", tmp_path / "b", "--dry-run", "--images", "T2=*prep*")
    assert "P02_T2_prep" in corrected.out


def test_dicom_series_are_converted_into_the_folder(tmp_path):
    pytest.importorskip("pydicom")
    from ..data.dicom.files import series

    pixels = np.random.default_rng(0).integers(0, 900, (3, 16, 16)).astype(np.uint16)
    series(tmp_path / "dicom", pixels, patient="Jane", description="LGE_sax")
    out = tmp_path / "out"
    found = understand(tmp_path / "dicom", out, Reading())
    assert found.how == "DICOM series by their tags"
    assert [study.id for study in found.cohort.split("test")] == ["Jane"]
    again = understand(tmp_path / "dicom", out, Reading())  # by the map of the first run
    assert again.cohort.splits == found.cohort.splits
