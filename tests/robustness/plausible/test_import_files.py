"""What a folder of NIfTI files holds that is not what the end of its name says."""

import json
import unicodedata

import nibabel as nib
import numpy as np
import pytest

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError

KIND = "import of files"
CHECK = "the sequence that the end of a name says against the rest of the name and the JSON file beside it"


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nib.Nifti1Image(np.ones((4, 4, 2), np.int16), np.diag([2, 2, 8, 1])).to_filename(folder / name)


def bids(folder, **options):
    """The images of the manifest by study, and all that is said."""
    made = mrigmm.manifest("bids", folder, folder / "m.json", **options)
    studies = read_manifest(made.output).split("all")
    images = {study.id: [path.name for path in study.images.values()] for study in studies}
    return images, made.problems


GOOD = "sub-01/anat/sub-01_LGE.nii.gz"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("part-phase_LGE", "no magnitude (part-phase)"),
        ("part-imag_LGE", "no magnitude (part-imag)"),
        ("acq-4ch_LGE", "long-axis view (acq-4ch)"),
        ("acq-localizer_LGE", "localiser (acq-localizer)"),
        ("rec-T1map_LGE", "map of T1, T2 or T2* (rec-T1map)"),
    ],
)
def test_another_kind_of_image(tmp_path, name, why):
    """a subject has only a phase image, long axis, map or localiser -> left out and named"""
    put(tmp_path, GOOD, f"sub-02/anat/sub-02_{name}.nii.gz")
    images, problems = bids(tmp_path)
    assert images == {"sub-01": ["sub-01_LGE.nii.gz"]}
    (error,) = (p for p in problems if p.severity == "error")
    assert (error.study, error.what) == ("sub-02", f"the study has no image but what was left out: {why}")
    assert error.remedy == f"where that is its LGE, name it: --rename {name}=LGE"
    images, problems = bids(tmp_path, rename={name: "LGE"}, overwrite=True)  # the remedy works
    assert images["sub-02"] == [f"sub-02_{name}.nii.gz"]


def test_magnitude_and_phase(tmp_path):
    """part-mag and part-phase of one image -> the magnitude, and a line about the phase"""
    put(tmp_path, *(f"sub-01/anat/sub-01_part-{part}_LGE.nii.gz" for part in ("mag", "phase")))
    images, problems = bids(tmp_path)
    assert images == {"sub-01": ["sub-01_part-mag_LGE.nii.gz"]}
    assert any(p.what.startswith("left out, no magnitude (part-phase): 1 (sub-01/anat") for p in problems)


def test_a_phase_by_the_json_beside_it(tmp_path):
    """Image Type P in the JSON file beside an image of a plain name -> left out and named"""
    put(tmp_path, GOOD, "sub-02/anat/sub-02_LGE.nii.gz")
    for study, kind in (("sub-01", "M"), ("sub-02", "P")):
        beside = tmp_path / study / "anat" / f"{study}_LGE.json"
        beside.write_text(json.dumps({"ImageType": ["ORIGINAL", "PRIMARY", kind, "ND"]}))
    images, problems = bids(tmp_path)
    assert list(images) == ["sub-01"]
    assert any("no magnitude (Image Type P in the JSON file)" in p.what for p in problems)


@pytest.mark.parametrize("entity", ["run", "echo", "rec", "acq"])
def test_several_files_for_one_sequence(tmp_path, entity):
    """a subject has two files for one sequence -> it is left out with a remedy; the others go on"""
    names = [f"sub-02_{entity}-{value}_LGE.nii.gz" for value in (1, 2)]
    put(tmp_path, GOOD, *(f"sub-02/anat/{name}" for name in names))
    images, problems = bids(tmp_path)
    assert list(images) == ["sub-01"]
    (error,) = (p for p in problems if p.severity == "error")
    assert (error.study, error.what) == ("sub-02", "two files for LGE")
    assert error.remedy.endswith(f"--rename {entity}-1_LGE=LGE")
    images, problems = bids(tmp_path, rename={f"{entity}-2_LGE": "LGE"}, overwrite=True)
    assert images == {"sub-01": ["sub-01_LGE.nii.gz"], "sub-02": [names[1]]}
    assert any(
        p.what == f"left out, another file was named with --rename: 1 (sub-02/anat/{names[0]})"
        for p in problems
    )


def test_what_no_rule_knows_is_named(tmp_path):
    """an image of an unknown ending and one in sourcedata -> both are named as of no study"""
    put(tmp_path, GOOD, "sub-01/anat/sub-01_scout.nii.gz", f"sourcedata/{GOOD}")
    images, problems = bids(tmp_path)
    assert list(images) == ["sub-01"]
    (note,) = (p for p in problems if p.what.startswith("NIfTI files of no study"))
    assert note.what.endswith(f"2 (sourcedata/{GOOD}, sub-01/anat/sub-01_scout.nii.gz)")


def test_images_of_other_formats(tmp_path):
    """a study of .hdr and .img, and one of .nrrd, beside NIfTI files -> they are named in a warning"""
    put(tmp_path, "a_LGE.nii.gz")
    for name in ("b_LGE.hdr", "b_LGE.img", "c_LGE.nrrd"):
        (tmp_path / name).touch()
    made = mrigmm.manifest("any", tmp_path, tmp_path / "m.json")
    assert made.done == ("a",)
    (told,) = (p.what for p in made.problems if p.severity == "warning" and "not read" in p.what)
    assert told.endswith("convert them to .nii.gz: 3 (b_LGE.hdr, b_LGE.img, c_LGE.nrrd)")


def test_nobody_is_left(tmp_path):
    """every subject has two runs -> an error, and no manifest"""
    put(tmp_path, *(f"sub-01/anat/sub-01_run-{run}_LGE.nii.gz" for run in (1, 2)))
    with pytest.raises(InputError, match="two files for LGE"):
        bids(tmp_path)
    assert not (tmp_path / "m.json").exists()


def test_two_patterns_for_one_sequence(tmp_path):
    """LGE of some studies is named LGE, of others PSIR -> both are entered and counted in a line"""
    put(tmp_path, "a_LGE.nii.gz", "b_LGE.nii.gz", "b_PSIR.nii.gz", "c_PSIR.nii.gz")
    patterns = {"LGE": ["{id}_LGE.nii.gz", "{id}_PSIR.nii.gz"]}
    made = mrigmm.manifest("files", tmp_path, tmp_path / "m.json", images=patterns)
    images = {s.id: s.images["LGE"].name for s in read_manifest(made.output).split("all")}
    assert images == {"a": "a_LGE.nii.gz", "b": "b_LGE.nii.gz", "c": "c_PSIR.nii.gz"}
    said = [p.what for p in made.problems]
    assert any(
        "LGE: '{id}_LGE.nii.gz' for 2 and '{id}_PSIR.nii.gz' for 1 of the studies" in text for text in said
    )
    assert "NIfTI files of no study: 1 (b_PSIR.nii.gz)" in said


def test_separators_of_windows_in_a_pattern(tmp_path):
    """a pattern with backslashes -> it fits as with slashes"""
    put(tmp_path, "images/a_LGE.nii.gz")
    made = mrigmm.manifest("files", tmp_path, tmp_path / "m.json", images={"LGE": "images\\{id}_LGE.nii.gz"})
    assert made.done == ("a",)


@pytest.mark.parametrize(("on_disk", "typed"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_accents_in_patterns_and_ids(tmp_path, on_disk, typed):
    """accents are one letter in some names and two in others -> patterns fit, and one study has both files"""
    disk = {form: unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD")}
    put(tmp_path, f"é/{disk[on_disk]}_LGE.nii.gz", f"é/{disk[typed]}_T2.nii.gz")
    made = mrigmm.manifest(
        "files",
        tmp_path,
        tmp_path / "m.json",
        images={
            "LGE": unicodedata.normalize(typed, "é/{id}_LGE.nii.gz"),
            "T2": unicodedata.normalize(typed, "é/{id}_T2.nii.gz"),
        },
    )
    assert made.done == (unicodedata.normalize("NFC", "Müller"),)
    (study,) = read_manifest(made.output).split("all")
    assert all(path.exists() for path in study.images.values())
