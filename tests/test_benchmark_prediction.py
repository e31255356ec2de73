import benchmark_prediction as script
import pytest
import torch

from mrigmm.networks.unet import UNet


def test_ratios_are_within_the_rounds():
    times = {"slow": [10.0, 20.0, 90.0], "quick": [5.0, 5.0, 30.0]}
    found = script.ratio(times, "slow", "quick")  # 2, 4, 3
    assert (found.low, found.median, found.high) == (2.5, 3.0, 3.5)
    assert str(found) == "3.00 (2.50 to 3.50)"


def test_programs_run_in_turn_and_the_first_round_does_not_count():
    calls = []
    programs = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = script.in_turn(programs, 2)
    assert calls == ["a", "b"] * 3
    assert {name: len(found) for name, found in times.items()} == {"a": 2, "b": 2}


def test_the_peers_network_is_ours_with_the_convolution_after_the_upsampling():
    torch.manual_seed(0)
    ours = UNet(3, 4, filters=4, levels=2)
    peer = script.PublishedUNet(3, 4, filters=4, levels=2)
    # Same shapes in the same order; only the names of the up-convolutions differ.
    tensors = list(ours.state_dict().values())
    peer.load_state_dict(dict(zip(peer.state_dict(), tensors, strict=True)))
    image = torch.randn(2, 3, 16, 24)
    torch.testing.assert_close(peer(image), ours(image), atol=1e-5, rtol=0)


def test_the_peers_loss_by_hand():
    """Two pixels of class 0, x = 1 and 3 in all channels: mean 2, variance 1 plus the floor."""
    image = torch.zeros(1, 3, 1, 2)
    image[0, :, 0] = torch.tensor([1.0, 3.0])
    w = torch.zeros(1, 4, 1, 2)
    w[0, 0] = 1
    prior_means = torch.zeros(4, 3)
    prior_means[0] = torch.tensor([2.0, 2.0, 5.0])
    nll, distance = script.published_loss(image, w, torch.ones(1, 1, 2, dtype=torch.bool), prior_means)
    variance = torch.tensor(1 + 1e-3)
    assert float(nll) == pytest.approx(
        float(3 * (0.5 * torch.log(2 * torch.pi * variance) + 0.5 / variance)), rel=1e-5
    )
    assert float(distance) == pytest.approx(9, rel=1e-5)


def test_peer_and_deepsvg_have_the_same_objective():
    assert script.nll_difference(script.training_batch()) < 1e-5


@pytest.mark.slow
def test_tables_hold_every_program(monkeypatch):
    monkeypatch.setattr(script, "BATCH", 1)
    prediction = script.predictions(1, (2,), (3,))
    assert prediction[0]["slices"] == 3
    assert all(3 <= n < script.MAX_ITER for n in prediction[0]["iterations"].values())
    assert script.em_table(prediction).count("\n| 3 |") == 4
    assert [line.split("|")[2].strip() for line in script.pass_table(prediction).splitlines()[2:]] == [
        "2 filters, torch",
        "2 filters, onnx",
    ]
    training = script.training_steps(1, (2, 4))
    assert "| published, 4 filters | default, 2 filters | both |" in script.step_table(training)
