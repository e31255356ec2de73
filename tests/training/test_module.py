import pytest
import torch

from mrigmm.config import make_config
from mrigmm.labels import Region, allowed_classes
from mrigmm.methods.deep_gmm import build_network
from mrigmm.networks.deep_gmm import mean_distance, negative_log_likelihood
from mrigmm.training import module
from mrigmm.training.batches import TrainingBatch
from mrigmm.training.module import DeepGMMModule

CLASSES = ("blood", "myocardium", "edema", "scar")


def make_batch():
    image = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    region = torch.full((2, 8, 8), int(Region.LV), dtype=torch.uint8)
    present = torch.ones(2, 3, dtype=torch.bool)
    rows = torch.arange(2)
    allowed = torch.tensor(allowed_classes(CLASSES))
    return TrainingBatch(image, region, rows, present, allowed, rows, n_rows=2, n_groups=2, counts=True)


def make_module(monkeypatch, step, *overrides):
    config = make_config("deepsvg", ["filters=2", "levels=1", *overrides]).model_copy(
        update={"sequences": ("LGE", "T2", "bSSFP"), "classes": CLASSES}
    )
    torch.manual_seed(0)
    made = DeepGMMModule(build_network(config, None), config, torch.zeros(4, 3))
    monkeypatch.setattr(made, "log_epoch", lambda name, value, batch: None)
    monkeypatch.setattr(DeepGMMModule, "global_step", step)
    return made


def seen(monkeypatch, step, *overrides):
    """What the augmentation is called with, in one training step."""
    calls = []

    def record(batch, generator, **options):
        calls.append((generator.initial_seed(), options))
        return batch

    monkeypatch.setattr(module, "augmented", record)
    make_module(monkeypatch, step, *overrides).training_step(make_batch(), 0)
    return calls


def test_all_chance_of_the_augmentation_follows_from_seed_and_step(monkeypatch):
    [(seed, options)] = seen(monkeypatch, 7, "seed=3")
    assert seed == 3 * 1_000_003 + 7
    assert options == {"whole_mixtures": False, "standardise": True}


def test_augmentation_of_volumes_other_units_and_none(monkeypatch):
    [(_, options)] = seen(monkeypatch, 0, "spatial_dims=3", "scope=study", "standardise=region")
    assert options == {"whole_mixtures": True, "standardise": False}
    assert seen(monkeypatch, 0, "published_augmentation=false") == []


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_objective_is_likelihood_plus_weighted_distance(monkeypatch, weight):
    options = ("published_augmentation=false", f"mean_regulariser={weight}")
    made = make_module(monkeypatch, 0, *options)
    batch = make_batch()
    output = made.network(batch)
    expected = negative_log_likelihood(output, batch, "nll_v")
    expected = expected + weight * mean_distance(output, batch, torch.zeros(4, 3))
    assert made.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-6)
