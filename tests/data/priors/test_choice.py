import numpy as np
import pytest

from mrigmm.data.priors.choice import prior_for
from mrigmm.data.priors.prior_file import load_prior, save_prior
from mrigmm.data.priors.shipped import default_prior
from mrigmm.data.standardise import CROP_ZSCORE, REGION_ZSCORE
from mrigmm.errors import InputError

SEQUENCES = ("LGE", "T2", "bSSFP")
CLASSES = ("blood", "myocardium", "edema", "scar")


def test_the_prior_is_in_the_order_of_the_cohorts_sequences_and_of_the_classes_asked_for():
    classes, prior = prior_for(("bSSFP", "LGE"), CLASSES, None, asked=("scar", "blood"))
    full = default_prior()
    assert classes == ("scar", "blood")
    assert (prior.classes, prior.sequences) == (("scar", "blood"), ("bSSFP", "LGE"))
    np.testing.assert_array_equal(prior.means, full.means[np.ix_([3, 0], [2, 0])])
    np.testing.assert_allclose(prior.weights, full.weights[[3, 0]] / full.weights[[3, 0]].sum())


@pytest.mark.parametrize(
    "declared", [(), ("scar",), ("lesion",), CLASSES[:2], ("blood", "myocardium", "scar"), CLASSES[::-1]]
)
@pytest.mark.parametrize("sequences", [("LGE",), ("T2",), SEQUENCES])
def test_the_classes_are_those_of_the_prior_whatever_the_reference_names(declared, sequences):
    assert prior_for(sequences, declared, None)[0] == CLASSES


def test_where_no_sequence_shows_scar_or_edema_they_are_no_classes():
    assert prior_for(("bSSFP",), CLASSES, None)[0] == ("blood", "myocardium")
    assert prior_for(("bSSFP",), CLASSES, None, asked=CLASSES)[0] == CLASSES


def test_a_prior_of_the_ventricle_need_not_know_every_tissue_of_the_reference(tmp_path):
    save_prior(default_prior().select(("blood", "myocardium", "scar"), SEQUENCES), tmp_path / "p.json")
    assert prior_for(("LGE",), CLASSES, tmp_path / "p.json")[0] == ("blood", "myocardium", "scar")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("scar",), "at least two different"),
        (("scar", "scar"), "at least two different"),
        ((), "at least two different"),
        (("scar", "blod"), "unknown class 'blod'"),
    ],
)
def test_classes_that_cannot_be_asked_for(asked, says):
    with pytest.raises(InputError, match=says):
        prior_for(SEQUENCES, CLASSES, None, asked=asked)
    with pytest.raises(InputError):
        prior_for(("T1",), ("white", "lesion"), None, asked=asked)


def test_other_classes_have_no_shipped_prior():
    assert prior_for(("T1", "FLAIR"), ("grey", "white"), None) == (("grey", "white"), None)


def test_a_users_prior_must_know_every_class_and_sequence(tmp_path):
    save_prior(default_prior(), tmp_path / "p.json")
    with pytest.raises(InputError) as caught:
        prior_for(("LGE", "T1"), ("scar", "fat"), tmp_path / "p.json")
    assert [p.what for p in caught.value.problems] == [
        "unknown class 'fat' among known ones",
        "unknown sequence name 'T1'",
    ]
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
        prior_for((name,), (), None)
    assert caught.value.problems[0].remedy.startswith(remedy)


def test_a_name_given_twice():
    with pytest.raises(InputError, match="distinct"):
        prior_for(("LGE", "LGE"), (), None)


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
