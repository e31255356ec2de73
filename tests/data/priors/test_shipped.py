import numpy as np
import pytest

from mrigmm.data.priors.choice import prior_for
from mrigmm.data.priors.shipped import default_prior
from mrigmm.data.standardise import CROP_ZSCORE

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


def test_the_shipped_prior_in_crop_units():
    """Blood in LGE and edema in T2, as the shipped figures say; region units differ."""
    classes, prior = prior_for(("T2", "LGE"), (), None, CROP_ZSCORE, asked=("blood", "edema"))
    assert (classes, prior.standardisation) == (("blood", "edema"), CROP_ZSCORE)
    np.testing.assert_allclose(prior.means, [[-0.254, 1.093], [1.214, 0.38]])
    assert not np.allclose(prior.means, default_prior().select(classes, ("T2", "LGE")).means)
