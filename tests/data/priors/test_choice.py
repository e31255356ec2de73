import numpy as np
import pytest

from mrigmm.data.priors.choice import prior_for
from mrigmm.data.priors.files import load_prior, save_prior
from mrigmm.data.priors.shipped import default_prior
from mrigmm.data.standardise import CROP_ZSCORE, REGION_ZSCORE
from mrigmm.errors import InputError

SEQUENCES = ("LGE", "T2", "bSSFP")
CLASSES = ("blood", "myocardium", "edema", "scar")


def test_the_prior_of_a_cohort_is_in_the_cohorts_order():
    classes, prior = prior_for(("bSSFP", "LGE"), ("scar", "blood"), None)
    full = default_prior()
    assert classes == ("scar", "blood")
    assert (prior.classes, prior.sequences) == (("scar", "blood"), ("bSSFP", "LGE"))
    np.testing.assert_array_equal(prior.means, full.means[np.ix_([3, 0], [2, 0])])
    np.testing.assert_allclose(prior.weights, full.weights[[3, 0]] / full.weights[[3, 0]].sum())


def test_without_class_names_they_are_those_of_the_prior():
    assert prior_for(SEQUENCES, None, None)[0] == CLASSES


def test_other_classes_have_no_shipped_prior():
    assert prior_for(("T1", "FLAIR"), ("grey", "white"), None) == (("grey", "white"), None)


def test_a_users_prior_must_know_every_class_and_sequence(tmp_path):
    save_prior(default_prior(), tmp_path / "p.json")
    with pytest.raises(InputError) as caught:
        prior_for(("LGE", "T1"), ("scar", "fat"), tmp_path / "p.json")
    assert [p.what for p in caught.value.problems] == ["unknown class 'fat'", "unknown sequence name 'T1'"]
    assert {p.file for p in caught.value.problems} == {str(tmp_path / "p.json")}


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("DE", "name it LGE"),
        ("t2w", "name it T2"),
        ("cine", "name it bSSFP"),
        ("bSFP", "did you mean bSSFP?"),
    ],
)
def test_other_names_of_the_sequences(name, remedy):
    with pytest.raises(InputError) as caught:
        prior_for((name,), None, None)
    assert caught.value.problems[0].remedy.startswith(remedy)


@pytest.mark.parametrize("classes", [("scar",), ("fat",)])
def test_one_class_is_no_mixture(classes):
    with pytest.raises(InputError, match="at least two classes"):
        prior_for(SEQUENCES, classes, None)


def test_a_name_given_twice():
    with pytest.raises(InputError, match="distinct"):
        prior_for(("LGE", "LGE"), None, None)


def test_a_class_that_the_prior_does_not_know_among_known_ones_is_a_slip():
    with pytest.raises(InputError, match="unknown class 'blodd' among known ones") as caught:
        prior_for(("LGE",), ("blodd", "myocardium"), None)
    assert "did you mean blood?" in caught.value.problems[0].remedy
    assert prior_for(("LGE",), ("fat", "muscle"), None) == (("fat", "muscle"), None)


def test_a_prior_in_region_units_is_refused_where_the_crop_is_standardised(tmp_path):
    save_prior(default_prior(), tmp_path / "p.json")
    with pytest.raises(InputError, match="'region-zscore', got 'crop-zscore'") as caught:
        prior_for(SEQUENCES, CLASSES, tmp_path / "p.json", CROP_ZSCORE)
    assert "--set standardise=region" in str(caught.value.problems[0].remedy)


def test_a_prior_in_crop_units_is_refused_elsewhere(tmp_path):
    save_prior(default_prior(CROP_ZSCORE), tmp_path / "p.json")
    with pytest.raises(InputError, match="'crop-zscore', got 'region-zscore'"):
        load_prior(tmp_path / "p.json", REGION_ZSCORE)
