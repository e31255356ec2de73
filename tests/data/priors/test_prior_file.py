import json

import numpy as np
import pytest

from mrigmm.data.priors.choice import multiscale_prior_for
from mrigmm.data.priors.prior_file import SIGMAS_MM, load_prior, save_prior
from mrigmm.data.priors.shipped import default_multiscale_prior, default_prior
from mrigmm.errors import InputError

SEQUENCES = ("LGE", "T2", "bSSFP")
CLASSES = ("blood", "myocardium", "edema", "scar")


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
