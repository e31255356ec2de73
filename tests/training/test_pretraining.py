"""Losses and batches of the pretrained networks."""

import math
import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mrigmm.config_pretrain import PretrainConfig, make_pretrain_config
from mrigmm.errors import InputError
from mrigmm.jobs.pretrain import pretrain
from mrigmm.labels import Region
from mrigmm.networks.segmenter import GIVEN_NOTHING, GIVEN_VENTRICLE
from mrigmm.phantom.generator import Code, allowed_table, read_backgrounds
from mrigmm.pretrained.folder import PretrainedFolder
from mrigmm.pretrained.networks import read_networks
from mrigmm.training.pretraining import (
    finder_batch,
    locator_batch,
    second_batch,
    segmenter_batch,
    segmenter_loss,
)

TABLE = torch.from_numpy(allowed_table())
TINY = {
    "seeds": [3],
    "filters": 2,
    "levels": 2,
    "steps": 4,
    "second_steps": 2,
    "finder_steps": 4,
    "batch": 2,
    "locator_filters": 2,
    "locator_steps": 2,
    "locator_batch": 2,
    "ranges": {"matrix": 32, "spacing_mm": 4.0},
}


def entropy(code, logits=None, **options):
    """Cross-entropy part of the loss of one pixel; its Dice part is 0 where all Dice are 1."""
    logits = torch.zeros(1, 7, 1, 1) if logits is None else logits
    codes = torch.full((1, 1, 1), int(code))
    loss = segmenter_loss(logits, codes, TABLE, outside_weight=1.0, **options)
    return loss, logits


@pytest.mark.parametrize(
    ("code", "classes"), [(Code.BLOOD, 1), (Code.NO_SCAR, 2), (Code.OUTSIDE, 2), (Code.NO_BLOOD, 6)]
)
def test_a_set_of_classes_costs_the_log_of_its_probability(code, classes):
    """All classes equally probable: -log(classes / 7), plus 1 - Dice with 20 pixels of smoothing."""
    loss, _ = entropy(code)
    dice_terms = 0.0
    if code < 7:  # p = 1 / 7 where the class is known
        own = 1 - (2 / 7 + 20) / (1 / 7 + 1 + 20)
        others = 5 * (1 - 20 / (1 / 7 + 20))
        dice_terms = (own + others) / 6
    assert float(loss) == pytest.approx(-math.log(classes / 7) + dice_terms, abs=1e-5)


def test_nothing_is_learnt_from_a_pixel_of_which_nothing_is_known():
    logits = torch.randn(1, 7, 2, 2, requires_grad=True)
    codes = torch.full((1, 2, 2), int(Code.UNKNOWN))
    segmenter_loss(logits, codes, TABLE, outside_weight=0.1).backward()
    assert logits.grad.abs().max() == 0


def test_gradient_is_that_of_float64():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 4, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    codes = torch.randint(0, len(Code), (2, 4, 4), generator=generator)
    torch.autograd.gradcheck(lambda x: segmenter_loss(x, codes, TABLE, outside_weight=0.15), (logits,))
    segmenter_loss(logits, codes, TABLE, outside_weight=0.15).backward()
    single = logits.detach().float().requires_grad_()
    segmenter_loss(single, codes, TABLE, outside_weight=0.15).backward()
    torch.testing.assert_close(single.grad.double(), logits.grad, rtol=1e-4, atol=1e-6)


def test_batches_depend_on_seed_and_step_alone():
    config, backgrounds = make_pretrain_config(TINY), read_backgrounds()
    finder_batches = [partial(finder_batch, part) for part in range(2)]
    for draw in (segmenter_batch, *finder_batches, locator_batch):
        one, same = draw(config, backgrounds, 3, 5), draw(config, backgrounds, 3, 5)
        other = draw(config, backgrounds, 3, 6)
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert not torch.equal(one["image"], other["image"])
    batch = segmenter_batch(config, backgrounds, 0, 0)
    assert {name: tuple(t.shape) for name, t in batch.items()} == {
        "image": (2, 3, 32, 32),
        "present": (2, 3),
        "region": (2, 32, 32),
        "given": (2,),
        "codes": (2, 32, 32),
    }


def test_a_training_leaves_networks_that_can_be_read_and_goes_on_where_it_stopped(tmp_path):
    result = pretrain(tmp_path / "nets", overrides=TINY, device="cpu", workers=0)
    assert result.networks == ("locator.safetensors", "finder.safetensors", "segmenter_3.safetensors")
    folder = PretrainedFolder(tmp_path / "nets")
    networks = read_networks(folder, torch.device("cpu"))
    assert networks.config == make_pretrain_config(TINY)
    for file in networks.record.files:
        assert (folder.path / file.file).stat().st_size == file.bytes
    assert folder.segmenter(3).exists()
    before = folder.segmenter(3).read_bytes()

    folder.segmenter(3).unlink()  # its checkpoint holds the whole training
    pretrain(tmp_path / "nets", overrides=TINY, device="cpu", workers=0)
    assert folder.segmenter(3).read_bytes() == before

    with pytest.raises(InputError, match="training with other settings") as error:
        pretrain(tmp_path / "nets", overrides={**TINY, "filters": 3}, device="cpu", workers=0)
    assert "filters" in str(error.value)


@pytest.mark.parametrize("second_steps", [0, 2])
def test_the_finder_goes_on_from_the_first_cycle_of_the_first_segmenter(tmp_path, second_steps):
    """A cycle of one step of no length leaves it where it starts."""
    still = {"second_steps": second_steps, "finder_steps": 1, "finder_learning_rate": 1e-12}
    pretrain(tmp_path, overrides={**TINY, **still}, device="cpu", workers=0)
    folder = PretrainedFolder(tmp_path)
    start = load_file(folder.first_cycle(3) if second_steps else folder.segmenter(3))
    assert_close(load_file(folder.finder), start)


def test_a_second_cycle_goes_on_from_the_first(tmp_path):
    """One step of no length leaves it where it starts; two steps of the default rate do not."""
    for name, rate, same in (("still", 1e-12, True), ("moved", 1e-3, False)):
        cycle = {"second_steps": 2, "second_learning_rate": rate, "average_decay": 0.0}
        pretrain(tmp_path / name, overrides={**TINY, **cycle}, device="cpu", workers=0)
        folder = PretrainedFolder(tmp_path / name)
        first, second = load_file(folder.first_cycle(3)), load_file(folder.segmenter(3))
        if same:
            assert_close(second, first)
        else:
            assert any(not torch.equal(first[name], second[name]) for name in first)


def test_a_second_cycle_sees_the_slices_that_follow():
    config, backgrounds = make_pretrain_config(TINY), read_backgrounds()
    follows = segmenter_batch(config, backgrounds, 3, TINY["steps"] + 1)
    second = second_batch(config, backgrounds, 3, 1)
    assert all(torch.equal(second[name], follows[name]) for name in follows)


def test_weights_that_are_there_need_no_checkpoints(tmp_path):
    """A finished folder is not trained again where its checkpoints have been deleted."""
    pretrain(tmp_path, overrides=TINY, device="cpu", workers=0)
    folder = PretrainedFolder(tmp_path)
    before = [file.sha256 for file in folder.read()[1].files]
    shutil.rmtree(folder.checkpoints)
    pretrain(tmp_path, overrides=TINY, device="cpu", workers=0)
    assert [file.sha256 for file in folder.read()[1].files] == before
    assert not folder.checkpoints.exists()


def assert_close(weights, others):
    """Weights are the same, but for their half precision."""
    for name, value in others.items():
        torch.testing.assert_close(weights[name].float(), value.float(), atol=1e-3, rtol=1e-3)


def test_without_steps_there_is_no_finder(tmp_path):
    pretrain(tmp_path, overrides={**TINY, "steps": 1, "finder_steps": 0}, device="cpu", workers=0)
    networks = read_networks(PretrainedFolder(tmp_path), torch.device("cpu"))
    assert networks.finder is networks.record.finder is None
    assert [file.file for file in networks.record.files] == ["locator.safetensors", "segmenter_3.safetensors"]


def test_the_finder_is_never_given_the_wall():
    config, backgrounds = make_pretrain_config({**TINY, "batch": 8}), read_backgrounds()
    batches = [finder_batch(step % 2, config, backgrounds, 0, step) for step in range(8)]
    given = torch.cat([batch["given"] for batch in batches])
    assert set(given.tolist()) == {GIVEN_NOTHING, GIVEN_VENTRICLE}
    regions = torch.cat([batch["region"] for batch in batches])
    assert set(regions.unique().tolist()) == {Region.OUTSIDE, Region.LV}
    assert all(r.wall_share[0] < config.ranges.wall_share[0] for r in config.ranges_of_finder())


def test_the_finder_is_the_mean_of_what_learns_from_each_of_its_ranges(tmp_path):
    pretrain(tmp_path, overrides={**TINY, "steps": 1}, device="cpu", workers=0)
    folder = PretrainedFolder(tmp_path)
    one, two = (load_file(folder.checkpoints / f"finder_{k}.safetensors") for k in range(2))
    assert any(not torch.equal(one[name], two[name]) for name in one)
    mean = load_file(folder.finder)
    for name, value in mean.items():
        torch.testing.assert_close(
            value.float(), (one[name].float() + two[name].float()) / 2, atol=1e-3, rtol=1e-3
        )


@pytest.mark.parametrize(("norm", "layer"), [("instance", nn.InstanceNorm2d), ("batch", nn.BatchNorm2d)])
def test_norm_of_the_segmenters_is_a_setting(tmp_path, norm, layer):
    pretrain(tmp_path, overrides={**TINY, "seeds": [3], "steps": 1, "norm": norm}, device="cpu", workers=0)
    (network,) = read_networks(PretrainedFolder(tmp_path), torch.device("cpu")).segmenters
    assert {type(m) for m in network.modules() if "Norm" in type(m).__name__} == {layer}


def test_defaults_are_typed_and_checked():
    config = make_pretrain_config()
    assert isinstance(config, PretrainConfig)
    assert config.ranges.matrix == 128
    with pytest.raises(InputError, match="healthy_chance"):
        make_pretrain_config({"ranges": {"healthy_chance": 1.5}})


def test_ranges_of_a_seed_of_its_own():
    config = make_pretrain_config({**TINY, "changed_ranges": {3: {"psir_chance": 1.0, "slices": [2, 2]}}})
    assert (config.ranges_of(3).psir_chance, config.ranges_of(3).slices) == (1.0, (2, 2))
    assert config.ranges_of(0) == config.ranges
    with pytest.raises(InputError, match="psir_chance"):
        make_pretrain_config({"changed_ranges": {3: {"psir_chance": 2.0}}})
