import json

import pytest

from mrigmm.data.sources.base import Entry, natural_key
from mrigmm.data.splits import NAMED_SPLITS, divide
from mrigmm.errors import InputError


def visits(patients=10, per_patient=2):
    return [
        Entry(f"p{p}v{v}", f"p{p}", {"LGE": f"p{p}v{v}.nii"})
        for p in range(patients)
        for v in range(per_patient)
    ]


def ids(division):
    return {name: [entry.id for entry in part] for name, part in division.splits.items()}


def patients_of(division, split):
    return {entry.patient for entry in division.splits.get(split, ())}


def test_the_layouts_own():
    entries = [Entry("a", "a", {}, split="test"), Entry("b", "b", {}), Entry("c", "c", {}, split="test")]
    (division,) = divide(entries, None, seed=0)
    assert ids(division) == {"training": ["b"], "test": ["a", "c"]}
    assert (division.suffix, division.left_out) == ("", ())


@pytest.mark.parametrize(
    ("ratio", "patients", "counts"),
    [
        ("0.7/0.1/0.2", 10, (7, 1, 2)),
        ("0.7/0.1/0.2", 3, (1, 1, 1)),  # nobody who is asked for goes without
        ("0.7/0.1/0.2", 25, (18, 2, 5)),  # 17.5, 2.5, 5: the half goes to the first
        ("0.8/0/0.2", 10, (8, 0, 2)),
        ("0.98/0.01/0.01", 4, (2, 1, 1)),
        ("1/0/0", 4, (4, 0, 0)),
    ],
)
def test_ratio_by_patient(ratio, patients, counts):
    (division,) = divide(visits(patients), f"ratio={ratio}", seed=1)
    parts = [patients_of(division, name) for name in ("training", "validation", "test")]
    assert tuple(map(len, parts)) == counts
    assert len(set().union(*parts)) == patients
    assert sum(len(part) for part in division.splits.values()) == 2 * patients


def test_the_seed_is_the_only_chance():
    first, same, other = (divide(visits(), "ratio=0.5/0/0.5", seed=seed)[0] for seed in (1, 1, 2))
    assert ids(first) == ids(same)
    assert ids(first) != ids(other)
    # The order in which a file system lists files has no say.
    turned = divide(visits()[::-1], "ratio=0.5/0/0.5", seed=1)[0]
    assert patients_of(turned, "test") == patients_of(first, "test")


def test_folds_by_patient():
    divisions = divide(visits(7), "folds=3", seed=4)
    assert [division.suffix for division in divisions] == ["_fold0", "_fold1", "_fold2"]
    tests = [patients_of(division, "test") for division in divisions]
    assert sorted(map(len, tests)) == [2, 2, 3]
    assert set().union(*tests) == {f"p{i}" for i in range(7)}
    for division, test in zip(divisions, tests, strict=True):
        assert patients_of(division, "training") == {f"p{i}" for i in range(7)} - test
        assert not division.splits.get("validation")


@pytest.mark.parametrize("split", ["ratio=0.5/0/0.5", "folds=2"])
def test_the_layouts_test_studies_are_not_dealt_out(split):
    entries = [*visits(4, 1), Entry("t", "t", {}, split="test")]
    for division in divide(entries, split, seed=0):
        assert division.left_out == ("t",)


def test_the_published_split_of_myops():
    published = NAMED_SPLITS["myops-2020-published"]
    entries = [Entry(f"myops_training_{n}", f"myops_training_{n}", {}) for n in range(101, 126)]
    entries.append(Entry("myops_test_201", "myops_test_201", {}, split="test"))
    (division,) = divide(entries, "myops-2020-published", seed=0)
    assert ids(division)["test"] == [f"myops_training_{n}" for n in (109, 114, 117, 120, 122)]
    assert len(ids(division)["training"]) == 20
    assert not set(published["training"]) & set(published["test"])
    assert division.left_out == ("myops_test_201",)
    # With a study missing it would be another split.
    with pytest.raises(InputError, match="names a study that the folder does not have") as caught:
        divide(entries[1:], "myops-2020-published", seed=0)
    assert [p.study for p in caught.value.problems] == ["myops_training_101"]


def lists(tmp_path, content):
    path = tmp_path / "lists.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_lists_of_studies_and_of_patients(tmp_path):
    given = lists(tmp_path, {"training": ["p0", "p1v0"], "test": ["p2v1"]})
    (division,) = divide(visits(4), given, seed=0)
    assert ids(division) == {"training": ["p0v0", "p0v1", "p1v0"], "test": ["p2v1"]}
    assert division.left_out == ("p1v1", "p2v0", "p3v0", "p3v1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"training": ["p0v0"], "test": ["p0v1"]}, "puts one patient into two splits"),
        ({"training": ["p0"], "test": ["p0v1"]}, "puts one patient into two splits"),
        ({"training": ["p9"]}, "names a study that the folder does not have"),
        ({"train": ["p0"]}, "cannot be read"),
        ({"training": "p0"}, "cannot be read"),
        ({"training": [0]}, "cannot be read"),
        ([], "cannot be read"),
        ("{", "cannot be read"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        divide(visits(4), lists(tmp_path, content), seed=0)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("myops-2020", "unknown split 'myops-2020'"),
        ("ratio=0.7/0.3", "a ratio is three shares"),
        ("ratio=0.7/0.2/0.2", "a ratio is three shares"),
        ("ratio=1.2/-0.1/-0.1", "a ratio is three shares"),
        ("ratio=nan/0.5/0.5", "a ratio is three shares"),
        ("ratio=a/b/c", "a ratio is three shares"),
        ("folds=1", "folds are counted from 2"),
        ("folds=two", "folds are counted from 2"),
        ("folds=5", "too few patients"),
        ("nowhere.json", "cannot be read"),
    ],
)
def test_splits_that_are_not_possible(split, message):
    with pytest.raises(InputError, match=message):
        divide(visits(4), split, seed=0)


def test_numbers_are_sorted_as_numbers():
    names = ["patient10", "patient2", "b", "patient2_LGE", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "b", "patient2", "patient2_LGE", "patient10"]
