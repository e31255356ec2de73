import torch

from mrigmm.mixture.votes import agreement_share

VOTES = torch.tensor([[1, 1, 0, 3], [1, 2, 0, 2], [1, 2, 5, 1]])


def test_share_of_the_votes_for_a_label():
    assert (
        agreement_share(VOTES, torch.tensor([1, 1, 0, 9])).tolist()
        == torch.tensor([1, 1 / 3, 2 / 3, 0]).tolist()
    )
