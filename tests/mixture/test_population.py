"""Population prior: estimation by hand, selection, files; and naming of components."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mrigmm.mixture import Mixture, PopulationPrior, PopulationSums, match_to_prior, order_by_channels

CLASSES, SEQUENCES = ("blood", "wall", "scar"), ("LGE", "T2")


@pytest.fixture
def prior():
    covariances = np.array([[[1.0, 0.3], [0.3, 2.0]], [[0.5, 0.0], [0.0, 0.5]], [[2.0, -0.4], [-0.4, 1.0]]])
    means = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 2.0]])
    return PopulationPrior(
        CLASSES, SEQUENCES, means, covariances, np.array([0.5, 0.3, 0.2]), "lv_z", {"study_ids": ["a", "b"]}
    )


class TestEstimate:
    def estimate(self, studies, sequences=("LGE", "T2"), **change):
        sums = PopulationSums(("a", "b"), sequences)
        for position, study in enumerate(studies):
            sums.add(position, *study)
        return sums.prior(standardisation="lv_z", **change)

    def test_by_hand(self):
        """Two studies count the same although one has ten times the voxels; b is only in the second."""
        first = (np.tile([[0.0, 0.0], [2.0, 0.0]], (10, 1)), np.zeros(20, dtype=int))
        second = (np.array([[4.0, 1.0], [4.0, 3.0], [9.0, 5.0], [9.0, 7.0]]), np.array([0, 0, 1, 1]))
        prior = self.estimate([first, second], provenance={"study_ids": ["s1", "s2"]})
        np.testing.assert_allclose(prior.means, [[(1 + 4) / 2, (0 + 2) / 2], [9.0, 6.0]])
        np.testing.assert_allclose(prior.weights, [(1 + 0.5) / 2, (0 + 0.5) / 2])
        np.testing.assert_allclose(prior.covariances[0], [[0.5, 0.0], [0.0, 0.5]])
        assert prior.covariances[1][1, 1] == pytest.approx(1.0)
        assert np.linalg.eigvalsh(prior.covariances).min() > 0
        assert prior.provenance["study_ids"] == ["s1", "s2"]

    def test_missing_sequence(self):
        random = np.random.default_rng(0)
        complete = (random.normal([1.0, 5.0], size=(50, 2)), np.repeat([0, 1], 25))
        partial = random.normal([3.0, 0.0], size=(50, 2))
        partial[:, 1] = np.nan
        prior = self.estimate([complete, (partial, np.repeat([0, 1], 25))])
        np.testing.assert_allclose(prior.means[0, 1], complete[0][:25, 1].mean())
        np.testing.assert_allclose(
            prior.means[0, 0], (complete[0][:25, 0].mean() + partial[:25, 0].mean()) / 2
        )

    def test_a_study_without_voxels_does_not_count(self):
        study = (np.array([[0.0, 0.0], [2.0, 1.0], [4.0, 1.0], [6.0, 5.0]]), np.array([0, 0, 1, 1]))
        empty = (np.zeros((0, 2)), np.zeros(0, dtype=int))
        np.testing.assert_allclose(self.estimate([empty, study, empty]).weights, [0.5, 0.5])

    def test_covariances_that_were_singular(self):
        """Voxels on a line, variance 1 + 4 + 9: the other eigenvalues become a millionth of 14."""
        line = np.array([[-1.0, -2.0, 3.0], [1.0, 2.0, -3.0]])
        study = (np.concatenate([line, line]), np.array([0, 0, 1, 1]))
        for covariance in self.estimate([study], sequences=("LGE", "T2", "bSSFP")).covariances:
            np.testing.assert_allclose(np.linalg.eigvalsh(covariance), [14e-6, 14e-6, 14.0], rtol=1e-6)
            np.testing.assert_array_equal(covariance, covariance.T)
            np.testing.assert_allclose(covariance, np.outer(line[1], line[1]), atol=14e-6)

    @pytest.mark.parametrize(
        ("study", "message"),
        [
            ((np.zeros((3, 1)), np.zeros(3, dtype=int)), r"expected x \(N, 2\)"),
            ((np.zeros((3, 2)), np.zeros(2, dtype=int)), r"got \(3, 2\) and \(2,\)"),
            ((np.zeros((3, 2)), np.array([0, 1, 2])), r"study 0: expected labels in 0\.\.1, got 0\.\.2"),
            ((np.zeros((3, 2)), np.array([0, 1, -1])), r"labels in 0\.\.1, got -1\.\.1"),
            ((np.array([[0.0, 1.0], [np.nan, 1.0]]), np.array([0, 1])), "not finite"),
            ((np.zeros((3, 2)), np.zeros(3, dtype=int)), "no study has voxels of b"),
        ],
    )
    def test_says_what_is_wrong(self, study, message):
        with pytest.raises(ValueError, match=message):
            self.estimate([study])


class TestSelect:
    def test_order_weights_and_marginal(self, prior):
        part = prior.select(classes=["scar", "wall"], sequences=["T2"])
        assert (part.classes, part.sequences) == (("scar", "wall"), ("T2",))
        np.testing.assert_allclose(part.weights, [0.4, 0.6])
        np.testing.assert_allclose(part.means, [[2.0], [0.0]])
        np.testing.assert_allclose(part.covariances, [[[1.0]], [[0.5]]])
        assert (part.provenance, part.standardisation) == (prior.provenance, "lv_z")

    def test_unknown_name(self, prior):
        with pytest.raises(
            ValueError, match=r"^expected sequence names out of \['LGE', 'T2'\], got \['PET'\]"
        ):
            prior.select(sequences=["PET"])
        with pytest.raises(ValueError, match=r"^expected class names"):
            prior.select(classes=["scar", "fat"])
        with pytest.raises(ValueError, match=r"^expected class names .* got \[\]"):
            prior.select(classes=[])

    def test_nothing_chosen_is_everything(self, prior):
        assert prior.select().to_dict() == prior.to_dict()

    def test_classes_of_weight_0(self, prior):
        none = PopulationPrior.from_dict(prior.to_dict() | {"weights": [1.0, 0.0, 0.0]})
        with pytest.raises(ValueError, match=r"the classes \['wall', 'scar'\] have weight 0"):
            none.select(classes=["wall", "scar"])


class TestFile:
    def test_survives_json(self, prior):
        again = PopulationPrior.from_dict(json.loads(json.dumps(prior.to_dict())))
        for name in ("means", "covariances", "weights"):
            np.testing.assert_array_equal(getattr(again, name), getattr(prior, name))
        assert again.to_dict() == prior.to_dict()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"version": 2}, "expected version 1, got 2"),
            ({"means": [[0.0]]}, r"means: expected shape \(3, 2\)"),
            ({"weights": [0.5, 0.5, 0.5]}, "distribution"),
            ({"weights": [1.1, -0.1, 0.0]}, "distribution"),
            ({"weights": ["a", "b", "c"]}, "lists of numbers"),
            ({"means": [[0.0, np.nan]] * 3}, "means: expected finite numbers"),
            ({"covariances": [[[1.0, 0.5], [0.0, 1.0]]] * 3}, "symmetric"),
            ({"covariances": [[[1.0, 1.0], [1.0, 1.0]]] * 3}, "positive definite"),
            ({"sequences": ["a", "a"]}, "distinct"),
            ({"covariances": (-np.eye(2)[None].repeat(3, 0)).tolist()}, "positive definite"),
            ({"classes": ["a", "a", "b"]}, "distinct"),
            ({"surprise": 1}, "expected the keys"),
        ],
    )
    def test_strict(self, prior, change, message):
        with pytest.raises(ValueError, match=message):
            PopulationPrior.from_dict(prior.to_dict() | change)

    def test_wrong_standardisation_is_refused(self, prior):
        prior.require_standardisation("lv_z")
        with pytest.raises(ValueError, match="'crop_z'"):
            prior.require_standardisation("crop_z")

    def test_whole_numbers_are_figures_too(self, prior):
        whole = PopulationPrior.from_dict(prior.to_dict() | {"means": [[1, 0], [-1, 0], [1, 2]]})
        assert PopulationPrior(**vars(whole) | {"means": [[1, 0], [-1, 0], [1, 2]]}).means.dtype == np.float64

    def test_cannot_be_changed_in_place(self, prior):
        with pytest.raises(ValueError, match="read-only"):
            prior.means[0, 0] = 5.0


def test_map_prior_strengths(prior):
    same = prior.map_prior(0.1)
    assert (same.kappa, same.nu, same.a) == (0.1, 0.1, 0.1)
    apart = prior.map_prior(0.1, a=0.0, dtype=torch.float32)
    assert (apart.kappa, apart.a, apart.means.dtype) == (0.1, 0.0, torch.float32)
    for dtype in (torch.float32, torch.float64):
        tensors = (value for value in vars(same.to(dtype=dtype)).values() if isinstance(value, torch.Tensor))
        assert [value.dtype for value in tensors] == [dtype] * 3
    with pytest.raises(ValueError, match="give strength"):
        prior.map_prior(kappa=0.1)


class TestNaming:
    def test_matches_permuted_components(self, prior):
        mixture = prior.mixture()
        for order in ([2, 0, 1], [1, 2, 0], [0, 1, 2]):
            shuffled = mixture.permute(order)
            back = shuffled.permute(match_to_prior(shuffled, prior))
            torch.testing.assert_close(back.means, mixture.means)

    def test_distance_is_mahalanobis(self):
        """(3, 0) is nearer to the wide class in its own standard deviations, though not in intensity."""
        means = np.array([[0.0, 0.0], [4.0, 0.0]])
        covariances = np.stack([np.diag([100.0, 1.0]), np.diag([0.01, 1.0])])
        prior = PopulationPrior(("wide", "narrow"), SEQUENCES, means, covariances, np.array([0.5, 0.5]), "z")
        found = torch.tensor([[3.0, 0.0], [3.9, 0.0]])
        mixture = Mixture(torch.tensor([0.5, 0.5]), found, torch.eye(2).repeat(2, 1, 1))
        assert match_to_prior(mixture, prior) == [0, 1]
        assert match_to_prior(mixture.permute([1, 0]), prior) == [1, 0]

    def test_shapes_must_agree(self, prior):
        with pytest.raises(ValueError, match="expected means"):
            match_to_prior(prior.mixture().channels([0]), prior)

    def test_order_by_channels(self):
        means = torch.tensor([[5.0, 0.0, 9.0], [1.0, 1.0, 9.0], [0.0, 3.0, 0.0]])
        assert order_by_channels(means, [0, 1]) == [1, 2, 0]
        assert order_by_channels(means, [2]) == [2, 0, 1]
