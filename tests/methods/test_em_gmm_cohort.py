"""`em-gmm --set scope=cohort`: one mixture for all studies."""

import errno
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.priors.shipped import default_prior
from mrigmm.data.study import load_study
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import SharedCohortMethod, Task
from mrigmm.methods.registry import make_method
from mrigmm.mixture import fit_gmm
from mrigmm.phantom import simulate_cohort

SEQUENCES = ("LGE", "T2", "bSSFP")
COHORT = {"scope": "cohort", "covariance": "full"}


@pytest.fixture(scope="module")
def task():
    prior = default_prior()
    return Task(prior.classes, SEQUENCES, prior)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """The second lacks T2."""
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    cohort = read_manifest(simulate_cohort(folder, n_studies=3, seed=8, preset="small"))
    found = [load_study(s, SEQUENCES, default_prior().classes) for s in cohort.split("all")]
    lacks = found[1].observed.clone()
    lacks[1] = False
    found[1] = replace(found[1], observed=lacks)
    return found


def test_one_mixture_for_all_studies(task, studies):
    method = make_method("em-gmm", task, {**COHORT, "max_iter": 6, "tolerance": 1e-12})
    assert isinstance(method, SharedCohortMethod)
    assert method.wants_cohort
    passes = []
    method.fit_cohort(lambda: iter(passes.append(None) or studies))
    assert len(passes) == 1  # studies are read once, whatever the iterations

    x = torch.cat([study.voxels for study in studies]).double()
    observed = torch.cat([study.observed[:, study.region > 0].T for study in studies])
    whole = fit_gmm(
        x, observed=observed, start=task.prior.mixture(), covariance="full", max_iter=6, tol=1e-12
    )
    results = [method.segment(study) for study in studies]
    for result in (results[0], results[2]):
        torch.testing.assert_close(result.mixture.means[0], whole.mixture.means, rtol=1e-6, atol=1e-6)
        assert result.details["cohort_studies"] == 3
        assert "fits stopped at 6 iterations" in result.warnings[0]
    assert results[1].sequences == ("LGE", "bSSFP")
    torch.testing.assert_close(results[1].mixture.means[0], results[0].mixture.means[0][:, [0, 2]])
    n = [int((study.region > 0).sum()) for study in studies]
    for result, study, resp in zip(results, studies, whole.resp.split(n), strict=True):
        found = result.resp[:, study.region > 0].T
        torch.testing.assert_close(found.double(), resp, rtol=0, atol=1e-5)


def test_without_a_prior_classes_have_the_order_of_brightness_in_all_studies(studies):
    task = Task(("dark", "grey", "bright"), SEQUENCES, None)
    method = make_method("em-gmm", task, {**COHORT, "order_by": ("bSSFP",)})
    method.fit_cohort(lambda: iter(studies))
    first, _, third = (method.segment(study).mixture.means[0] for study in studies)
    assert torch.equal(first, third)
    assert first[:, 2].tolist() == sorted(first[:, 2].tolist())


def test_the_start_is_that_of_the_first_study_whichever_process_has_it(studies):
    """A process without studies learns the same."""
    task = Task(("dark", "grey", "bright"), SEQUENCES, None)
    alone = make_method("em-gmm", task, {**COHORT, "max_iter": 1})
    alone.fit_cohort(lambda: iter(studies[:1]))
    kept = []
    again = make_method("em-gmm", task, {**COHORT, "max_iter": 1})
    again.fit_shared([(0, studies[0])], lambda sums: kept.append(sums.copy()) or sums)
    idle = make_method("em-gmm", task, {**COHORT, "max_iter": 1})
    idle.fit_shared([], lambda sums: sums + kept.pop(0))
    means = [method.segment(studies[0]).mixture.means for method in (alone, again, idle)]
    assert torch.equal(means[0], means[1])
    assert torch.equal(means[0], means[2])


def test_cavity_and_wall_keep_their_classes(task, tmp_path):
    cohort = simulate_cohort(tmp_path / "c", n_studies=2, seed=8, preset="small", region="cavity-wall")
    studies = [load_study(s, SEQUENCES, task.classes) for s in read_manifest(cohort).split("all")]
    method = make_method("em-gmm", task, COHORT)
    method.fit_cohort(lambda: iter(studies))
    for study in studies:
        labels = method.segment(study).labels
        assert set(labels[study.region == Region.CAVITY].tolist()) == {1}
        assert 1 not in labels[study.region == Region.WALL].tolist()


def test_what_has_learned_nothing_says_so(task, studies):
    method = make_method("em-gmm", task, COHORT)
    for learn in (None, lambda: iter(())):
        if learn is not None:
            method.fit_cohort(learn)
        with pytest.raises(InputError, match="has learned from no study"):
            method.segment(studies[0])


def test_no_room_for_the_voxels(task, studies, monkeypatch):
    def full(file, values, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match="temporary file") as caught:
        make_method("em-gmm", task, COHORT).fit_cohort(lambda: iter(studies))
    assert "TMPDIR" in caught.value.problems[0].remedy


@pytest.mark.parametrize("name", ["em-svgmm", "em-gmm-sklearn", "map-em"])
def test_the_others_have_no_mixture_of_a_cohort(task, name):
    with pytest.raises(InputError, match="scope"):
        make_method(name, task, {"scope": "cohort"})
