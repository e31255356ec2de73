import json
import subprocess
import sys
from pathlib import Path

import calibrate_phantom as script
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "calibrate_phantom.py"


def test_tuning_and_report_seeds_differ():
    assert script.TUNING_SEED != script.REPORT_SEED


def test_dice_per_region():
    reference, predicted = np.array([1, 2, 3, 4, 4]), np.array([1, 2, 4, 4, 0])
    # edema missed: 0; scar 2 * 1 / (2 + 2); pathology 2 * 2 / (2 + 3)
    assert script.dice_of_regions(predicted, reference) == pytest.approx([1, 1, 0, 0.5, 0.8])
    assert np.isnan(script.dice_of_regions(np.array([1]), np.array([1]))[3])


def test_smoothing_stays_inside_the_mask():
    mask = np.zeros((20, 20, 2), dtype=bool)
    mask[8:12, :, 0] = True
    resp = np.zeros((mask.sum(), 2))
    first = np.argwhere(mask)[:, 1] < 10
    resp[first, 0] = resp[~first, 1] = 1
    smoothed = script.smooth(resp, mask)
    np.testing.assert_allclose(smoothed.sum(axis=1), 1)
    assert smoothed[first, 0].min() > 0.5
    assert smoothed[:, 0].max() == pytest.approx(1.0, abs=1e-6)  # nothing leaks in from outside


def test_methods_segment_inside_the_ventricle_and_the_ceiling_beats_the_baseline():
    study = script.simulate_study(script.PRESETS["myops-like"], seed=31, index=1)
    maps = script.segment(study)
    assert set(maps) == {"EM-GMM", "MAP-EM", "Otsu in wall", "MAP-EM in wall", "true Gaussians"}
    scores = {name: script.dice_of_regions(labels, study.label) for name, labels in maps.items()}
    for name in ("Otsu in wall", "MAP-EM in wall", "true Gaussians"):
        assert scores[name][0] == 1.0  # given
    assert scores["MAP-EM"][0] > 0.7
    assert scores["true Gaussians"][4] > scores["EM-GMM"][4]
    for labels in maps.values():
        np.testing.assert_array_equal(labels > 0, study.label > 0)


@pytest.mark.slow
def test_script_prints_a_table_and_writes_json(tmp_path):
    out = tmp_path / "c.json"
    command = [sys.executable, str(SCRIPT), "--studies", "3", "--deepsvg", ".85", ".77", ".28", ".59", ".64"]
    done = subprocess.run([*command, "-o", str(out)], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "| Dice: deepSVG, scar | 0.59 | 0.59 | 0.06 | yes |" in done.stdout
    content = json.loads(out.read_text())
    assert content["passed"] == (done.returncode == 0)
    assert len(content["figures"]) == 91 + 22
    assert content["preset_hash"] in done.stdout
