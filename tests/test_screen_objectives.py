"""The losses that were compared for the default, against numbers by hand, and the script as a whole."""

import json
import math

import pytest
import screen_objectives
import torch
from benchmark_subsets import subsets
from screen_objectives import (
    Forward,
    TrainingSlices,
    continuity,
    free_energy,
    negative_mutual_information,
    nll_v,
    one_size,
)

from mrigmm.mixture import MapPrior

PRIOR = MapPrior(
    means=torch.tensor([[-1.0], [1.0]], dtype=torch.float64),
    covariances=torch.ones(2, 1, 1, dtype=torch.float64),
    weights=torch.full((2,), 0.5, dtype=torch.float64),
    kappa=1e9,  # so strong that the mixture is the prior's, whatever w says
    nu=1e9,
    a=1e9,
)


def forward(w, image=None, again=None):
    """One slice of one study with two classes; w: (2, A, A) probabilities, features all 0."""
    log_w = torch.as_tensor(w, dtype=torch.float32).log()[None]
    side = log_w.shape[-1]
    zeros = torch.zeros(1, 1, side, side)
    return Forward(
        log_prior=log_w,
        again=lambda: log_w if again is None else torch.as_tensor(again).log()[None],
        image=zeros if image is None else image,
        wall=torch.ones(1, side, side),
        target=log_w.exp(),
        features=zeros,
        study=torch.zeros(1, dtype=torch.long),
        priors=[PRIOR],
    )


def halves(p):
    """Two by two: class probability p in the first row, 1 - p in the second."""
    first = torch.tensor([[p, p], [1 - p, 1 - p]])
    return torch.stack([first, 1 - first])


def test_nll_v_of_voxels_midway_between_two_classes():
    # N(0 | -1, 1) = N(0 | 1, 1) = exp(-1/2) / sqrt(2 pi), whatever w is.
    expected = 0.5 + 0.5 * math.log(2 * math.pi)
    assert float(nll_v(forward(halves(0.9)))) == pytest.approx(expected, abs=5e-3)


def test_free_energy_is_nll_plus_the_divergence_to_the_posterior():
    # Midway, the posterior is (1/2, 1/2): KL = ln 2 - entropy of (.9, .1).
    nll = 0.5 + 0.5 * math.log(2 * math.pi)
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    expected = nll + math.log(2) - entropy
    assert float(free_energy(forward(halves(0.9)))) == pytest.approx(expected, abs=5e-3)


def test_continuity_counts_jumps_of_neighbours_and_forgives_edges():
    # Rows differ by 2 * .8 in all pairs along x, columns not at all.
    assert float(continuity(forward(halves(0.9)))) == pytest.approx(1.6, abs=1e-5)
    edge = torch.tensor([[0.0, 0.0], [9.0, 9.0]])[None, None]
    # exp(-9^2 / 2) of their weight is left.
    assert float(continuity(forward(halves(0.9), image=edge))) == pytest.approx(0, abs=1e-6)


def test_mutual_information_is_ln_2_for_two_certain_even_classes_and_0_without_a_choice():
    certain = halves(1 - 1e-7)
    assert float(negative_mutual_information(forward(certain))) == pytest.approx(-math.log(2), abs=1e-4)
    same = torch.full((2, 2, 2), 0.5)
    assert float(negative_mutual_information(forward(same))) == pytest.approx(0, abs=1e-6)


def test_subsets_of_the_sequences():
    found = list(subsets(("LGE", "T2", "bSSFP")))
    assert len(found) == 7
    assert found[0] == ("LGE", "T2", "bSSFP")
    assert found[-1] == ("bSSFP",)


def test_slices_of_two_sizes_are_padded_to_one():
    studies = [TrainingSlices(torch.ones(2, 3, side, side), PRIOR) for side in (4, 6)]
    small, large = one_size(studies)
    assert small.maps.shape == (2, 3, 6, 6)
    assert small.maps.sum() == 2 * 3 * 4 * 4
    assert torch.equal(large.maps, studies[1].maps)


@pytest.mark.slow
def test_all_arms_run_and_are_kept(tmp_path):
    options = ["--studies", "1", "--epochs", "3", "--filters", "2", "--phantom", "small"]
    arguments = ["-o", str(tmp_path), *options, "--set", "levels=2", "--set", "spacing_mm=2"]
    assert screen_objectives.main(arguments) == 0
    arms = json.loads((tmp_path / "screening.json").read_text())["arms"]
    assert list(arms) == ["map-em-2step", *screen_objectives.arms(3, 1e-3)]
    assert arms["gem"]["labels"]["shared"]["scar"]["dice"] >= 0
    assert arms["map-em-2step"]["labels"]["fit"]["scar"]["difference"] == 0
