import csv
import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import mrigmm
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError
from mrigmm.phantom import simulate_cohort

QUICK = ("filters=2", "levels=1", "spacing_mm=3", "min_epochs=100")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return simulate_cohort(tmp_path_factory.mktemp("train") / "cohort", n_studies=4, seed=21, preset="small")


def rows(run):
    with RunFolder(run).log.open() as file:
        return list(csv.DictReader(file))


def test_weights_are_saved_though_the_stop_rule_never_fires(manifest, tmp_path):
    mrigmm.train(manifest, tmp_path / "run", preset="tiny", overrides=(*QUICK, "epochs=2"), device="cpu")
    assert len(rows(tmp_path / "run")) == 2
    assert load_file(tmp_path / "run" / "weights.safetensors")
    _, record, prior = RunFolder(tmp_path / "run").read()
    assert record.classes == ("blood", "myocardium", "edema", "scar")
    assert len(record.training_studies) == 3
    assert prior is not None


def test_the_stop_rule_fires(manifest, tmp_path):
    options = (*QUICK[:-1], "min_epochs=1", "stop_tolerance=1000", "epochs=9")
    mrigmm.train(manifest, tmp_path / "run", preset="tiny", overrides=options, device="cpu")
    assert len(rows(tmp_path / "run")) == 2  # epochs 0 and 1


def test_learning_rate_decays_polynomially(manifest, tmp_path):
    options = (*QUICK, "epochs=3", "learning_rate=1e-3")
    mrigmm.train(manifest, tmp_path / "run", preset="tiny", overrides=options, device="cpu")
    rates = [float(row["learning_rate"]) for row in rows(tmp_path / "run")]
    # the rate that the next epoch uses: 1e-3 * (1 - e / 3) ** 0.9
    assert rates == pytest.approx([1e-3 * (2 / 3) ** 0.9, 1e-3 * (1 / 3) ** 0.9, 0.0], abs=1e-12)


def test_training_does_not_read_the_reference_labels(manifest, tmp_path):
    mrigmm.train(manifest, tmp_path / "with", preset="tiny", overrides=(*QUICK, "epochs=1"), device="cpu")
    labels = manifest.parent / "labels"
    labels.rename(manifest.parent / "hidden")
    try:
        mrigmm.train(
            manifest, tmp_path / "without", preset="tiny", overrides=(*QUICK, "epochs=1"), device="cpu"
        )
    finally:
        (manifest.parent / "hidden").rename(labels)
    with_labels, without = (load_file(tmp_path / n / "weights.safetensors") for n in ("with", "without"))
    assert all(torch.equal(with_labels[name], without[name]) for name in with_labels)


@pytest.mark.parametrize("preset", ["tiny", "deepsvg"])
def test_a_killed_training_resumes_to_the_same_weights(manifest, tmp_path, preset):
    """SIGKILL after an epoch; the resumed run's weights and log are those of the uninterrupted one."""
    options = (*QUICK, "epochs=12")
    mrigmm.train(manifest, tmp_path / "whole", preset=preset, overrides=options, device="cpu")
    call = (
        f"import mrigmm; mrigmm.train({str(manifest)!r}, {str(tmp_path / 'cut')!r}, "
        f"preset={preset!r}, overrides={options!r}, device='cpu')"
    )
    with subprocess.Popen([sys.executable, "-c", call]) as process:
        checkpoint = RunFolder(tmp_path / "cut").checkpoint
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not RunFolder(tmp_path / "cut").record.exists(), "the training ended before it could be killed"
    mrigmm.train(manifest, tmp_path / "cut", preset=preset, overrides=options, device="cpu", resume=True)
    whole, cut = (load_file(tmp_path / n / "weights.safetensors") for n in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    objective = [[row["objective"] for row in rows(tmp_path / name)] for name in ("whole", "cut")]
    assert objective[0] == objective[1]


def test_resuming_what_was_never_started_is_refused(manifest, tmp_path):
    with pytest.raises(InputError, match="no configuration"):
        mrigmm.train(manifest, tmp_path / "none", resume=True, device="cpu")


def test_resuming_with_other_settings_is_refused(manifest, tmp_path):
    mrigmm.train(manifest, tmp_path / "run", preset="tiny", overrides=(*QUICK, "epochs=1"), device="cpu")
    with pytest.raises(InputError, match="differs"):
        mrigmm.train(
            manifest,
            tmp_path / "run",
            preset="tiny",
            overrides=(*QUICK, "epochs=2"),
            device="cpu",
            resume=True,
        )


def test_a_folder_with_a_run_is_not_overwritten(manifest, tmp_path):
    mrigmm.train(manifest, tmp_path / "run", preset="tiny", overrides=(*QUICK, "epochs=1"), device="cpu")
    with pytest.raises(InputError, match="already has results"):
        mrigmm.train(manifest, tmp_path / "run", preset="tiny", overrides=(*QUICK, "epochs=1"), device="cpu")


def test_a_study_that_cannot_be_read_does_not_stop_training(manifest, tmp_path):
    entry = json.loads(manifest.read_text())["training"][0]
    broken = manifest.parent / entry["image"]["T2"]
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    try:
        result = mrigmm.train(
            manifest, tmp_path / "run", preset="tiny", overrides=(*QUICK, "epochs=1"), device="cpu"
        )
    finally:
        broken.write_bytes(content)
    assert entry["id"] not in result.done
    assert [p.study for p in result.problems if p.severity == "error"] == [entry["id"]]
