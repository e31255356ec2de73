"""The networks that ship with the package, and folders that are no such thing."""

import shutil

import pytest
import torch

from mrigmm.errors import InputError
from mrigmm.pretrained.folder import PretrainedFolder, describe_file, shipped_folder
from mrigmm.pretrained.networks import read_networks, shipped_networks

MOST_BYTES = 8e6


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped networks, to be spoilt."""
    return PretrainedFolder(shutil.copytree(shipped_folder().path, tmp_path / "networks"))


def test_the_record_is_that_of_the_files():
    networks = shipped_networks("cpu")
    pairs = [
        (networks.record.locator, networks.locator),
        (networks.record.finder, networks.finder),
        *zip(networks.record.segmenters, networks.segmenters, strict=True),
    ]
    for recorded, network in pairs:
        assert recorded.parameters == sum(p.numel() for p in network.parameters())
        assert describe_file(shipped_folder().path / recorded.file, recorded.parameters) == recorded
    weights = sorted(file.name for file in shipped_folder().path.glob("*.safetensors"))
    assert weights == sorted(recorded.file for recorded, _ in pairs)


def test_all_weights_together_are_small():
    assert sum(file.stat().st_size for file in shipped_folder().path.rglob("*.safetensors")) <= MOST_BYTES


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),  # still weights, but not these
    ],
    ids=["half", "empty", "one bit"],
)
def test_damaged_weights(folder, spoil):
    file = folder.segmenter(0)
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(InputError, match="the weights cannot be read") as caught:
        read_networks(folder, torch.device("cpu"))
    assert str(file) in str(caught.value)


def test_a_folder_without_a_record_is_unfinished(folder):
    folder.record.unlink()
    with pytest.raises(InputError, match="there are no finished networks"):
        read_networks(folder, torch.device("cpu"))


@pytest.mark.parametrize("content", ["{", '{"locator": 1}', "[" * 10**5])
def test_a_damaged_record(folder, content):
    folder.record.write_text(content)
    with pytest.raises(InputError, match="the record of the networks is damaged"):
        folder.read()


def test_calibration_may_be_absent_but_not_damaged(folder):
    folder.calibration.unlink(missing_ok=True)
    assert folder.read_calibration() is None
    folder.calibration.write_text("{")
    with pytest.raises(InputError, match="the calibration is damaged"):
        folder.read_calibration()
