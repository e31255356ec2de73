from collections import Counter

import pytest

from mrigmm.config import make_config
from mrigmm.data.manifest import Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError
from mrigmm.jobs.training.studies import Entry, StudyReader, draw_held_out, read_all, training_entries


def entries(*patients):
    return [Entry(Study(f"s{i}", {}, patient=patient), {}) for i, patient in enumerate(patients)]


def ids(chosen):
    return [entry.study.id for entry in chosen]


def held_out(studies, share, seed=0):
    return draw_held_out(studies, make_config(overrides=[f"held_out_share={share}", f"seed={seed}"]))


def test_nobody_is_held_out_by_default():
    studies = entries(None, None)
    assert draw_held_out(studies, make_config()) == (studies, [])


@pytest.mark.parametrize(
    ("share", "n", "expected"), [(0.2, 10, 2), (0.25, 10, 2), (0.5, 3, 2), (0.01, 10, 1)]
)
def test_number_of_held_out_patients(share, n, expected):
    """The nearest whole number (halves to even), at least one."""
    used, watched = held_out(entries(*[None] * n), share)
    assert len(watched) == expected
    assert len(used) == n - expected


def test_the_seed_draws():
    draws = [ids(held_out(entries(*[None] * 20), 0.2, seed)[1]) for seed in (1, 1, 2)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_patients_are_never_divided():
    studies = entries("A", "B", "A", None, "B", "C", "A")
    for seed in range(5):
        used, watched = held_out(studies, 0.5, seed)
        assert len({entry.patient for entry in watched}) == 2  # of A, B, C and s3
        assert not {entry.patient for entry in used} & {entry.patient for entry in watched}
        assert sorted(ids(used) + ids(watched)) == sorted(ids(studies))


def test_a_study_id_is_no_patient():
    studies = [Entry(Study("A", {}), {}), Entry(Study("b", {}, patient="A"), {})]
    assert len({entry.patient for entry in studies}) == 2


def test_one_patient_cannot_be_divided():
    with pytest.raises(InputError, match="too few patients"):
        held_out(entries("A", "A"), 0.5)


def test_the_manifest_names_the_patient(workshop):
    path = workshop.manifest([{**workshop.study("a"), "patient": "P1"}, workshop.study("b")])
    assert [study.patient for study in read_manifest(path).split("test")] == ["P1", None]
    bad = workshop.manifest([{**workshop.study("a"), "patient": 3}])
    with pytest.raises(InputError, match="'patient' must be"):
        read_manifest(bad)


def test_training_splits_of_other_manifests_are_added(workshop):
    first = workshop.manifest([], training=[workshop.study("a")], name="first.json")
    second = workshop.manifest(
        [workshop.study("c", sequences=("T2",))],
        training=[workshop.study("b", sequences=("T2",))],
        modality={"0": "T2"},
        labels={"lv": 7},
        name="second.json",
    )
    found = training_entries(read_manifest(first), [second])
    assert ids(found) == ["a", "b"]  # not the test study
    assert found[1].labels["lv"] == (7,)
    assert set(found[1].study.images) == {"T2"}


def test_ids_that_collide_are_refused(workshop):
    first = workshop.manifest([], training=[workshop.study("a")], name="first.json")
    second = workshop.manifest([], training=[workshop.study("A")], name="second.json")
    with pytest.raises(InputError, match="two manifests") as caught:
        training_entries(read_manifest(first), [second])
    [problem] = caught.value.problems
    assert (problem.study, problem.file) == ("A", str(second))
    assert str(first) in problem.got


def test_the_same_manifest_twice_is_refused(workshop):
    first = workshop.manifest([], training=[workshop.study("a")], name="first.json")
    with pytest.raises(InputError, match="two manifests"):
        training_entries(read_manifest(first), [first])


def test_a_sequence_of_another_name_is_refused(workshop):
    first = workshop.manifest([], training=[workshop.study("a")], name="first.json")
    entry = {**workshop.study("b"), "image": {"lge": "b_LGE.nii.gz"}}
    second = workshop.manifest([], training=[entry], modality={"0": "lge"}, name="second.json")
    with pytest.raises(InputError, match="did you mean LGE"):
        training_entries(read_manifest(first), [second])


def test_every_patient_is_drawn_at_times():
    drawn = Counter(
        study for seed in range(200) for study in ids(held_out(entries(*[None] * 4), 0.25, seed)[1])
    )
    # 50 expected each; 4 standard deviations of a binomial are 4 * sqrt(200 * 3/16) = 25
    assert all(abs(drawn[f"s{i}"] - 50) < 25 for i in range(4))


def test_studies_are_kept_only_when_asked_to(workshop):
    cohort = read_manifest(workshop.manifest([], training=[workshop.study("a"), workshop.study("b")]))
    config = make_config(overrides=["sequences=[LGE, T2]", "classes=[blood, myocardium, edema, scar]"])
    entries = training_entries(cohort, [])
    for keep in (True, False):
        read = StudyReader(config, keep=keep)
        readable = read_all(entries, read, lambda items, _: items)
        assert ids(readable.entries) == ["a", "b"]
        assert readable.spacings_mm[0] == pytest.approx((1.2, 1.2, 10.0))
        assert (read(entries[0]) is read(entries[0])) == keep
