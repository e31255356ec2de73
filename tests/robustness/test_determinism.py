"""Same input, same seed, same bytes; threads and worker processes."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch

import mrigmm
from mrigmm.data import channels
from mrigmm.data.run_folder import RunFolder
from mrigmm.methods.map_em_2step import MapEM2Step
from mrigmm.networks.spatial_prior import SpatialPrior

from .cases import contents

QUICK = ("filters=2", "levels=1", "spacing_mm=3", "epochs=1")


@pytest.fixture
def threads():
    """Sets the number of threads; afterwards it is as it was."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("method", ["em-gmm", "map-em", "map-em-2step", "kmeans", "slic-kmeans"])
def test_a_method_gives_the_same_bytes_twice(cohort, tmp_path, method):
    for out in ("a", "b"):
        mrigmm.predict(cohort, tmp_path / out, method=method, device="cpu", save_probabilities=True)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_training_gives_the_same_bytes_twice(cohort, tmp_path):
    for run in ("a", "b"):
        mrigmm.train(cohort, tmp_path / run, preset="tiny", overrides=QUICK, device="cpu")
        mrigmm.predict(cohort, tmp_path / f"of_{run}", run=tmp_path / "a", device="cpu")
    a, b = (RunFolder(tmp_path / run).weights.read_bytes() for run in ("a", "b"))
    assert a == b
    assert contents(tmp_path / "of_a") == contents(tmp_path / "of_b")


@pytest.mark.parametrize("method", ["map-em", "map-em-2step"])
def test_threads_hardly_change_labels(cohort, tmp_path, threads, monkeypatch, method):
    """At most 1 voxel of 10,000, where the user asks for several."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    labels = []
    for n in (1, 2):
        threads(n)
        result = mrigmm.predict(cohort, tmp_path / str(n), method=method, split="all", device="cpu")
        files = [tmp_path / str(n) / f"{study}_labels.nii.gz" for study in result.done]
        labels.append(np.concatenate([np.asarray(nib.load(file).dataobj).ravel() for file in files]))
    inside = int((labels[0] > 0).sum())
    assert inside > 5000
    assert int((labels[0] != labels[1]).sum()) * 10_000 <= inside


def test_fits_take_one_thread_and_the_network_all(cohort, tmp_path, threads, monkeypatch):
    """Reading, the first E-step of training and of prediction, the network's training and its pass."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    seen = {}

    def watch(owner, name):
        function = getattr(owner, name)

        def watched(*args, **kwargs):
            seen.setdefault(name, []).append(torch.get_num_threads())
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    watch(channels, "fit_zscore")
    watch(MapEM2Step, "solve")
    watch(SpatialPrior, "forward")
    threads(2)
    mrigmm.train(cohort, tmp_path / "run", preset="tiny", overrides=QUICK, device="cpu")
    n_training = {name: len(numbers) for name, numbers in seen.items()}
    mrigmm.predict(cohort, tmp_path / "out", run=tmp_path / "run", device="cpu")
    assert all(len(numbers) > n_training[name] > 0 for name, numbers in seen.items())
    found = {name: set(numbers) for name, numbers in seen.items()}
    assert found == {"fit_zscore": {1}, "solve": {1}, "forward": {2}}
    assert torch.get_num_threads() == 2


@pytest.mark.slow
@pytest.mark.parametrize("context", ["spawn", "fork"])
def test_workers_of_check_name_the_study(workshop, context):
    """Whatever Python starts processes with."""
    entries = [workshop.study(f"s{i}", seed=i) for i in range(3)]
    (workshop.folder / "s1_T2.nii.gz").write_text("no image")
    manifest = workshop.manifest(entries)
    code = (
        "import multiprocessing as m\nif __name__ == '__main__':\n"
        f"    m.set_start_method({context!r})\n    from mrigmm.cli import main\n    main()"
    )
    command = [sys.executable, "-c", code, "check", str(manifest), "--json", "--quiet", "--num-workers", "2"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 1, result.stderr
    found = json.loads(result.stdout)
    assert found["studies_without_errors"] == ["s0", "s2"]
    errors = [(p["study"], p["what"]) for p in found["problems"] if p["severity"] == "error"]
    assert errors == [("s1", "the T2 file is not a NIfTI file")]


@pytest.mark.slow
def test_training_by_workers_is_the_same_under_spawn_and_fork(cohort, tmp_path):
    settings = [text for setting in QUICK for text in ("--set", setting)]
    mrigmm.train(cohort, tmp_path / "alone", preset="tiny", overrides=QUICK, device="cpu")
    for context in ("spawn", "fork"):
        code = (
            "import multiprocessing as m\nif __name__ == '__main__':\n"
            f"    m.set_start_method({context!r})\n    from mrigmm.cli import main\n    main()"
        )
        arguments = [
            "train",
            cohort,
            "-o",
            tmp_path / context,
            "--preset",
            "tiny",
            "--device",
            "cpu",
            *settings,
        ]
        rest = ["--cache", "disk", "--num-workers", "2", "--quiet"]
        command = [sys.executable, "-c", code, *map(str, arguments), *rest]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert result.returncode == 0, result.stderr
    weights = [RunFolder(tmp_path / name).weights.read_bytes() for name in ("alone", "spawn", "fork")]
    assert weights[0] == weights[1] == weights[2]
