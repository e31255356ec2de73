import json
from dataclasses import replace

import pytest
import torch

from mrigmm.data.standardise import REGION_ZSCORE
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import Task
from mrigmm.methods.registry import make_method
from mrigmm.mixture import PopulationPrior

from ..conftest import SEQUENCES
from .conftest import CLASSES, dice


def lesion(ring):
    """LGE and T2 with scar in sector 0 (bright in both) and edema in sector 1 (bright in T2, dark in LGE)."""
    lge, t2 = ring.base(), ring.base()
    lge[ring.sector(0)] += 200
    lge[ring.sector(1)] -= 30
    t2[ring.sector(0) | ring.sector(1)] += 100
    t2[ring.study.region == Region.CAVITY] = 20
    return ring.paint(lge, t2=t2)


def prior():
    """Classes as in `lesion`, in its z-scores."""
    means = torch.tensor([[4.0, -1.6, 0], [0, 0, 0], [-0.6, 2.0, 0], [4.0, 2.0, 0]]).double().numpy()
    covariances = torch.eye(3).double().expand(4, 3, 3).numpy() * 0.3
    return PopulationPrior(
        classes=CLASSES,
        sequences=SEQUENCES,
        weights=torch.full((4,), 0.25).double().numpy(),
        means=means,
        covariances=covariances,
        standardisation=REGION_ZSCORE,
    )


def test_clusters_are_named_by_the_prior(ring, segment):
    result = segment("kmeans", lesion(ring), prior=prior())
    truth = {1: ring.study.region == Region.CAVITY, 3: ring.sector(1), 4: ring.sector(0)}
    truth[2] = ring.wall & ~truth[3] & ~truth[4]
    for index, mask in truth.items():
        assert dice(result.labels == index, mask) == 1
    assert set(result.resp.unique().tolist()) == {0.0, 1.0}
    assert result.warnings == ()


def test_an_undivided_ventricle_is_clustered_as_a_whole(ring, segment):
    study = lesion(ring)
    undivided = torch.where(study.region > 0, int(Region.LV), 0).to(torch.uint8)
    apart = segment("kmeans", study, prior=prior()).labels
    assert torch.equal(segment("kmeans", replace(study, region=undivided), prior=prior()).labels, apart)


def test_without_a_prior_clusters_are_named_by_brightness(ring, segment):
    """In T2 alone edema and scar are alike; in the sum of LGE and T2 scar is brightest, then edema."""
    result = segment("kmeans", lesion(ring))
    assert torch.equal(result.labels == 4, ring.sector(0))
    assert torch.equal(result.labels == 3, ring.sector(1))
    assert result.warnings == ("no population prior: classes are ordered by brightness in all sequences",)
    by_lge = segment("kmeans", lesion(ring), order_by=("LGE",))
    assert torch.equal(by_lge.labels == 2, ring.sector(1))  # the darkest in LGE


def test_the_seed_makes_it_reproducible(ring, segment):
    study = ring.study
    first, again = (segment("kmeans", study, seed=3).labels for _ in range(2))
    assert torch.equal(first, again)


def test_a_flat_wall_leaves_classes_empty_and_says_so(ring, segment):
    result = segment("kmeans", ring.paint(torch.where(ring.wall, 100.0, 300.0)))
    assert "some classes are empty" in result.warnings[0]
    assert len(result.labels[ring.wall].unique()) == 1
    assert result.mixture.means.isfinite().all()


def test_what_cannot_be_clustered_is_refused(ring, segment):
    study = lesion(ring)
    observed = study.observed.clone()
    observed[1, ..., 0] = False
    with pytest.raises(InputError, match="cannot leave out single voxels") as caught:
        segment("kmeans", replace(study, observed=observed))
    assert caught.value.problems[0].study == "s1"

    region = torch.where(study.region == Region.CAVITY, study.region, 0)
    region[tuple(ring.wall.nonzero()[0])] = int(Region.WALL)
    with pytest.raises(InputError, match="this small") as caught:
        segment("kmeans", replace(study, region=region))
    assert (caught.value.problems[0].expected, caught.value.problems[0].got) == ("at least 3 voxels", "1")


# One clustering for the whole cohort


def darker(ring, fraction, *, t2=True):
    """The lesion with so much of its contrast in LGE, and nothing else changed."""
    study = lesion(ring)
    image, observed = study.image.clone(), study.observed.clone()
    image[0, ring.sector(0)] *= fraction
    if not t2:
        image[1], observed[1] = 0, False
    return replace(study, image=image, observed=observed)


def learned(*studies, prior=None, **settings):
    method = make_method("kmeans", Task(CLASSES, ("LGE", "T2"), prior), {"scope": "cohort", **settings})
    pair = [replace(s, sequences=("LGE", "T2"), image=s.image[:2], observed=s.observed[:2]) for s in studies]
    method.fit_cohort(lambda: iter(pair))
    return method, pair


def test_a_cohort_shares_its_clusters(ring):
    """Scar is at 4.0 in one study and at 3.0 in the other; as many voxels, so its centre is at 3.5."""
    method, pair = learned(lesion(ring), darker(ring, 0.75))
    centres = method._learned[int(Region.WALL)]
    assert centres[2].tolist() == pytest.approx([3.5, 2.0], abs=0.01)  # myocardium, edema, scar
    for study in pair:
        result = method.segment(study)
        assert torch.equal(result.labels == 4, ring.sector(0))
        assert torch.equal(result.labels == 3, ring.sector(1))
        assert torch.equal(result.labels == 1, ring.study.region == Region.CAVITY)
        assert result.details == {"cohort_studies": 2}
    again, _ = learned(lesion(ring), darker(ring, 0.75))
    assert torch.equal(again._learned[int(Region.WALL)], centres)


def test_a_study_without_t2_is_not_learned_from_but_assigned_by_lge(ring):
    method, pair = learned(lesion(ring), darker(ring, 0.8, t2=False))
    result = method.segment(pair[1])
    assert result.details == {"cohort_studies": 1}
    assert result.sequences == ("LGE",)
    assert torch.equal(result.labels == 4, ring.sector(0))


def test_a_cohort_without_a_complete_study_is_refused(ring):
    with pytest.raises(InputError, match="cannot learn from this cohort") as caught:
        learned(darker(ring, 1, t2=False))
    assert caught.value.problems[0].expected == "a study with LGE, T2 all over its region"


def test_a_part_that_was_not_learned_is_refused(ring):
    method, pair = learned(lesion(ring))
    undivided = torch.where(pair[0].region > 0, int(Region.LV), 0).to(torch.uint8)
    with pytest.raises(InputError, match="has not learned this part") as caught:
        method.segment(replace(pair[0], region=undivided))
    problem = caught.value.problems[0]
    assert (problem.study, problem.expected, problem.got) == ("s1", "wall or cavity", "lv")


def test_a_cohort_has_to_be_seen_first(ring, segment):
    with pytest.raises(InputError, match="has to see the cohort first"):
        segment("kmeans", lesion(ring), scope="cohort")


def test_predict_shows_it_the_cohort(cli, cohort, tmp_path):
    done = cli("predict", cohort, "-o", tmp_path / "out", "--method", "kmeans", "--set", "scope=cohort",
               "--split", "all")  # fmt: skip
    assert done.code == 0, done.err
    sides = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("study_*.json"))]
    assert [side["cohort_studies"] for side in sides] == [4, 4, 4, 4]


def test_unknown_settings_are_refused():
    with pytest.raises(InputError, match="has no setting 'k'"):
        make_method("kmeans", Task(CLASSES, SEQUENCES, None), {"k": 3})
