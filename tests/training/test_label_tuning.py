"""The loss on labels that leave something open, and scores of held-out studies."""

import math

import pytest
import torch

from mrigmm.config_pretrain import make_pretrain_config
from mrigmm.labels import ANY_CLASS, SEGMENTER_CLASSES, class_set
from mrigmm.networks.segmenter import GIVEN_WALL, Segmenter
from mrigmm.phantom.generator import read_backgrounds
from mrigmm.training.hardware import Hardware
from mrigmm.training.label_tuning import (
    PARTS,
    HeldOut,
    LabelModule,
    between,
    label_batch,
    label_loss,
    log_files,
    shows_infarct,
    told_parts,
    tune,
)
from tests.training.test_labelled import labelled

SMALL = make_pretrain_config({"ranges": {"matrix": 32, "spacing_mm": 4.0}, "filters": 2, "levels": 2})


def one_pixel(*names):
    return torch.full((1, 1, 1), class_set(names), dtype=torch.uint8)


def test_a_set_of_classes_costs_the_log_of_its_probability_and_dice_where_it_is_told():
    """All classes equally probable; infarct is told apart, edema is open beside normal wall."""
    logits = torch.zeros(1, 7, 1, 1)
    loss = float(label_loss(logits, one_pixel("scar", "mvo"), outside_weight=0.1))
    entropy = -math.log(2 / 7)
    dice = []
    for names in PARTS.values():
        p = len(names) / 7
        if {"scar", "mvo"} <= {*names}:  # infarct, pathology, wall: it is one
            dice.append((2 * p + 20) / (p + 1 + 20))
        else:  # it is none
            dice.append(20 / (p + 20))
    assert loss == pytest.approx(entropy + sum(1 - d for d in dice) / len(dice), abs=1e-5)
    open_edema = float(label_loss(logits, one_pixel("myocardium", "edema"), outside_weight=0.1))
    dice = {name: 20 / (len(names) / 7 + 20) for name, names in PARTS.items()}
    dice |= {"wall": (2 * 4 / 7 + 20) / (4 / 7 + 1 + 20), "edema": 1, "myocardium": 1, "pathology": 1}
    assert open_edema == pytest.approx(-math.log(2 / 7) + sum(1 - d for d in dice.values()) / 7, abs=1e-5)


def test_nothing_is_learnt_from_pixels_to_ignore():
    logits = torch.randn(1, 7, 2, 2, requires_grad=True)
    label_loss(logits, torch.full((1, 2, 2), ANY_CLASS), outside_weight=0.1).backward()
    assert logits.grad.abs().max() == 0


def test_gradient_is_that_of_float64():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    sets = torch.randint(1, 128, (2, 3, 3), generator=generator)
    assert torch.autograd.gradcheck(lambda x: label_loss(x, sets, outside_weight=0.15), (logits,))


def test_parts_that_labels_tell_apart():
    def told(*sets):
        codes = torch.tensor([[[class_set(s) for s in sets]]])
        return {name for name, yes in zip(PARTS, told_parts(codes).tolist(), strict=True) if yes}

    outside, infarct = ("background", "rv"), ("scar", "mvo")
    full = told(outside, ("blood",), ("myocardium",), ("edema",), infarct, SEGMENTER_CLASSES)
    assert full == {*PARTS} - {"rv"}
    assert told(outside, ("blood",), ("myocardium", "edema"), infarct) == {"blood", "wall", "infarct"}
    assert told(infarct, ("background", "blood", "myocardium", "edema", "rv")) == {"infarct"}
    assert told(SEGMENTER_CLASSES) == set()


def test_whether_labels_show_an_infarct():
    def shows(*sets):
        return shows_infarct(torch.tensor([[[class_set(s) for s in sets]]]))

    assert shows(("background",), ("myocardium",), ("scar", "mvo")) is True
    assert shows(("background",), ("myocardium",), ("edema",)) is False
    assert shows(("background",), ("myocardium", "edema", "scar", "mvo")) is None
    assert shows(SEGMENTER_CLASSES) is None


class Certain(torch.nn.Module):
    """Says of every pixel what it is told to."""

    def __init__(self, sets):
        super().__init__()
        self.sets = sets
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        lowest = (self.sets[:, None] >> torch.arange(7)[None, :, None, None]) & 1
        return 50.0 * (lowest.cumsum(dim=1) == 1) * lowest


def test_scores_of_a_network_that_is_right_and_of_one_that_finds_nothing():
    held_out = HeldOut([labelled()], SMALL)
    nothing, given = held_out.views[0]
    assert int(given.x.given[0]) == GIVEN_WALL
    right = held_out.score([Certain(nothing.sets)])
    names = ("blood", "wall", "infarct", "pathology")
    assert right.means() == {
        **{f"{name}, nothing given": 1.0 for name in names},
        "infarct, wall given": 1.0,
        "pathology, wall given": 1.0,
    }
    assert right.score == 1.0
    blind = held_out.score([Certain(torch.ones_like(nothing.sets))])
    assert set(blind.means().values()) == {0.0}
    assert 0 < blind.score < 0.5  # forgives a few pixels


def test_batches_are_labelled_and_simulated_slices():
    backgrounds = read_backgrounds()
    config = SMALL.model_copy(update={"batch": 4})
    one, same = (label_batch(config, [labelled()], backgrounds, 2, 0, 5) for _ in range(2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert {name: tuple(part.shape) for name, part in one.items()} == {
        "image": (4, 3, 32, 32),
        "present": (4, 3),
        "region": (4, 32, 32),
        "given": (4,),
        "sets": (4, 32, 32),
    }
    assert not torch.equal(one["image"], label_batch(config, [labelled()], backgrounds, 2, 0, 6)["image"])


def test_a_training_tries_weights_between_start_and_end_and_keeps_the_statistics(tmp_path):
    torch.manual_seed(0)
    network = Segmenter(filters=2, levels=2)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    config = SMALL.model_copy(update={"batch": 2, "average_decay": 0.5})
    held_out = HeldOut([labelled()], config)
    files = log_files(tmp_path, "one")
    options = {
        "steps": 4,
        "stop": 2,
        "share": 0.5,
        "simulated": 1,
        "seed": 1,
        "backgrounds": read_backgrounds(),
        "files": files,
        "hardware": Hardware("cpu", 1, 1, "32-true"),
        "track": lambda items, _: items,
    }
    tried = tune(network, [labelled()], config, held_out=held_out, **options)
    assert [(c.step, c.share) for c in tried] == [(0, 0.0), (2, 0.5), (2, 1.0)]
    assert all(0 <= c.score <= 1 for c in tried)
    assert files.log.exists()
    assert not files.checkpoint.exists()
    [end] = tune(network, [labelled()], config, held_out=None, **options)
    for name, value in end.weights.items():
        assert torch.equal(value, tried[1].weights[name])  # the same half way, without anybody held out
        assert torch.equal(network.state_dict()[name], start[name])
        assert "running" not in name or torch.equal(value, start[name])
    assert any(not torch.equal(end.weights[name], start[name]) for name in start)


def test_weights_between():
    start, end = {"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(1)}, {"w": torch.tensor([2.0, 0.0])}
    end["n"] = torch.tensor(3)
    half = between(start, end, 0.25)
    assert half["w"].tolist() == [0.5, 3.0]
    assert int(half["n"]) == 3


def test_batch_statistics_stay_frozen():
    module = LabelModule(Segmenter(filters=2, levels=2, norm="batch"), SMALL, 4, None)
    module.train()
    module.on_train_batch_start()
    layers = [m for m in module.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert layers
    assert not any(layer.training for layer in layers)
    assert module.network.training
