import importlib.util
import sys
from pathlib import Path

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


def test_waiting_is_over_the_rest_of_the_second_epoch(bench):
    found = bench.Waiting("disk", 1, (9.0, 0.5), (20.0, 5.5))  # 0.5 s of 5.5 s: a tenth of the rest
    assert found.share == 0.1
    (line,) = bench.waiting_table([found]).splitlines()[2:]
    assert line == "| disk | 1 | 20.0 | 9.00 | 5.5 | 0.50 | 10.0% | 5%, missed |"


def test_a_training_waits_in_every_epoch_and_less_than_it(bench, cohort, tmp_path):
    small = ("filters=2", "levels=1", "spacing_mm=3")
    found = bench.waiting(cohort, tmp_path / "run", "disk", 0, small)
    assert len(found.waited) == 2
    assert all(0 < waited < epoch for waited, epoch in zip(found.waited, found.epochs, strict=True))
    assert found.share > 0


def test_a_slow_loader_is_waited_for(bench):
    class Slow(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            bench.time.sleep(0.02)
            return index

    with bench.timed_loading() as passes:
        loader = bench.DataLoader(Slow(), batch_size=None)
        assert [list(loader) for _ in range(2)] == [[0, 1, 2]] * 2
    assert len(passes) == 2
    assert min(passes) >= 0.06
    list(loader)
    assert len(passes) == 2
