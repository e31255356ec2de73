from pathlib import Path

import pytest

from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.priors.shipped import default_multiscale_prior, default_prior
from mrigmm.data.provenance import prior_overlap, provenance_record

SHIPPED = default_prior().provenance


def overlap(provenance, *ids, name="", file=None):
    studies = [Study(i, {"LGE": Path(file or f"{i}_LGE.nii.gz")}) for i in ids]
    found = prior_overlap(provenance, Manifest(Path("m.json"), ("LGE",), {}, {}, name), studies)
    return ["sure" if i in found.sure else "perhaps" if i in found.perhaps else "no" for i in ids]


def test_the_shipped_priors_say_where_they_come_from():
    record = provenance_record(SHIPPED)
    assert record["dataset"] == "MyoPS 2020"
    assert record["study_ids"] == [f"myops_training_{n}" for n in range(101, 126)]
    assert provenance_record(default_multiscale_prior().prior.provenance) == record


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ("myops_training_101", "sure"),
        ("MyoPS_training_125", "sure"),
        ("myops_training_126", "no"),
        ("myops_test_201", "no"),
        ("101", "perhaps"),
        ("Case_101", "perhaps"),
        ("Case101", "perhaps"),
        ("sub-101", "perhaps"),
        ("myops_101", "perhaps"),
        ("MyoPS2020-101", "perhaps"),
        ("1101", "no"),
        ("Case_100", "no"),
        ("Case_P101", "no"),
        ("101_D8", "no"),
        ("patient101_ED", "no"),
        ("case", "no"),
    ],
)
def test_ids_of_copies_of_the_data_set(study, expected):
    assert overlap(SHIPPED, study) == [expected]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("myops_training_109_DE.nii.gz", "sure"),
        ("x/myops_training_109_DE.nii", "sure"),
        ("myops_109_0000.nii.gz", "perhaps"),
        ("109_DE.nii.gz", "perhaps"),
        ("myops_training_1091_DE.nii.gz", "no"),
        ("LGE.nii.gz", "no"),
    ],
)
def test_a_renamed_study_is_known_by_its_files(file, expected):
    assert overlap(SHIPPED, "mine", file=file) == [expected]


def test_numbers_of_another_data_set():
    assert overlap(SHIPPED, "Case_101", name="EMIDEC") == ["no"]
    assert overlap(SHIPPED, "Case_101", name="MyoPS") == ["perhaps"]
    assert overlap(SHIPPED, "Case_101", name="my cohort") == ["perhaps"]
    assert overlap(SHIPPED, "myops_training_101", name="EMIDEC") == ["sure"]


def test_priors_of_ones_own():
    own = {"source": "mrigmm prior", "dataset": "my cohort", "study_ids": ["p01", "p02"]}
    assert overlap(own, "p01", "p03", name="my cohort") == ["sure", "no"]
    # Ids that every cohort has.
    assert overlap(own, "p01", "p03", name="their cohort") == ["perhaps", "no"]
    assert overlap({**own, "dataset": ""}, "p01", name="any") == ["sure"]
    numbered = {"dataset": "phantom-small-1", "study_ids": ["study_001"]}
    assert overlap(numbered, "study_001", "study_002", name="phantom-small-1") == ["sure", "no"]


@pytest.mark.parametrize("broken", [{}, {"study_ids": "myops_training_101"}, {"study_ids": None}])
def test_a_prior_that_does_not_say(broken):
    assert overlap(broken, "myops_training_101", "") == ["no", "no"]
