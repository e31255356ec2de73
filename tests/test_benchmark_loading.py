import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mrigmm.data.geometry import slices_last

SCRIPT = Path(__file__).parent.parent / "scripts" / "benchmark_loading.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("benchmark_loading", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_loading"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["benchmark_loading"]


def test_the_chain_gives_what_loading_gives(bench, cohort):
    manifest = bench.read_manifest(cohort)
    study = manifest.split("test")[0]
    ours = bench.read(manifest, study)
    theirs = bench.chain_of(study, slices_last(ours.output.grid).axcodes)()
    assert bench.largest_difference(ours, theirs) < bench.TOLERANCE
    # The comparison would find a difference.
    theirs["image"] = theirs["image"] * 1.01
    assert bench.largest_difference(ours, theirs) > 10 * bench.TOLERANCE


def test_an_epoch_holds_every_slice(bench, cohort):
    manifest = bench.read_manifest(cohort)
    studies = bench.prepare(manifest, manifest.split("all"))
    assert [study.shape[2] for study in studies] == [3, 3, 3, 3]
    assert bench.epoch(studies) == 1  # 12 slices in one batch of 32
    assert all(study.image[..., 0].is_contiguous() for study in studies)
    assert all(torch.isfinite(study.image).all() for study in studies)


def test_the_table_says_what_was_missed(bench):
    row = bench.Row("x", 2, 30, 10, 3.0, 20, 10, 2.0, 1e-7, 40, 1, 40.0)
    (line,) = bench.table([row]).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    np.testing.assert_array_equal(cells[3:5] + cells[11:], ["3.0", "3", "40", "50, missed"])
