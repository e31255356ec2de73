import json
import mmap
import sys

import benchmark_device as script
import nibabel as nib
import numpy as np
import pytest
import torch

CPU = torch.device("cpu")


def test_what_runs_beside_something_else_counts_once():
    assert script.covered([(5, 7), (0, 2), (1, 3), (1.5, 2.5), (7, 8)]) == 6  # 0 to 3 and 5 to 8
    assert script.covered([]) == 0


def written(folder, labels, probabilities):
    folder.mkdir()
    for name, values in (("labels", labels), ("probabilities", probabilities)):
        nib.save(nib.Nifti1Image(values, np.eye(4)), folder / f"a_{name}.nii.gz")
    return folder


def test_differences_by_hand(tmp_path):
    """8 voxels, 4 of them labelled; one label lost, one changed, one new."""
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2], dtype=np.uint8).reshape(2, 2, 2)
    changed = np.array([0, 0, 0, 3, 1, 0, 2, 1], dtype=np.uint8).reshape(2, 2, 2)
    probabilities = np.full((2, 2, 2, 2), 0.5, dtype=np.float32)
    moved = probabilities.copy()
    moved[1, 0, 1, 1] = 0.25
    cpu = written(tmp_path / "cpu", labels, probabilities)
    assert script.differences(cpu, written(tmp_path / "gpu", changed, moved)) == (0.75, 0.25)
    assert script.differences(cpu, cpu) == (0, 0)


def test_a_cpu_that_sleeps_is_not_busy(monkeypatch):
    asleep = script.use_of(CPU, lambda: script.time.sleep(0.2))
    assert asleep.busy < 0.5
    assert asleep.peak_mib > 50  # of a Python with torch


def test_the_memory_of_some_work_is_not_that_of_earlier_work():
    def held_for_a_moment():
        with mmap.mmap(-1, 100 << 20) as block:  # 100 MiB that go back to the system, whatever malloc keeps
            block.write(bytes(1) * (100 << 20))

    earlier = script.use_of(CPU, held_for_a_moment)
    assert script.use_of(CPU, lambda: None).peak_mib < earlier.peak_mib - 80


def test_every_precision_that_a_training_takes():
    assert script.precisions(CPU) == ["32-true", "bf16-mixed"]
    assert script.precisions(torch.device("cuda")) == ["32-true", "bf16-mixed", "16-mixed"]


@pytest.mark.gate
def test_predictions_on_the_cpu_are_those_of_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(script, "FILTERS", 2)
    found = script.predictions(tmp_path, CPU, studies=2, rounds=1)
    assert [row.program for row in found] == ["map-em", "default"]
    for row in found:
        assert (row.other_labels, row.largest_difference) == (0, 0)
        assert row.studies_per_s > 0
        assert row.peak_mib > 50
    assert len(script.prediction_table(found).splitlines()) == 4


def test_training_steps_learn_in_every_precision():
    for precision in script.precisions(CPU):
        steps = script.Steps(CPU, precision, compiled=False, filters=2)
        first = float(steps.step())
        steps.run(4)
        assert float(steps.step()) < first


def test_trainings_say_how_far_they_are_from_the_cpu():
    full, half = script.trainings(CPU, steps=1, rounds=1, filters=2, with_compiled=False)
    assert (full.precision, full.difference, full.compiled) == ("32-true", 0, False)
    assert half.precision == "bf16-mixed"
    assert 0 < half.difference < 0.05  # 8 bits of mantissa
    assert min(full.slices_per_s, half.slices_per_s) > 0
    line = script.training_table([script.Training("32-true", True, "cuda", 12.34, 0.5, 99.6, 0.001)])
    assert line.splitlines()[2] == "| 32-true | yes | cuda | 12.3 | 50% | 100 | 1.0e-03 |"


def test_without_a_compiler_the_reason_is_said(monkeypatch, capsys):
    def no_compiler(network):
        raise RuntimeError("no working C++ compiler\nat all")

    monkeypatch.setattr(torch.nn.Module, "compile", no_compiler)
    found = script.trainings(CPU, steps=1, rounds=1, filters=2)
    assert [row.compiled for row in found] == [False, False]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "not compiled, 32-true: RuntimeError: no working C++ compiler"
    assert len(said) == 2


def test_an_error_without_a_compiler_is_not_swallowed(monkeypatch):
    def broken(*arguments):
        raise RuntimeError("broken")

    monkeypatch.setattr(script, "trained", broken)
    with pytest.raises(RuntimeError, match="broken"):
        script.trainings(CPU, steps=1, rounds=1, filters=2)


def test_the_whole_script_writes_its_numbers(tmp_path, monkeypatch, capsys):
    out = tmp_path / "numbers.json"
    monkeypatch.setattr(script, "predictions", lambda *_, **__: [])
    monkeypatch.setattr(script, "trainings", lambda *_, **__: [])
    monkeypatch.setattr(sys, "argv", ["x", "--device", "cpu", "-o", str(out), "--no-compile"])
    script.main()
    assert json.loads(out.read_text())["torch"] == torch.__version__
    assert "| program |" in capsys.readouterr().out
