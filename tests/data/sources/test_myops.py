import pytest

import mrigmm

from .conftest import BLOOD, EDEMA, MYOCARDIUM, SCAR, read

IDS = (0, 500, 200, 1220, 2221, 600)
COUNTS = {"blood": BLOOD, "myocardium": MYOCARDIUM, "edema": EDEMA, "scar": SCAR}


def release_of_2020(tree, top=""):
    for name, sequence in (("C0", "bSSFP"), ("DE", "LGE"), ("T2", "T2")):
        tree.image(f"{top}train25/myops_training_102_{name}.nii.gz", sequence=sequence)
        tree.image(f"{top}train25/myops_training_101_{name}.nii.gz", sequence=sequence)
        tree.image(f"{top}test20/myops_test_201_{name}.nii.gz", sequence=sequence)
    tree.label(*(f"{top}train25_myops_gd/myops_training_{n}_gd.nii.gz" for n in (101, 102)), ids=IDS)


@pytest.mark.parametrize("top", ["", "MyoPS 2020 Dataset/"])
def test_release_of_2020(tree, top):
    release_of_2020(tree, top)
    # What a download has beside it: junk of other systems, and encrypted labels.
    tree.text(f"{top}train25/._myops_training_101_C0.nii.gz")
    tree.text("__MACOSX/train25/myops_training_101_C0.nii.gz")
    tree.text(f"{top}.DS_Store")
    encrypted = f"{top}MyoPS2020_EvaluateByYourself/test_data_gd/myops_test_201_gdencrypt.nii.gz"
    tree.label(encrypted, ids=IDS)
    result = mrigmm.manifest("myops", tree.folder, tree.folder / "m.json", region_from_labels="lv")
    found = read(result)
    assert found.splits == {
        "training": ["myops_training_101", "myops_training_102"],
        "test": ["myops_test_201"],
    }
    assert found.counts == {"myops_training_101": COUNTS, "myops_training_102": COUNTS}
    first = found.studies["myops_training_101"]
    assert {name: path.name for name, path in first.images.items()} == {
        "LGE": "myops_training_101_DE.nii.gz",
        "T2": "myops_training_101_T2.nii.gz",
        "bSSFP": "myops_training_101_C0.nii.gz",
    }
    assert first.region.kind == "lv"
    assert found.studies["myops_test_201"].region is None
    assert found.notes == [
        "no reference label: 1 (myops_test_201)",
        "no region map (--region, --region-from-labels), so the pretrained networks find the ventricle: "
        "1 (myops_test_201)",
        f"NIfTI files of no study: 1 ({encrypted})",
    ]


def test_later_releases(tree):
    for split, case in (("Train", 3001), ("Validation", 4001)):
        for name, sequence in (("C0", "bSSFP"), ("LGE", "LGE"), ("T2", "T2")):
            tree.image(f"{split}/Case{case}/Case{case}_{name}.nii.gz", sequence=sequence)
    tree.image("Train/Case1001/Case1001_LGE.NII.GZ")
    tree.label("Train/Case1001/Case1001_gd.nii", "Train/Case3001/Case3001_gd.nii.gz", ids=IDS)
    found = read(
        mrigmm.manifest("myops", tree.folder, tree.folder / "m.json", region_from_labels="cavity-wall")
    )
    assert found.splits == {"training": ["Case1001", "Case3001"], "validation": ["Case4001"]}
    assert found.counts == {"Case1001": COUNTS, "Case3001": COUNTS}
    assert list(found.studies["Case1001"].images) == ["LGE"]
    assert found.notes[:3] == [
        "no T2: 1 (Case1001)",
        "no bSSFP: 1 (Case1001)",
        "no reference label: 1 (Case4001)",
    ]


def test_two_copies_are_not_guessed_between(tree):
    release_of_2020(tree)
    tree.image("copy/myops_training_101_DE.nii.gz", "copy/myops_training_102_DE.nii")
    made = mrigmm.manifest("myops", tree.folder, tree.folder / "m.json")
    errors = [p for p in made.problems if p.severity == "error"]
    assert [(p.study, p.what) for p in errors] == [
        ("myops_training_101", "two files for LGE"),
        ("myops_training_102", "two files for LGE"),
    ]
    assert errors[0].got == "copy/myops_training_101_DE.nii.gz and train25/myops_training_101_DE.nii.gz"
    assert made.done == ("myops_test_201",)  # the others go on


def test_a_label_without_images(tree):
    release_of_2020(tree)
    tree.label("train25_myops_gd/myops_training_103_gd.nii.gz", ids=IDS)
    made = mrigmm.manifest("myops", tree.folder, tree.folder / "m.json")
    (problem,) = (p for p in made.problems if p.severity == "error")
    assert (problem.study, problem.what) == ("myops_training_103", "the study has no image")
    assert problem.got == "train25_myops_gd/myops_training_103_gd.nii.gz"
    assert "myops_training_103" not in made.done
