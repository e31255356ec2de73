from dataclasses import replace

import numpy as np
import pytest
import torch

import mrigmm.methods.consensus as module
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import Task, segmentation_of, unpack
from mrigmm.methods.consensus import staple
from mrigmm.methods.registry import make_method

from ..conftest import SEQUENCES
from .conftest import CLASSES, dice
from .test_kmeans import lesion, prior

MEMBERS = ("em-gmm", "kmeans")


class Member:
    """A method that answers what it was told to: responsibilities (N, K) of the region's voxels."""

    name = "told"

    def __init__(self, task, resp, notes=()):
        self.task, self.resp, self.notes = task, resp, notes
        self.seen = None

    def segment(self, study):
        return segmentation_of(
            study, unpack(self.resp.float(), study.region), self.task.classes, n_iter=1, warnings=self.notes
        )

    def describe(self):
        return {}


@pytest.fixture
def consensus(monkeypatch):
    """`consensus(study, resp, resp, ...)`: a consensus of members that answer just that."""

    def segment(study, *answers, with_prior=True, notes=(), **settings):
        task = Task(CLASSES, SEQUENCES, prior() if with_prior else None)
        names = ("em-gmm", "kmeans", "map-em")[: len(answers)]
        members = {name: Member(task, resp, notes) for name, resp in zip(names, answers, strict=True)}
        monkeypatch.setattr(module, "make_method", lambda name, *_: members[name])
        return make_method("consensus", task, {"members": names, **settings}).segment(study)

    return segment


def undivided(ring):
    study = lesion(ring)
    return replace(study, region=(study.region > 0).to(torch.uint8))


def rows(study, *probabilities):
    """The same class probabilities in every voxel of the region."""
    return torch.tensor(probabilities).repeat(int((study.region > 0).sum()), 1)


def one_hot(labels):
    return torch.nn.functional.one_hot(labels, len(CLASSES)).double()


def test_average_is_the_mean_of_the_responsibilities(ring, consensus):
    study = undivided(ring)
    result = consensus(
        study,
        rows(study, 0.6, 0.4, 0.0, 0.0),
        rows(study, 0.5, 0.5 - 0.01, 0.01, 0.0),
        rows(study, 0.1, 0.9, 0.0, 0.0),
    )
    inside = study.region > 0
    mean = result.resp[:, inside].mean(dim=1)
    assert mean.tolist() == pytest.approx([0.4, 0.59 + 1 / 150, 1 / 300, 0], abs=1e-6)
    assert result.labels[inside].unique().tolist() == [2]  # myocardium
    # One of three says myocardium.
    assert result.maps["agreement"][inside].unique().tolist() == pytest.approx([1 / 3])
    assert not result.maps["agreement"][~inside].any()
    assert result.details["agreement"] == {"mean": pytest.approx(1 / 3), "unanimous": 0.0}


@pytest.mark.parametrize("rule", ["average", "staple"])
def test_only_allowed_classes_are_left(ring, consensus, rule):
    """Members that say blood in the wall: what remains sums to 1."""
    study = lesion(ring)
    answer = rows(study, 0.5, 0.25, 0.125, 0.125)
    result = consensus(study, answer, answer, rule=rule)
    assert (result.resp[0] == (study.region == Region.CAVITY)).all()
    expected = [0, 0.5, 0.25, 0.25] if rule == "average" else [0, 1, 0, 0]
    assert result.resp[:, ring.wall].mean(dim=1).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("rule", ["average", "staple"])
@pytest.mark.parametrize("divided", [True, False])
def test_members_of_the_registry_find_the_lesion(ring, segment, rule, divided):
    study = lesion(ring) if divided else undivided(ring)
    result = segment("consensus", study, prior=prior(), rule=rule)
    truth = {1: ring.study.region == Region.CAVITY, 3: ring.sector(1), 4: ring.sector(0)}
    for index, mask in truth.items():
        assert dice(result.labels == index, mask) > 0.95
    inside = study.region > 0
    assert torch.allclose(result.resp.sum(dim=0), inside.float(), atol=1e-6)
    assert result.details["members"] == ["em-gmm", "map-em", "map-em-2step", "kmeans"]


def rater(truth, accuracy, seed):
    """Labels that are right with this probability, else any other class."""
    generator = np.random.default_rng(seed)
    wrong = generator.random(len(truth)) > accuracy
    other = (truth + generator.integers(1, 4, len(truth))) % 4
    return torch.from_numpy(np.where(wrong, other, truth))


def em_step(votes, resp):
    """One step of the EM of Rohlfing et al. as written: confusion matrices, and the posterior from them."""
    k = resp.shape[1]
    shares = np.bincount(votes.ravel(), minlength=k) / votes.size
    theta = np.stack([[resp[member == label].sum(axis=0) for label in range(k)] for member in votes])
    theta /= theta.sum(axis=1, keepdims=True)
    posterior = shares * np.prod([t[member] for t, member in zip(theta, votes, strict=True)], axis=0)
    return theta, posterior / posterior.sum(axis=1, keepdims=True)


def test_staple_finds_how_good_the_members_are():
    truth = np.random.default_rng(1).integers(0, 4, 20_000)
    accuracy = {"good": 0.95, "fair": 0.8, "poor": 0.6}
    labels = {name: rater(truth, p, seed) for seed, (name, p) in enumerate(accuracy.items())}
    allowed = torch.ones((len(truth), 4), dtype=torch.bool)
    resp, found = staple(labels, allowed, CLASSES)
    theta, posterior = em_step(torch.stack([*labels.values()]).numpy(), resp.numpy())
    np.testing.assert_allclose(resp.numpy(), posterior, atol=2e-3)  # it has settled
    for j, (name, p) in enumerate(accuracy.items()):
        assert [*found["sensitivity"][name].values()] == pytest.approx(np.diag(theta[j]), abs=1e-3)
        assert found["sensitivity"][name]["blood"] == pytest.approx(p, abs=0.03)
        # A wrong label is another class with a third of the chance.
        assert found["specificity"][name]["edema"] == pytest.approx(1 - (1 - p) / 3, abs=0.02)


def test_staple_trusts_the_good_member_where_the_average_does_not(ring, consensus):
    study = undivided(ring)
    truth = np.random.default_rng(1).integers(0, 4, int((study.region > 0).sum()))
    answers = [one_hot(rater(truth, p, seed)) for seed, p in enumerate((0.97, 0.5, 0.5))]
    right = {}
    for rule in ("average", "staple"):
        result = consensus(study, *answers, rule=rule)
        labels = result.labels[study.region > 0].numpy().astype(int) - 1
        right[rule] = (labels == truth).mean()
    assert right["staple"] > right["average"] + 0.05


def test_staple_decides_where_all_members_differ():
    """Votes that never come together elsewhere: SimpleITK itself leaves such a voxel undecided."""
    truth = np.arange(600) % 3
    votes = {name: torch.from_numpy(truth.copy()) for name in ("a", "b", "c")}
    for index, name in enumerate(votes):
        votes[name][0] = index
    resp, found = staple(votes, torch.ones((600, 4), dtype=torch.bool), CLASSES)
    assert torch.isfinite(resp).all()
    assert torch.allclose(resp.sum(dim=1), torch.ones(600).double())
    assert resp[1:].argmax(dim=1).tolist() == truth[1:].tolist()
    assert set(found["sensitivity"]["a"]) == {"blood", "myocardium", "edema"}  # nobody says scar


def test_staple_of_members_that_agree_in_everything(ring, consensus):
    """One class in all voxels, and no class but two: no division by nothing."""
    study = undivided(ring)
    same = rows(study, 0.0, 1.0, 0.0, 0.0)
    result = consensus(study, same, same, rule="staple")
    assert torch.equal(result.labels > 0, study.region > 0)
    assert result.details["sensitivity"] == {"em-gmm": {}, "kmeans": {}}
    two = one_hot((torch.arange(len(same)) % 2) * 3)
    result = consensus(study, two, two, rule="staple")
    assert set(result.details["sensitivity"]["kmeans"].items()) == {("blood", 1.0), ("scar", 1.0)}
    assert set(result.details["specificity"]["kmeans"].values()) == {1.0}
    assert (result.maps["agreement"] == (study.region > 0)).all()


def test_without_a_prior_classes_are_matched_by_overlap(ring, consensus):
    """Two members find the same clusters and number them differently."""
    study = undivided(ring)
    labels = torch.arange(int((study.region > 0).sum())) % 4
    answers = one_hot(labels), one_hot((labels + 1) % 4)
    matched = consensus(study, *answers, with_prior=False)
    assert torch.equal(matched.labels[study.region > 0].long() - 1, labels)
    assert matched.details["agreement"] == {"mean": 1.0, "unanimous": 1.0}
    named = consensus(study, *answers, with_prior=True)  # there a class is what its name says
    assert named.details["agreement"]["mean"] == 0.5


def test_a_member_that_cannot_is_left_out_and_named(ring, segment):
    study = undivided(ring)
    members = ("otsu", "map-em", *MEMBERS)  # otsu needs the wall, map-em a prior
    result = segment("consensus", study, members=members)
    assert result.details["members"] == [*MEMBERS]
    assert result.details["left_out"] == {
        "map-em": "map-em needs a population prior for these classes and sequences",
        "otsu": "otsu needs to know the wall",
    }
    assert "otsu is left out: otsu needs to know the wall" in result.warnings
    assert torch.equal(result.labels, segment("consensus", study, members=MEMBERS).labels)


def test_fewer_than_two_members_are_no_consensus(ring, segment):
    with pytest.raises(InputError, match="fewer than two members") as caught:
        segment("consensus", undivided(ring), prior=prior(), members=("otsu", "fwhm", "kmeans"))
    problem = caught.value.problems[0]
    assert problem.study == "s1"
    assert "otsu is left out: otsu needs to know the wall; fwhm is left out" in problem.got
    with pytest.raises(InputError, match="fewer than two members") as caught:  # before any study is read
        make_method("consensus", Task(CLASSES, SEQUENCES, None), {"members": "map-em,kmeans"})
    assert caught.value.problems[0].study is None


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ("em-gmm,kmean", "'kmean' cannot be a member"),
        ("em-gmm,consensus", "'consensus' cannot be a member"),
        ("em-gmm,runs/first", "trained runs cannot be members"),
        ("em-gmm", "at least 2, each once"),
        ("em-gmm,em-gmm", "at least 2, each once"),
        ([], "at least 2, each once"),
    ],
)
def test_members_that_make_no_sense_are_refused(members, message):
    with pytest.raises(InputError, match=message):
        make_method("consensus", Task(CLASSES, SEQUENCES, None), {"members": members})


def test_settings_are_told_and_the_seed_reaches_the_members():
    task = Task(CLASSES, SEQUENCES, prior())
    told = make_method("consensus", task, {"members": "kmeans, map-em-2step", "seed": 3}).describe()
    assert (told["members"], told["rule"], told["seed"]) == (["kmeans", "map-em-2step"], "average", 3)
    assert told["member_settings"]["kmeans"]["seed"] == 3
    assert told["member_settings"]["map-em-2step"]["smoothing_mm"] == 2.25
    with pytest.raises(InputError, match="'rule' is not allowed"):
        make_method("consensus", task, {"rule": "vote"})


def test_what_members_warn_of_is_said_once(ring, consensus):
    study = undivided(ring)
    answer = rows(study, 0.1, 0.2, 0.3, 0.4)
    assert consensus(study, answer, answer, notes=("beware",)).warnings == ("em-gmm, kmeans: beware",)


def test_members_that_learn_from_the_cohort_see_it(ring, monkeypatch):
    class Learner(Member):
        wants_cohort = True

        def fit_cohort(self, studies):
            self.seen = [study.id for study in studies()]

    task = Task(CLASSES, SEQUENCES, prior())
    learner, other = Learner(task, None), Member(task, None)
    monkeypatch.setattr(module, "make_method", lambda name, *_: {"em-gmm": learner, "kmeans": other}[name])
    method = make_method("consensus", task, {"members": MEMBERS})
    assert method.wants_cohort
    method.fit_cohort(lambda: iter([ring.study]))
    assert (learner.seen, other.seen) == (["s1"], None)
    monkeypatch.undo()
    assert not make_method("consensus", task, {}).wants_cohort
