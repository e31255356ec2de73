"""Defects of the published reference implementation that must not come back.

The table "What is not as published" in docs/method_networks.md says which test stands for which
defect; those that fit nowhere else are here.
"""

import re
from pathlib import Path

import pytest
import torch

import mrigmm
from mrigmm.config import make_config
from mrigmm.data.crops import network_view
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import load_study
from mrigmm.labels import Region, allowed_classes
from mrigmm.networks.deep_gmm import DeepGMM, SliceBatch, negative_log_likelihood
from mrigmm.training.fit import training_study

from .conftest import SEQUENCES, intensities, ventricle

ROOT = Path(__file__).parent.parent
CLASSES = ("blood", "myocardium", "edema", "scar")


def test_every_test_that_the_table_names_exists():
    page = (ROOT / "docs" / "method_networks.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) >= 10
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


@pytest.mark.parametrize("objective", ["nll", "nll_v"])
def test_a_class_on_identical_voxels_keeps_the_variance_floor(objective):
    """Half of the voxels have one value: with a floor of 1e-10 a class on them has a density of 1e10."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 2, 8, 8, generator=generator)
    image[..., :4] = 0.5
    batch = SliceBatch(
        image,
        torch.full((1, 8, 8), int(Region.LV), dtype=torch.uint8),
        torch.zeros(1, dtype=torch.long),
        torch.ones(1, 2, dtype=torch.bool),
        torch.tensor(allowed_classes(CLASSES)),
    )
    torch.manual_seed(0)
    network = DeepGMM(2, 4, filters=4, levels=1, covariance="diag", variance_floor=1e-3, prior=None)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(60):
        output = network(batch)
        loss = negative_log_likelihood(output, batch, objective)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    variances = output.mixture.covariances.diagonal(dim1=-2, dim2=-1)
    assert variances.min() >= 1e-3
    # the largest density is (2 pi 1e-3)^-1 = 159: no objective can be below -log 159 = -5.07
    assert loss.item() > -5.07


def test_slices_are_not_chosen_by_the_reference_label(workshop):
    """A slice without infarct is trained on, as every slice that the region touches."""
    entry = workshop.study()
    healthy = ventricle()
    healthy[..., 0] = healthy[..., 0].clip(0, 2)
    workshop.volume(entry["label"], healthy)
    study = read_manifest(workshop.manifest([entry])).split("test")[0]
    tensors = load_study(study, SEQUENCES, CLASSES)
    assert tensors.label is None
    view = network_view(tensors, spacing_mm=1.2, crop_mm=20, divisor=4)
    assert training_study("s1", view, tensors.present).region.shape[-1] == 3


def test_prediction_does_not_read_the_reference_label(workshop, tmp_path):
    """No relabelling by the truth: without label files the maps are the same."""
    manifest = workshop.manifest(training=[workshop.study("a"), workshop.study("b", seed=1)])
    options = ("filters=2", "levels=1", "epochs=2", "crop_mm=20")
    mrigmm.train(manifest, tmp_path / "run", preset="deepsvg", overrides=options, device="cpu")
    mrigmm.predict(manifest, tmp_path / "with", run=tmp_path / "run", device="cpu")
    for path in workshop.folder.glob("*_label.nii.gz"):
        path.unlink()
    mrigmm.predict(manifest, tmp_path / "without", run=tmp_path / "run", device="cpu")
    a, b = ((tmp_path / name / "s1_labels.nii.gz").read_bytes() for name in ("with", "without"))
    assert a == b


def test_files_are_paired_by_the_manifest_not_by_a_folders_order(workshop):
    """Names that sort in opposite orders: each study gets its own images, sequence by sequence."""
    entries = [workshop.study(name, seed=i) for i, name in enumerate(("p1", "p2"))]
    for entry, letter in zip(entries, "zy", strict=True):
        region = f"{letter}_region.nii.gz"
        (workshop.folder / entry["region"]).rename(workshop.folder / region)
        entry["region"] = region
        entry["image"] = dict(reversed(entry["image"].items()))
    studies = read_manifest(workshop.manifest(entries)).split("test")
    for seed, study in enumerate(studies):
        tensors = load_study(study, SEQUENCES, CLASSES)
        assert tensors.id == f"p{seed + 1}"
        for channel, name in enumerate(SEQUENCES):
            raw = torch.from_numpy(intensities(ventricle(), name, seed))
            raw = raw[ventricle() > 0]
            expected = (raw - raw.mean()) / raw.std(unbiased=False)
            read = torch.from_numpy(tensors.to_input_grid(tensors.image))[channel]
            torch.testing.assert_close(read[ventricle() > 0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("text", "value"), [("F", False), ("false", False), ("0", False), ("true", True)])
def test_a_switch_that_is_off_is_off(text, value):
    """The reference implementation reads every text after a switch as true."""
    assert make_config("deepg", [f"published_augmentation={text}"]).published_augmentation is value


def test_a_study_that_fails_is_named_not_hidden(workshop, tmp_path):
    manifest = workshop.manifest([workshop.study("a"), workshop.study("b")])
    (workshop.folder / "b_T2.nii.gz").write_bytes(b"no image")
    result = mrigmm.predict(manifest, tmp_path / "out", method="em-gmm")
    assert result.done == ("a",)
    errors = [p.study for p in result.problems if p.severity == "error"]
    assert errors == ["b"]


def test_the_training_studies_are_not_predicted_unless_asked_for(workshop, tmp_path):
    manifest = workshop.manifest(training=[workshop.study("a")])
    assert mrigmm.predict(manifest, tmp_path / "out", method="em-gmm").done == ("s1",)
