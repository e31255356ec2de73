"""Symmetries of what the networks say."""

from dataclasses import replace

import pytest
import torch

from mrigmm.errors import InputError
from mrigmm.networks.segmenter import GIVEN_NOTHING, Segmenter, SegmenterInput
from mrigmm.pretrained.networks import (
    FIRST_LOOK,
    PRECISION_VARIABLE,
    SYMMETRIES,
    precision_of,
    replace_slices,
    shipped_networks,
    turned,
    turned_back,
)


@pytest.fixture
def networks():
    """Two small networks with random weights in place of the shipped ones, in single precision."""
    torch.manual_seed(0)
    segmenters = tuple(Segmenter(filters=2, levels=2).eval() for _ in range(2))
    return replace(shipped_networks("cpu"), segmenters=segmenters, finder=None, precision=torch.float32)


@pytest.fixture
def slices():
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(10, 3, 16, 16, generator=generator)  # more than are computed at once
    nothing = torch.zeros(10, 16, 16, dtype=torch.uint8)
    return SegmenterInput(
        image, torch.ones(10, 3, dtype=torch.bool), nothing, torch.full((10,), GIVEN_NOTHING)
    )


def test_a_turn_is_undone():
    x = torch.arange(25.0).reshape(1, 5, 5)
    for symmetry in SYMMETRIES:
        assert torch.equal(turned_back(turned(x, symmetry), symmetry), x)
    assert len({tuple(turned(x, symmetry).flatten().tolist()) for symmetry in SYMMETRIES}) == 8
    assert torch.equal(turned(x, (1, True)), torch.rot90(x.flip(-1), 1, (-2, -1)))  # the mirror comes first


def test_a_mirrored_image_has_mirrored_classes(networks, slices):
    mean, sd = networks.classes(slices)
    mirrored = replace(slices, image=slices.image.flip(-1), region=slices.region.flip(-1))
    other, other_sd = networks.classes(mirrored)
    assert mean.std() > 0.01
    torch.testing.assert_close(other.flip(-1), mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(other_sd.flip(-1), sd, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axes", [(-1,), (-2,), (-1, -2)])
def test_a_mirrored_image_has_a_mirrored_cavity(networks, axes):
    """Bright blood in a dark wall, beside the middle, in more slices than are computed at once."""
    place = torch.arange(64.0)
    away = torch.hypot(place[:, None] - 26, place - 35)
    x = (away < 9).float() - (away < 14).float() + 0.2 * torch.randn(8, 64, 64)
    found = networks.cavity(3 * x + 7)  # brightness and contrast do not matter
    assert found[:, 26, 35].min() > 0.5 > found[:, 0, 0].max()
    torch.testing.assert_close(networks.cavity(x.flip(axes)).flip(axes), found, atol=1e-5, rtol=0)


def test_the_spread_is_that_of_the_views(networks, slices):
    """Mean and SD over four views, two of either network, of one slice."""
    one = replace_slices(slices, slice(0, 1))
    views = views_of([networks.segmenters[number // 2] for number in range(4)], one)
    mean, sd = networks.classes(one)
    torch.testing.assert_close(mean, views.mean(dim=0), atol=1e-6, rtol=0)
    torch.testing.assert_close(sd, views.std(dim=0, unbiased=False), atol=1e-5, rtol=0)


def test_the_finder_sees_four_symmetries_and_then_two(networks, slices):
    one = replace_slices(slices, slice(0, 1))
    torch.testing.assert_close(networks.found(one), networks.classes(one)[0], atol=0, rtol=0)  # there is none
    finder = Segmenter(filters=2, levels=2).eval()
    seen = replace(networks, finder=finder)
    views = views_of([finder] * 4, one, FIRST_LOOK)
    torch.testing.assert_close(seen.found(one), views.mean(dim=0), atol=1e-6, rtol=0)
    torch.testing.assert_close(seen.found(one, again=True), views[:2].mean(dim=0), atol=1e-6, rtol=0)


def test_bfloat16_says_nearly_the_same(networks, slices):
    """Also where the processor has no instructions for it."""
    rounded = replace(networks, precision=torch.bfloat16)
    mean, sd = networks.classes(slices)
    rounded_mean, rounded_sd = rounded.classes(slices)
    assert rounded_mean.dtype == torch.float32
    assert 0 < (rounded_mean - mean).abs().mean() < 0.002
    assert (rounded_mean - mean).abs().max() < 0.05 > (rounded_sd - sd).abs().max()
    whole = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(2))
    assert 0 < (rounded.cavity(whole) - networks.cavity(whole)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("asked", "device", "able", "precision"),
    [
        (None, "cpu", True, torch.bfloat16),
        (None, "cpu", False, torch.float32),
        (None, "cuda", True, torch.float32),
        ("auto", "cpu", True, torch.bfloat16),
        ("32-true", "cpu", True, torch.float32),
    ],
)
def test_bfloat16_where_it_is_quicker(monkeypatch, asked, device, able, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": able}, raising=False)
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)
    if asked is not None:
        monkeypatch.setenv(PRECISION_VARIABLE, asked)
    assert precision_of(torch.device(device)) == precision


def test_an_older_torch_does_not_say_what_a_processor_can(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)
    assert precision_of(torch.device("cpu")) == torch.float32


def test_an_unknown_precision_is_refused(monkeypatch):
    monkeypatch.setenv(PRECISION_VARIABLE, "16")
    with pytest.raises(InputError, match=r"(?s)MRIGMM_PRECISION.*expected: 32-true, or auto.*got: 16"):
        precision_of(torch.device("cpu"))


@torch.inference_mode()
def views_of(segmenters, one, symmetries=SYMMETRIES[:4]):
    """Probabilities (V, 1, K, A, A) of a slice, each symmetry by its network."""
    views = []
    for segmenter, symmetry in zip(segmenters, symmetries, strict=True):
        seen = replace(one, image=turned(one.image, symmetry), region=turned(one.region, symmetry))
        views.append(turned_back(segmenter(seen).softmax(dim=1), symmetry))
    return torch.stack(views)
