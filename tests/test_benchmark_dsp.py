import json

import benchmark_dsp as script
import numpy as np
import pytest


def test_components_per_slice():
    """Slice 1: two of class 1 (a diagonal does not connect), one of class 2; slice 2: one of class 1."""
    labels = np.zeros((4, 4, 3), dtype=int)
    labels[0, 0, 0] = labels[1, 1, 0] = 1
    labels[3, :, 0] = 2
    labels[:, 2, 1] = 1  # slice 3 is empty and does not count
    assert script.components(labels, ("one", "two")) == {"one": 1.5, "two": 0.5}


@pytest.mark.gate
def test_the_table(tmp_path, capsys):
    call = ["--preset", "small", "--studies", "1", "--seeds", "0,1", "--max-iter", "6"]
    assert script.main(["-o", str(tmp_path), *call]) == 0
    found = json.loads((tmp_path / "dsp.json").read_text())
    assert [(row["seed"], row["method"]) for row in found["rows"]] == [
        (seed, name) for seed in (0, 1) for name in script.METHODS
    ]
    row = found["rows"][0]
    assert row["reconstruction_iterations"] == 6
    assert row["without"]["dice"] != row["with"]["dice"]
    assert row["with"]["dice"]["blood"] == 1  # given by the region map
    text = (tmp_path / "dsp.md").read_text()
    assert text == capsys.readouterr().out
    assert "--seeds 0,1 --max-iter 6" in text
    assert text.count("| `kmeans` |") == 3


def test_unknown_presets_are_refused(capsys):
    with pytest.raises(SystemExit):
        script.main(["-o", "x", "--preset", "none"])
    assert "invalid choice" in capsys.readouterr().err
