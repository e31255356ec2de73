import json

import pytest

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.sources.files import compile_pattern
from mrigmm.errors import InputError

from .conftest import BLOOD, EDEMA, MYOCARDIUM, SCAR, read

COUNTS = {"blood": BLOOD, "myocardium": MYOCARDIUM, "edema": EDEMA, "scar": SCAR}
PATTERNS = {
    "images": {"LGE": "*/{id}_lge.nii.gz", "T2": "*/{id}_t2.nii.gz"},
    "label": "masks/{id}.nii",
    "labels": "mrigmm",
}


def own_files(tree):
    for study in ("p1", "p2"):
        tree.image(f"{study}/{study}_lge.NII.GZ")
        tree.label(f"masks/{study}.nii", ids=(0, 1, 2, 3, 4))
        tree.label(f"lv/{study}_lv.nii.gz", ids=(0, 1, 1, 1, 1))
    tree.image("p1/p1_t2.nii.gz", sequence="T2")


def test_patterns(tree):
    own_files(tree)
    result = mrigmm.manifest(
        "files", tree.folder, tree.folder / "m.json", region="lv/{id}_lv.nii.gz", **PATTERNS
    )
    found = read(result)
    assert read_manifest(result.output).name == "download"  # the folder's: no data set is known
    assert found.splits == {"training": ["p1", "p2"]}
    assert found.counts == {"p1": COUNTS, "p2": COUNTS}
    assert [path.name for path in found.studies["p1"].images.values()] == ["p1_lge.NII.GZ", "p1_t2.nii.gz"]
    assert found.studies["p1"].region == tree.folder / "lv/p1_lv.nii.gz"
    assert found.notes[0] == "no T2: 1 (p2)"
    (about_splits,) = [note for note in found.notes[1:] if "fits" not in note]
    assert "no study is in the split 'test'" in about_splits
    assert "--split all (here: training)" in about_splits


def test_patients_with_several_visits(tree):
    for patient in ("a", "b"):
        for visit in (1, 2):
            tree.image(f"{patient}/{patient}-{visit}/lge.nii.gz")
    result = mrigmm.manifest(
        "files",
        tree.folder,
        tree.folder / "m.json",
        images={"LGE": "{patient}/{id}/lge.nii.gz"},
        split="folds=2",
    )
    tests = [[s["id"] for s in json.loads(path.read_text())["test"]] for path in result.manifests]
    assert sorted(tests) == [["a-1", "a-2"], ["b-1", "b-2"]]


@pytest.mark.parametrize(
    ("pattern", "file", "groups"),
    [
        ("{id}_lge.nii.gz", "a_b_lge.nii.gz", {"id": "a_b"}),
        ("{id}_lge.nii.gz", "x/a_lge.nii.gz", None),  # no folder was spoken of
        ("*/{id}_lge.nii.gz", "x/y/a_lge.nii.gz", None),
        ("**/{id}_lge.nii.gz", "x/y/a_lge.nii.gz", {"id": "a"}),
        ("**/{id}_lge.nii.gz", "a_lge.nii.gz", {"id": "a"}),
        ("{id}/{id}_lge.nii.gz", "a/b_lge.nii.gz", None),
        ("{id}/{id}_lge.nii.gz", "a/a_lge.NII.gz", {"id": "a"}),
        ("{id}_LGE.nii", "a_lge.nii", None),  # only the ending may change its case
        ("{patient}/v?/{id}.nii", "p/v2/s.nii", {"patient": "p", "id": "s"}),
        ("{id}(1).nii", "a(1).nii", {"id": "a"}),
    ],
)
def test_what_a_pattern_means(pattern, file, groups):
    match = compile_pattern(pattern).fullmatch(file)
    assert (match and match.groupdict()) == groups


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no pattern for an image was given"),
        ({"images": {"LGE": "*/lge.nii.gz"}}, "does not say where the study's id stands"),
        ({"images": {"LGE": "{id}.nii"}, "label": "{id}.nii"}, "the label ids of this cohort are not known"),
        ({"images": {"LGE": "{id}/?/lge.nii"}}, "no study was found in the folder"),
        ({"images": PATTERNS["images"], "region": "lv/{id}.nii.gz"}, "the region maps belong to no study"),
        ({"images": PATTERNS["images"], "region": "lw/{id}.nii.gz"}, "no file fits the pattern of --region"),
        ({"images": {"LGE": "**/{id}*.nii.gz"}}, "two files for LGE"),
        ({"images": {"LGE": "{patient}/p?_{id}.nii.gz"}}, "one study id belongs to two patients"),
        ({"images": PATTERNS["images"], "labels": "blood:1"}, "the label ids cannot be read"),
        ({"images": PATTERNS["images"], "labels": "blood=1,blood=2"}, "the label ids cannot be read"),
        ({"images": PATTERNS["images"], "labels": "blood=1,scar=1"}, "the label id 1 is given more"),
    ],
)
def test_what_cannot_be_used(tree, options, message):
    own_files(tree)
    with pytest.raises(InputError, match=message):
        mrigmm.manifest("files", tree.folder, tree.folder / "m.json", **options)
    assert not (tree.folder / "m.json").exists()


def test_nothing_found_names_patterns_and_files(tree):
    own_files(tree)
    with pytest.raises(InputError) as caught:
        mrigmm.manifest("emidec", tree.folder, tree.folder / "m.json")
    problem = caught.value.problems[0]
    assert problem.expected == "files named Case_P001/{Images,Contours}/Case_P001.nii.gz"
    assert problem.got.startswith("7 files: lv/p1_lv.nii.gz, lv/p2_lv.nii.gz, masks/p1.nii")


def notes(result, severity):
    return [problem.what for problem in result.problems if problem.severity == severity]


def test_it_says_what_each_pattern_fits(tree):
    own_files(tree)
    result = mrigmm.manifest(
        "files", tree.folder, tree.folder / "m.json", region="lv/{id}_lv.nii.gz", **PATTERNS
    )
    assert notes(result, "note") == [
        "LGE: '*/{id}_lge.nii.gz' fits 2 files, for example p1/p1_lge.NII.GZ (id p1)",
        "T2: '*/{id}_t2.nii.gz' fits 1 file p1/p1_t2.nii.gz (id p1)",
        "label: 'masks/{id}.nii' fits 2 files, for example masks/p1.nii (id p1)",
        "region: 'lv/{id}_lv.nii.gz' fits 2 files, for example lv/p1_lv.nii.gz (id p1)",
    ]


def test_a_pattern_that_takes_too_much_is_told(tree):
    for study in ("p1", "p2"):
        tree.image(f"{study}_LGE.nii.gz")
        tree.image(f"{study}_T2.nii.gz", sequence="T2")
    result = mrigmm.manifest(
        "files", tree.folder, tree.folder / "m.json", images={"LGE": "{id}.nii.gz", "T2": "{id}_T2.nii.gz"}
    )
    told = notes(result, "warning")
    assert (
        "files that fit two patterns: 2, for example p1_T2.nii.gz those of LGE and T2: "
        "let {id} stand for less of the name"
    ) in told
    assert (
        "the id p1_LGE has 'LGE' in it, which names a kind of file: write that part outside {id}, "
        "for example 'p1_LGE.nii.gz' as '{id}_LGE.nii.gz'"
    ) in told


@pytest.mark.parametrize(("given", "meant"), [("ssfp", "bSSFP"), ("cine", "bSSFP"), ("lge", "LGE")])
def test_a_sequence_by_another_name_is_asked_about(tree, given, meant):
    own_files(tree)
    result = mrigmm.manifest(
        "files", tree.folder, tree.folder / "m.json", images={given: "*/{id}_lge.nii.gz"}
    )
    assert f"the sequence '{given}' is not known by this name: did you mean {meant}?" in notes(
        result, "warning"
    )


def test_a_class_by_another_name_is_asked_about(tree):
    own_files(tree)
    result = mrigmm.manifest(
        "files",
        tree.folder,
        tree.folder / "m.json",
        images=PATTERNS["images"],
        label=PATTERNS["label"],
        labels="lv=1,myo=2,oedema=3,necrosis=4",
    )
    asked = [text for text in notes(result, "warning") if "did you mean" in text]
    assert [text.rsplit(" ", 1)[1] for text in asked] == ["blood?", "myocardium?", "edema?", "scar?"]
