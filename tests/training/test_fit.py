import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mrigmm
from mrigmm.config import make_config
from mrigmm.data.priors.choice import multiscale_prior_for
from mrigmm.data.priors.prior_file import load_prior
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError
from mrigmm.methods.registry import method_of_run
from mrigmm.phantom import simulate_cohort
from mrigmm.training import fit
from mrigmm.training.batches import TrainingStudy

KEEPS_LOSS = 1e-5  # of the objective, relative: sums in another order, in float32
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


def test_the_configuration_of_a_run_repeats_its_training(manifest, tmp_path, cli):
    options = (*QUICK, "epochs=1", "seed=7")
    mrigmm.train(manifest, tmp_path / "first", preset="tiny", overrides=options, device="cpu")
    config = tmp_path / "first" / "config.yaml"
    command = ("train", manifest, "-o", tmp_path / "again", "--config", config, "--device", "cpu", "--quiet")
    assert cli(*command).code == 0
    for name in ("config.yaml", "weights.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    assert cli(*command, "--resume").code == 0
    other = tmp_path / "other.yaml"
    other.write_text(config.read_text().replace("seed: 7", "seed: 8"))
    (tmp_path / "again" / "run.json").unlink()  # as if it had been interrupted
    with pytest.raises(InputError, match="differs from that of the training to resume") as caught:
        mrigmm.train(manifest, tmp_path / "again", config=other, device="cpu", resume=True)
    assert caught.value.problems[0].got == "seed=8"


def test_a_run_keeps_both_parts_of_a_prior_of_ones_own(manifest, tmp_path):
    own, run = tmp_path / "own.json", RunFolder(tmp_path / "run")
    mrigmm.prior(manifest, own)
    options = (*QUICK, "epochs=1")
    mrigmm.train(manifest, run.path, preset="tiny", prior=own, overrides=options, device="cpu")
    prior = load_prior(own)
    np.testing.assert_array_equal(run.read()[2].means, prior.means)
    kept, expected = run.read_multiscale_prior(), multiscale_prior_for(prior, own)
    assert kept.sigmas_mm == expected.sigmas_mm
    assert kept.to_dict() == expected.to_dict()
    method = method_of_run(run, torch.device("cpu")).method
    assert method.start.task.multiscale.to_dict() == expected.to_dict()


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


@pytest.mark.gate
@pytest.mark.parametrize(
    ("preset", "more", "cache"),
    [("tiny", (), "memory"), ("deepsvg", (), "memory"), ("tiny", ("held_out_share=0.3",), "disk")],
)
def test_a_killed_training_resumes_to_the_same_weights(manifest, tmp_path, preset, more, cache):
    """SIGKILL after two epochs; the resumed run's weights and log are those of the uninterrupted one."""
    options = (*QUICK, *more, "epochs=6")
    mrigmm.train(manifest, tmp_path / "whole", preset=preset, overrides=options, device="cpu")
    call = (
        "import os, signal, torch, mrigmm\n"
        "from mrigmm.training.checkpoints import WholeCheckpoints as Checkpoints\n"
        "save, saved = Checkpoints.save_checkpoint, []\n"
        "def killed(*arguments, **more):\n"
        "    save(*arguments, **more)\n"
        "    saved.append(arguments)\n"
        "    if len(saved) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Checkpoints.save_checkpoint = killed\n"
        # Bit-equal at the same number of threads: another test may have changed this process's.
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        f"mrigmm.train({str(manifest)!r}, {str(tmp_path / 'cut')!r}, "
        f"preset={preset!r}, overrides={options!r}, device='cpu', cache={cache!r})"
    )
    killed = subprocess.run([sys.executable, "-c", call], timeout=600, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert RunFolder(tmp_path / "cut").checkpoint.exists()
    assert not RunFolder(tmp_path / "cut").record.exists()
    mrigmm.train(
        manifest, tmp_path / "cut", preset=preset, overrides=options, device="cpu", cache=cache, resume=True
    )
    assert not RunFolder(tmp_path / "cut").cache.exists()
    whole, cut = (load_file(tmp_path / n / "weights.safetensors") for n in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    logs = [
        [{name: value for name, value in row.items() if name != "seconds"} for row in rows(tmp_path / name)]
        for name in ("whole", "cut")
    ]
    assert logs[0] == logs[1]


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


def test_a_run_leaves_its_log_a_figure_and_what_it_ran_on(manifest, tmp_path):
    options = (*QUICK, "epochs=1")
    mrigmm.train(manifest, tmp_path / "run", preset="tiny", overrides=options, accelerator="cpu")
    run = RunFolder(tmp_path / "run")
    assert run.loss_figure.read_bytes().startswith(b"\x89PNG")
    expected = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "precision": "32-true", "processes": 1}
    assert run.read()[1].hardware == expected
    assert {file.name for file in run.path.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "log.csv",
        "loss.png",
        "model_card.md",
        "multiscale_prior.json",
        "prior.json",
        "run.json",
        "weights.safetensors",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cpu", "devices": 2}, "--device names one"),
        ({"precision": "half"}, "unknown precision"),
        ({"cache": "tape"}, "unknown cache"),
        ({"num_workers": 1}, "--cache disk"),
        ({"num_workers": -1}, "negative"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_done(manifest, tmp_path, options, message):
    with pytest.raises(InputError) as caught:
        mrigmm.train(manifest, tmp_path / "run", preset="tiny", **options)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("cuda:1", True)])
def test_batches_for_a_gpu_are_pinned(device, pinned):
    trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device(device)), global_rank=0, world_size=1
    )
    study = TrainingStudy("a", torch.rand(2, 8, 8, 1), torch.ones(8, 8, 1).to(torch.uint8), torch.ones(2) > 0)
    config = make_config("tiny").model_copy(update={"classes": ("blood", "myocardium")})
    loader = fit._loader([study], shuffled=True, trainer=trainer, config=config, num_workers=0)
    assert loader.pin_memory is pinned


def test_slurm_that_does_not_fit_is_refused(manifest, tmp_path, monkeypatch):
    for name, value in {
        "NTASKS": "3",
        "STEP_NUM_TASKS": "3",
        "NTASKS_PER_NODE": "2",
        "PROCID": "0",
        "LOCALID": "0",
        "NODEID": "0",
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_JOB_NAME", "training")
    with pytest.raises(InputError, match="cannot be used") as caught:
        mrigmm.train(manifest, tmp_path / "run", preset="tiny", accelerator="cpu", devices=3)
    assert "ntasks" in caught.value.problems[0].got


@pytest.mark.parametrize(
    "variables", [{}, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}], ids=["no job", "tasks without srun"]
)
def test_one_process_asks_nothing_of_slurm(manifest, tmp_path, monkeypatch, variables):
    """Lightning has a warning for an srun that is not used, and an error for --ntasks."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = {"preset": "tiny", "overrides": (*QUICK, "epochs=1"), "device": "cpu"}
    assert len(mrigmm.train(manifest, tmp_path / "run", **options).done) == 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_wait_for_another_process_can_be_ended(manifest, tmp_path):
    """The first of two tasks of srun, whose other one never comes."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    variables = {"NTASKS": "2", "STEP_NUM_TASKS": "2", "NTASKS_PER_NODE": "2", "NODELIST": "127.0.0.1"}
    variables |= {"PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NAME": "training"}
    options = [part for text in (*QUICK, "epochs=1") for part in ("--set", text)]
    command = ["train", str(manifest), "-o", str(tmp_path / "run"), "--preset", "tiny", *options]
    task = subprocess.Popen(
        [sys.executable, "-m", "mrigmm", *command, "--accelerator", "cpu", "--devices", "2"],
        env={
            **os.environ,
            **{f"SLURM_{name}": value for name, value in variables.items()},
            "MASTER_PORT": str(port),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        with socket.socket() as other:
            if other.connect_ex(("127.0.0.1", port)) == 0:  # it waits now
                break
        time.sleep(0.1)
    task.send_signal(signal.SIGTERM)
    err = task.communicate(timeout=600)[1]
    assert (task.returncode, "--resume" in err) == (143, True), err
    assert not (tmp_path / "run" / ".lock").exists()


def test_tensorboard_that_is_not_installed_is_named(manifest, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError, match="not installed") as caught:
        mrigmm.train(manifest, tmp_path / "run", preset="tiny", device="cpu", tensorboard=True)
    assert "mrigmm[tensorboard]" in caught.value.problems[0].remedy


@pytest.mark.slow
def test_tensorboard_gets_what_the_log_has(manifest, tmp_path):
    pytest.importorskip("tensorboard")
    code = (
        "import sys, warnings, mrigmm\n"
        f"mrigmm.train({str(manifest)!r}, {str(tmp_path / 'run')!r}, preset='tiny', device='cpu',\n"
        f"    overrides={(*QUICK, 'epochs=2', 'held_out_share=0.3')!r}, tensorboard=True)\n"
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        f"events = EventAccumulator({str(tmp_path / 'run' / 'tensorboard')!r}); events.Reload()\n"
        "print(*(scalar.value for name in ('objective', 'held_out') for scalar in events.Scalars(name)))\n"
    )
    # In a process of its own: tensorboard's own imports warn.
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = [float(value) for value in result.stdout.split()[-4:]]
    log = rows(tmp_path / "run")
    expected = [float(row[name]) for name in ("objective", "held_out") for row in log]
    assert found == pytest.approx(expected, rel=1e-6)  # event files hold float32


@pytest.mark.parametrize("preset", ["tiny", "deepsvg"])
def test_mixed_precision_trains_nearly_alike(manifest, tmp_path, preset):
    """bfloat16 has 8 bits: the objective of the first epochs moves by 2 % at most, and does move."""
    for precision in ("32-true", "bf16-mixed"):
        mrigmm.train(
            manifest,
            tmp_path / precision,
            preset=preset,
            overrides=(*QUICK, "epochs=2"),
            device="cpu",
            precision=precision,
        )
    objective = [[float(row["objective"]) for row in rows(tmp_path / p)] for p in ("32-true", "bf16-mixed")]
    assert objective[0] != objective[1]
    assert objective[1] == pytest.approx(objective[0], rel=0.02)
    kept = load_file(tmp_path / "bf16-mixed" / "weights.safetensors").values()
    assert {tensor.dtype for tensor in kept if tensor.is_floating_point()} == {torch.float32}


def test_resuming_without_the_prior_it_began_with_is_refused(manifest, tmp_path):
    """Silently, the shipped prior would take its place."""
    mrigmm.prior(manifest, tmp_path / "prior.json")
    options = {"preset": "tiny", "overrides": (*QUICK, "epochs=1"), "device": "cpu"}
    mrigmm.train(manifest, tmp_path / "run", prior=tmp_path / "prior.json", **options)
    (tmp_path / "run" / "run.json").unlink()  # as if killed after the first epoch
    before = (tmp_path / "run" / "prior.json").read_bytes()
    with pytest.raises(InputError, match="prior differs"):
        mrigmm.train(manifest, tmp_path / "run", resume=True, device="cpu")
    assert (tmp_path / "run" / "prior.json").read_bytes() == before
    result = mrigmm.train(
        manifest, tmp_path / "run", prior=tmp_path / "prior.json", resume=True, device="cpu"
    )
    assert len(result.done) == 3


def test_held_out_studies_are_watched_not_learnt_from(manifest, tmp_path):
    """The best weights are those of the smallest held-out objective."""
    options = (*QUICK, "epochs=4", "held_out_share=0.3", "learning_rate=0.02")
    result = mrigmm.train(manifest, tmp_path / "run", preset="tiny", overrides=options, device="cpu")
    run = RunFolder(tmp_path / "run")
    config, record, _ = run.read()
    assert len(record.held_out_studies) == 1  # of 3
    assert result.done == record.training_studies
    assert not set(record.held_out_studies) & set(record.training_studies)
    held_out = [float(row["held_out"]) for row in rows(run.path)]
    assert all(np.isfinite(held_out))

    checkpoint = torch.load(run.checkpoint, weights_only=True)  # of the last epoch
    last = {name.removeprefix("network."): t for name, t in checkpoint["state_dict"].items()}
    kept = load_file(run.weights)
    is_last = all(torch.equal(kept[name], last[name]) for name in kept)
    assert is_last == (held_out.index(min(held_out)) == config.epochs - 1)


def test_patience_ends_a_training_that_does_not_get_better(manifest, tmp_path):
    """A learning rate at which nothing is learnt, so that the first epoch stays the best.

    With a preset without batch norm, whose running means change at any rate.
    """
    options = (
        *QUICK,
        "epochs=9",
        "held_out_share=0.3",
        "patience=2",
        "learning_rate=1e-30",
        "weight_decay=0",
    )
    mrigmm.train(manifest, tmp_path / "run", preset="deepsvg", overrides=options, device="cpu")
    assert len({row["held_out"] for row in rows(tmp_path / "run")}) == 1
    assert len(rows(tmp_path / "run")) == 3  # epoch 0, and two that are no better


def test_other_manifests_add_studies(manifest, tmp_path):
    other = simulate_cohort(tmp_path / "other", n_studies=2, seed=5, preset="small")
    content = json.loads(other.read_text())
    for split in ("training", "validation", "test"):
        for entry in content.get(split, []):
            entry["id"] = f"other_{entry['id']}"
    other.write_text(json.dumps(content))
    added = [entry["id"] for entry in content["training"]]
    assert added
    result = mrigmm.train(
        manifest, tmp_path / "run", also=[other], preset="tiny", overrides=(*QUICK, "epochs=1"), device="cpu"
    )
    assert list(result.done[-len(added) :]) == added
    assert len(result.done) == 3 + len(added)


@pytest.mark.slow
def test_cache_and_workers_change_nothing(manifest, tmp_path):
    ways = {"plain": {}, "disk": {"cache": "disk"}, "workers": {"cache": "disk", "num_workers": 2}}
    for name, options in ways.items():
        mrigmm.train(
            manifest, tmp_path / name, preset="tiny", overrides=(*QUICK, "epochs=2"), device="cpu", **options
        )
        assert not RunFolder(tmp_path / name).cache.exists()
    plain, disk, workers = (load_file(tmp_path / name / "weights.safetensors") for name in ways)
    assert all(torch.equal(plain[name], disk[name]) for name in plain)
    assert all(torch.equal(plain[name], workers[name]) for name in plain)


@pytest.mark.slow
def test_an_error_in_a_worker_names_the_study(manifest, tmp_path, monkeypatch):
    make_loader = fit._loader

    def then_damage(*arguments, **options):
        loader = make_loader(*arguments, **options)
        loader.dataset.studies.files[0].write_bytes(b"damaged")
        return loader

    monkeypatch.setattr(fit, "_loader", then_damage)
    with pytest.raises(InputError, match="cannot be read back") as caught:
        mrigmm.train(
            manifest,
            tmp_path / "run",
            preset="tiny",
            overrides=QUICK,
            device="cpu",
            cache="disk",
            num_workers=1,
        )
    assert caught.value.problems[0].study == "study_000"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "more"),
    [
        ("tiny", ("held_out_share=0.3",)),
        ("tiny", ("batch_slices=1",)),  # one process has no slice, and batch norm must not see any
        ("deepsvg", ("batch_slices=5",)),  # 3 and 2 mixtures
        ("deepsvg", ("scope=study", "batch_slices=1", "mean_regulariser=1")),  # one process has none
    ],
)
def test_two_processes_train_as_one(manifest, tmp_path, torchrun, preset, more):
    options = [part for text in (*QUICK, "epochs=3", *more) for part in ("--set", text)]
    mrigmm.train(
        manifest, tmp_path / "one", preset=preset, overrides=(*QUICK, "epochs=3", *more), device="cpu"
    )
    result = torchrun(
        "train", manifest, "-o", tmp_path / "two", "--preset", preset, *options, "--quiet", "--device", "cpu"
    )
    assert result.code == 0, result.err
    assert result.out.count("trained on") == 1  # the first process speaks
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    for name in ("objective", "held_out") if "held_out" in one[0] else ("objective",):
        assert [float(row[name]) for row in two] == pytest.approx(
            [float(row[name]) for row in one], rel=KEEPS_LOSS
        )
    assert RunFolder(tmp_path / "two").read()[1].hardware["processes"] == 2
    weights = [load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two")]
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_tasks_of_srun_train_as_one(manifest, tmp_path):
    """The environment is that of `srun --ntasks=2`; Lightning finds the rest."""
    options = [part for text in (*QUICK, "epochs=3") for part in ("--set", text)]
    mrigmm.train(manifest, tmp_path / "one", preset="tiny", overrides=(*QUICK, "epochs=3"), device="cpu")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    step = {"NTASKS": 2, "STEP_NUM_TASKS": 2, "NTASKS_PER_NODE": 2, "NODEID": 0, "JOB_ID": 7}
    names = {"JOB_NAME": "training", "NODELIST": "127.0.0.1"}
    command = ["train", str(manifest), "-o", str(tmp_path / "two"), "--preset", "tiny", *options, "--quiet"]
    tasks = []
    for rank in range(2):
        variables = {f"SLURM_{name}": str(value) for name, value in (step | names).items()}
        variables |= {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "MASTER_PORT": str(port)}
        tasks.append(
            subprocess.Popen(
                [sys.executable, "-m", "mrigmm", *command, "--accelerator", "cpu", "--devices", "2"],
                env={**os.environ, **variables},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    results = [(*task.communicate(timeout=600), task.returncode) for task in tasks]
    assert [code for _, _, code in results] == [0, 0], results
    assert [out.count("trained on") for out, _, _ in results] == [1, 0]  # the first process speaks
    assert [float(row["objective"]) for row in rows(tmp_path / "two")] == pytest.approx(
        [float(row["objective"]) for row in rows(tmp_path / "one")], rel=KEEPS_LOSS
    )
    assert RunFolder(tmp_path / "two").read()[1].hardware["processes"] == 2


def test_a_run_that_was_moved_predicts_the_same_bytes(manifest, tmp_path):
    run = mrigmm.train(
        manifest, tmp_path / "run", preset="tiny", overrides=(*QUICK, "epochs=1"), device="cpu"
    ).output
    mrigmm.predict(manifest, tmp_path / "before", run=run, device="cpu", save_probabilities=True)
    moved = tmp_path / "elsewhere" / "ünder another name"
    moved.parent.mkdir()
    run.rename(moved)
    mrigmm.predict(manifest, tmp_path / "after", run=moved, device="cpu", save_probabilities=True)
    maps = sorted(file.name for file in (tmp_path / "before").glob("*.nii.gz"))
    assert [name.partition("_")[2].rpartition("_")[2] for name in maps] == [
        "labels.nii.gz",
        "mvo.nii.gz",
        "probabilities.nii.gz",
    ]
    for name in maps:
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()
