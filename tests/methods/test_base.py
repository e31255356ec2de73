import math

import pytest
import torch

from mrigmm.methods.base import Segmentation, uncertainty_maps
from mrigmm.mixture import Mixture


def test_entropy_by_hand():
    """Nats: outside, certain, two halves (ln 2), four quarters (ln 4)."""
    resp = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [0.5, 0, 0.5, 0], [0.25] * 4]).T[:, :, None, None]
    log_likelihood = torch.tensor([0, -1.5, -2.0, 0.5])[:, None, None]
    mixture = Mixture(torch.ones(1, 4) / 4, torch.zeros(1, 4, 1), torch.ones(1, 4, 1, 1))
    result = Segmentation(resp, torch.zeros(4, 1, 1), mixture, ("LGE",), log_likelihood, 0, True)
    maps = uncertainty_maps(result)
    assert maps["entropy"].flatten().tolist() == pytest.approx([0, 0, math.log(2), math.log(4)])
    assert torch.equal(maps["log_likelihood"], log_likelihood)
