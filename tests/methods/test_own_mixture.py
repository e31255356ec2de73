"""The spatially variant mixture with its weights given."""

from dataclasses import replace

import torch

from mrigmm.labels import Region
from mrigmm.methods.pretrained import own_fit


def two_tissues(ring):
    """Wall of LGE 0 in its upper half and 200 in its lower one, i.e. z -2 and 2; little noise."""
    lge = torch.zeros(ring.wall.shape)
    upper = torch.arange(lge.shape[0])[:, None, None] < lge.shape[0] // 2
    lge[~upper.expand_as(lge)] = 200
    noise = torch.randn(lge.shape, generator=torch.Generator().manual_seed(0))
    study = ring.paint(lge + 5 * noise)
    region = torch.where(ring.wall, int(Region.WALL), 0).to(torch.uint8)
    return replace(study, region=region), upper.expand_as(lge) & ring.wall


def test_means_come_from_the_study(ring):
    """A prior that only leans the right way: the study's own intensities decide."""
    study, upper = two_tissues(ring)
    prior = torch.zeros(2, *upper.shape)
    prior[0] = torch.where(upper, 0.6, 0.4) * ring.wall
    prior[1] = ring.wall.float() - prior[0]
    fit = own_fit(study, study.region, prior)
    torch.testing.assert_close(fit.mixture.means[:, 0].float(), torch.tensor([-2.0, 2.0]), atol=0.05, rtol=0)
    inside = fit.resp[:, ring.wall]
    torch.testing.assert_close(inside.sum(dim=0), torch.ones(inside.shape[1]))
    assert ((fit.resp[0] > 0.5) == upper)[ring.wall].float().mean() > 0.9  # but for smoothing at the border
    assert fit.resp[:, ~ring.wall].abs().max() == 0


def test_what_the_prior_rules_out_stays_out(ring):
    study, _ = two_tissues(ring)
    prior = torch.stack([ring.wall.float(), torch.zeros(ring.wall.shape)])
    fit = own_fit(study, study.region, prior)
    assert fit.resp[1].max() == 0
    assert torch.isfinite(fit.mixture.means[0]).all()
