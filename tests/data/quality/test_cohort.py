import numpy as np
import pytest

from mrigmm.data.manifest import Study
from mrigmm.data.quality import (
    fingerprint,
    patients_in_two_splits,
    same_content,
    unknown_classes,
    unknown_sequences,
)

A = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def test_fingerprint():
    assert fingerprint(A) == fingerprint(np.asfortranarray(A)) == fingerprint(A.astype(np.int64))
    assert fingerprint(A) != fingerprint(A.reshape(3, 2, 4))
    changed = A.copy()
    changed[1, 2, 3] += 1
    assert fingerprint(A) != fingerprint(changed)
    assert fingerprint(np.ones((2, 3, 4))) is None
    assert fingerprint(np.ones((0, 3))) is None


def found(fingerprints, split_of=None):
    problems = same_content(fingerprints, split_of or dict.fromkeys(fingerprints, "training"))
    return [(p.study, p.severity, p.what, p.got) for p in problems]


def test_files_of_their_own():
    assert found({"a": {"LGE": "1", "T2": "2"}, "b": {"LGE": "3", "T2": None}, "c": {"T2": None}}) == []


def test_two_sequences_of_a_study():
    assert found({"a": {"LGE": "1", "T2": "1", "bSSFP": "2"}}) == [
        ("a", "error", "LGE and T2 are the same image", "the same voxels in both")
    ]


def test_two_studies():
    both = {"a": {"LGE": "1"}, "b": {"LGE": "1"}}
    assert found(both) == [
        ("b", "warning", "LGE is the same as LGE of another study", "the voxels of LGE of a")
    ]
    assert found(both, {"a": "training", "b": "test"}) == [
        ("b", "error", "LGE is the same as LGE of another study", "the voxels of LGE of a in 'training'")
    ]


def test_regions():
    masks = {"a": {"LGE": "1", "region": "9"}, "b": {"LGE": "2", "region": "9"}}
    same = ("b", "warning", "region map is the same as region of another study", "the voxels of region of a")
    assert found(masks) == [same]
    assert found(masks, {"a": "training", "b": "test"}) == [same]  # a wrong path, but no leak
    assert found({"a": {"LGE": "9", "region": "9"}}) == []  # a binary image beside itself


def test_patients_in_two_splits():
    def study(name, patient=None):
        return Study(name, {}, patient=patient)

    splits = {"training": (study("a", "p1"), study("b", "p1"), study("c")), "test": (study("d", "p2"),)}
    assert patients_in_two_splits(splits) == []
    splits["test"] += (study("e", "p1"), study("c2"))
    (problem,) = patients_in_two_splits(splits)
    assert (problem.study, problem.severity) == ("e", "error")
    assert problem.what == "the patient 'p1' is in two splits"
    assert problem.got == "a in 'training', this one in 'test'"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("oedema", "edema"),
        ("Infarct", "scar"),
        ("fibrosis", "scar"),
        ("MYO", "myocardium"),
        ("miocardium", "myocardium"),
        ("LV_blood-pool", "blood"),
        ("Scar", "scar"),
    ],
)
def test_a_synonym_is_asked_about(name, meant):
    (found,) = unknown_classes(["background", name])
    assert found.severity == "warning"
    assert found.what.endswith(f"did you mean {meant}?")


def test_our_names_and_those_of_other_organs_are_left_alone():
    ours = ["background", "blood", "myocardium", "edema", "scar", "rv_blood", "mvo"]
    assert not [*unknown_classes(ours)]
    assert not [*unknown_classes(["background", "grey matter", "white matter", "csf", "lesion"])]
    assert not [*unknown_classes(["scar", "no reflow"])]  # a part of a class that is there


def test_sequences():
    assert not [*unknown_sequences(["LGE", "T2", "bSSFP", "flair", "t1"])]
    assert not [*unknown_sequences(["bSSFP", "cine"])]  # both may be there
    (found,) = unknown_sequences(["LGE", "SSFP"])
    assert found.what == "the sequence 'SSFP' is not known by this name: did you mean bSSFP?"
