import pytest
import torch

from mrigmm.networks.gmm_head import SLOTS, GMMHead, sinkhorn


@pytest.fixture
def head():
    torch.manual_seed(0)
    return GMMHead(4, 2, n_components=2, n_dims=3)


def test_log_densities_are_those_of_diagonal_gaussians(head):
    head.variances = torch.rand(2, 2, 3) + 0.1
    x = torch.randn(5, 3)
    expected = torch.stack(
        [
            torch.distributions.Normal(head.means[k, m], head.variances[k, m].sqrt()).log_prob(x).sum(-1)
            for k in range(2)
            for m in range(2)
        ],
        dim=-1,
    ).view(5, 2, 2)
    torch.testing.assert_close(head.component_log_density(x), expected, atol=1e-4, rtol=1e-4)
    head.weights = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    whole = (expected + head.weights.log()).logsumexp(-1)
    torch.testing.assert_close(head.class_log_density(x), whole, atol=1e-4, rtol=1e-4)


def test_logits_follow_bayes_rule_at_temperature_one(head):
    head.shares = torch.tensor([0.2, 0.8])
    with torch.no_grad():
        head.log_temperature.zero_()
    features = torch.randn(1, 4, 2, 2)
    x = head.embedded(features)
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(1, 2, 2))
    joint = head.class_log_density(x).exp() * head.shares
    posterior = (joint / joint.sum(-1, keepdim=True)).movedim(-1, 1)
    torch.testing.assert_close(head(features).softmax(dim=1), posterior)
    torch.testing.assert_close(head.log_density(features), head.class_log_density(x).amax(-1))


def test_sinkhorn_gives_components_their_weights():
    torch.manual_seed(1)
    scores = torch.randn(400, 3)
    weights = torch.tensor([0.6, 0.3, 0.1])
    q = sinkhorn(scores, weights, n_steps=50)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(400))
    torch.testing.assert_close(q.mean(dim=0), weights, atol=1e-3, rtol=0)
    even = sinkhorn(scores, torch.full((3,), 1 / 3), n_steps=50)
    torch.testing.assert_close(even.mean(dim=0), torch.full((3,), 1 / 3), atol=1e-3, rtol=0)


def test_scores_of_any_size_are_no_problem():
    q = sinkhorn(torch.tensor([[-1e6, -2e6], [-3e6, -1e6]]), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(q, torch.eye(2))


def test_mixtures_follow_the_labelled_features(head):
    """Two directions per class, one of them three times as frequent; after learning they are the means."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.tensor([[[1.0, 0, 0], [-1.0, 0, 0]], [[0, 1.0, 0], [0, 0, 1.0]]])
    head.means = torch.nn.functional.normalize(directions + 0.3, dim=-1)
    for _ in range(200):
        for k in range(2):
            which = (torch.rand(200, generator=generator) < 0.25).long()
            noise = 0.05 * torch.randn(200, 3, generator=generator)
            x = torch.nn.functional.normalize(directions[k][which] + noise, dim=-1)
            head._learn_class(k, x)
    torch.testing.assert_close(head.means, directions, atol=0.05, rtol=0)
    torch.testing.assert_close(head.weights, torch.tensor([[0.75, 0.25]] * 2), atol=0.08, rtol=0)
    assert int(head.filled.min()) == SLOTS
    usual = head.class_log_density(directions).amax(-1)
    unusual = head.class_log_density(torch.tensor([0.0, -1.0, 0.0])).max()
    assert unusual < usual.min() - 10


def test_a_class_that_is_absent_is_left_as_it_was(head):
    means = head.means.clone()
    anatomy = torch.zeros(1, 2, 8, 8)
    anatomy[:, 0] = 1
    head.learn(torch.randn(1, 4, 8, 8), anatomy, torch.Generator().manual_seed(0))
    assert torch.equal(head.means[1], means[1])
    assert not torch.equal(head.means[0], means[0])
    assert head.shares[0] == pytest.approx(0.5 * 0.95 + 0.05)
    assert head(torch.randn(1, 4, 8, 8)).isfinite().all()
