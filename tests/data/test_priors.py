import json

import numpy as np
import pytest

from mrigmm.data.priors import (
    SIGMAS_MM,
    default_multiscale_prior,
    default_prior,
    load_prior,
    multiscale_prior_for,
    prior_for,
    save_prior,
)
from mrigmm.data.standardise import CROP_ZSCORE, REGION_ZSCORE
from mrigmm.errors import InputError

SEQUENCES = ("LGE", "T2", "bSSFP")
CLASSES = ("blood", "myocardium", "edema", "scar")


def test_the_shipped_prior_says_what_every_reader_of_lge_knows():
    prior = default_prior()
    assert (prior.classes, prior.sequences) == (CLASSES, SEQUENCES)
    lge, t2, bssfp = (dict(zip(CLASSES, column, strict=True)) for column in prior.means.T)
    assert max(lge, key=lge.get) == "scar"  # late enhancement
    assert min(lge, key=lge.get) == "myocardium"  # nulled
    assert max(t2, key=t2.get) == "edema"
    assert max(bssfp, key=bssfp.get) == "blood"
    assert prior.weights.sum() == pytest.approx(1)
    assert len(prior.provenance["study_ids"]) == 25


def test_a_saved_prior_comes_back(tmp_path):
    prior = default_prior()
    save_prior(prior, tmp_path / "prior.json")
    loaded = load_prior(tmp_path / "prior.json")
    assert loaded.to_dict() == prior.to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "expected version 1"),
        ({"means": [[0, 0, 0]]}, "expected shape"),
        ({"means": [[0, 0, "x"]] * 4}, "lists of numbers"),
        ({"weights": [1, 1, 1, 1]}, "a distribution"),
        ({"covariances": np.zeros((4, 3, 3)).tolist()}, "positive definite"),
        ({"classes": [1, 2, 3, 4]}, "expected texts"),
        ({"sequences": [1, 2, 3]}, "expected texts"),
        ({"classes": ["a", "a", "b", "c"]}, "distinct"),
        ({"standardisation": "histogram"}, "wrong units"),
        ({"provenance": 5}, "not iterable"),
        ({"extra": 1}, "expected the keys"),
    ],
)
def test_unusable_priors(tmp_path, change, message):
    path = tmp_path / "prior.json"
    path.write_text(json.dumps({**default_prior().to_dict(), **change}))
    with pytest.raises(InputError, match=message) as caught:
        load_prior(path)
    (problem,) = caught.value.problems
    assert problem.file == str(path)
    assert problem.remedy == "make it again with mrigmm prior"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "cannot be used"),
        (b'{"version": NaN}', "cannot be used"),
    ],
)
def test_files_that_are_no_prior(tmp_path, content, message):
    path = tmp_path / "prior.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_prior(path)


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


def test_the_shipped_prior_in_crop_units():
    """Blood in LGE and edema in T2, as the shipped figures say; region units differ."""
    classes, prior = prior_for(("T2", "LGE"), ("blood", "edema"), None, CROP_ZSCORE)
    assert (classes, prior.standardisation) == (("blood", "edema"), CROP_ZSCORE)
    np.testing.assert_allclose(prior.means, [[-0.254, 1.093], [1.214, 0.38]])
    assert not np.allclose(prior.means, default_prior().select(classes, ("T2", "LGE")).means)


def test_a_prior_in_region_units_is_refused_where_the_crop_is_standardised(tmp_path):
    save_prior(default_prior(), tmp_path / "p.json")
    with pytest.raises(InputError, match="'region-zscore', got 'crop-zscore'") as caught:
        prior_for(SEQUENCES, CLASSES, tmp_path / "p.json", CROP_ZSCORE)
    assert "--set standardise=region" in str(caught.value.problems[0].remedy)


def test_a_prior_in_crop_units_is_refused_elsewhere(tmp_path):
    save_prior(default_prior(CROP_ZSCORE), tmp_path / "p.json")
    with pytest.raises(InputError, match="'crop-zscore', got 'region-zscore'"):
        load_prior(tmp_path / "p.json", REGION_ZSCORE)


def test_the_part_for_smoothed_intensities_comes_back(tmp_path):
    path, prior, scales = tmp_path / "p.json", default_prior(), default_multiscale_prior()
    save_prior(prior, path, scales)
    assert load_prior(path).to_dict() == prior.to_dict()
    loaded = multiscale_prior_for(prior, path)
    assert loaded.sigmas_mm == SIGMAS_MM == (0.75, 3.0)
    assert loaded.prior.to_dict() == scales.prior.to_dict()


def test_whose_part_for_smoothed_intensities(tmp_path):
    prior = default_prior()
    save_prior(prior, tmp_path / "older.json")
    assert multiscale_prior_for(prior, tmp_path / "older.json") is None
    assert multiscale_prior_for(None, None) is None
    shipped = multiscale_prior_for(prior, None)
    assert shipped.prior.to_dict() == default_multiscale_prior().prior.to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "expected version 1, got 2"),
        ({"sigmas_mm": []}, "rising widths"),
        ({"sigmas_mm": [3.0, 0.75]}, "rising widths"),
        ({"sigmas_mm": [0.75, 1e9]}, "rising widths"),
        ({"sigmas_mm": [float("nan"), 3.0]}, "rising widths"),
        ({"sigmas_mm": ["0.75", 3.0]}, "rising widths"),
        ({"sigmas_mm": 3.0}, "not iterable"),
        ({"sigmas_mm": [0.75, 2.0]}, "sequences: expected"),
        ({"classes": ["myocardium", "scar", "edema"]}, "classes: expected"),
        ({"means": [[0.0] * 3] * 3}, "expected shape"),
        ({"means": [[200.0] * 6] * 3}, "means within 100"),
        ({"covariances": np.zeros((3, 6, 6)).tolist()}, "positive definite"),
        ({"extra": 1}, "expected the keys"),
    ],
)
def test_a_damaged_part_for_smoothed_intensities(tmp_path, change, message):
    path = tmp_path / "p.json"
    part = default_multiscale_prior().to_dict() | change
    path.write_text(json.dumps({**default_prior().to_dict(), "multiscale": part}))
    with pytest.raises(InputError, match="the prior cannot be used") as caught:
        load_prior(path)
    (problem,) = caught.value.problems
    assert "its part 'multiscale' for smoothed intensities" in problem.got
    assert message in problem.got
    assert problem.file == str(path)


@pytest.mark.parametrize("part", [None, 5, "x", [], {}])
def test_a_part_for_smoothed_intensities_that_is_none(tmp_path, part):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({**default_prior().to_dict(), "multiscale": part}))
    with pytest.raises(InputError, match="part 'multiscale'"):
        load_prior(path)
