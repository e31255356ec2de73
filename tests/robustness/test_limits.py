"""Full disks, little memory, and how much memory is enough. `scripts/torture.py` is the long version."""

import importlib
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import mrigmm
from mrigmm.config import make_config
from mrigmm.data.files import write_text
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError, memory_checked
from mrigmm.methods import anatomy
from mrigmm.methods.deep_gem import build_spatial_prior
from mrigmm.methods.em_gmm import MapEM

SCRIPTS = Path(__file__).parents[2] / "scripts"


@contextmanager
def largest_file(n_bytes):
    """A disk that is full in the middle of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def measures(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("reliability.measures")


def test_weights_on_a_full_disk(tmp_path):
    run = RunFolder(tmp_path)
    config = make_config("tiny").model_copy(
        update={"sequences": ("LGE", "T2"), "classes": ("blood", "myocardium", "scar")}
    )
    network = build_spatial_prior(config)
    with largest_file(8192), pytest.raises(InputError, match="cannot be written") as caught:
        run.write_weights(network)
    assert list(tmp_path.iterdir()) == []
    (problem,) = caught.value.problems
    assert problem.got == "File too large"
    assert problem.remedy == "make room, then the same command again; of train and predict with --resume"


def test_a_study_that_does_not_fit_on_the_disk_leaves_nothing_half(workshop, tmp_path):
    small, large = workshop.study("small"), workshop.study("large", shape=(96, 96, 8))
    manifest = workshop.manifest([small, large])
    with largest_file(12288):
        result = mrigmm.predict(manifest, tmp_path / "out", method="map-em", save_probabilities=True)
    assert result.done == ("small",)
    errors = [(p.study, p.what, p.got) for p in result.problems if p.severity == "error"]
    assert errors == [("large", "the output cannot be written", "File too large")]
    assert [path.name for path in (tmp_path / "out").glob("large*")] == ["large_failed.json"]
    assert not list((tmp_path / "out").glob(".*"))


def test_tables_that_do_not_fit_on_the_disk_hide_no_study_that_failed(workshop, tmp_path, monkeypatch):
    damaged = {**workshop.study("damaged", seed=1), "region": "nowhere.nii.gz"}

    def full(out):
        write_text(out / "quantities.csv", "study\n" * 10_000)

    monkeypatch.setattr("mrigmm.jobs.predicting.segmented_study.write_recorded", full)
    manifest = workshop.manifest([workshop.study("s0"), damaged])
    with largest_file(12288):
        result = mrigmm.predict(manifest, tmp_path / "out", method="map-em")
    assert result.done == ("s0",)
    errors = [problem for problem in result.problems if problem.severity == "error"]
    assert [(p.study, p.got) for p in errors[1:]] == [(None, "File too large")]
    assert errors[0].study == "damaged"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_refused_memory_is_named_as_such(error):
    with pytest.raises(InputError, match="not enough memory"), memory_checked():
        raise error


def test_refused_memory_behind_another_error_is_found():
    error = ValueError("padding failed")
    error.__cause__ = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(InputError, match="not enough memory"), memory_checked():
        raise error


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), memory_checked():
        raise RuntimeError("shapes cannot be multiplied")


@pytest.mark.parametrize(("owner", "name"), [(anatomy, "load_study"), (MapEM, "segment")])
def test_a_study_without_memory_does_not_stop_the_others(workshop, tmp_path, monkeypatch, owner, name):
    manifest = workshop.manifest([workshop.study("a"), workshop.study("b")])
    usual = getattr(owner, name)

    def large(*arguments, **options):
        if "a" in [getattr(argument, "id", None) for argument in arguments]:
            raise MemoryError("Unable to allocate 9.00 GiB")
        return usual(*arguments, **options)

    monkeypatch.setattr(owner, name, large)
    result = mrigmm.predict(manifest, tmp_path / "out", method="map-em")
    assert result.done == ("b",)
    (problem,) = [p for p in result.problems if p.severity == "error"]
    assert (problem.study, problem.what) == ("a", "there is not enough memory")
    assert problem.got == "Unable to allocate 9.00 GiB"


@pytest.mark.gate
def test_a_memory_limit_ends_with_a_message(workshop, tmp_path):
    """Address space for the packages and 8 MiB more: the command line starts, one sequence takes 20 MiB."""
    code = (
        "import resource, sys, mrigmm; from mrigmm.cli import main\n"
        "mrigmm.predict(sys.argv.pop(1), sys.argv.pop(1), method='map-em')  # loads all there is to load\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "limit = pages * resource.getpagesize() + 8 * 2**20\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit)); main()"
    )
    small = workshop.manifest([workshop.study("s0")], name="small.json")
    manifest = workshop.manifest([workshop.study(shape=(512, 512, 20))])
    before = [str(small), str(tmp_path / "before")]
    arguments = ["predict", str(manifest), "-o", str(tmp_path / "out"), "--method", "map-em", "--quiet"]
    command = [sys.executable, "-c", code, *before, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False), result.stderr
    assert "there is not enough memory" in result.stderr
    assert "study: s1" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["s1_failed.json"]


@pytest.mark.slow
def test_memory_of_predict_is_that_of_one_study(measures, tmp_path):
    peaks = measures.peaks_of_predict(tmp_path, (1, 6), {"map-em": ["--method", "map-em"]}, seed=1)["map-em"]
    assert peaks["6"] <= 1.15 * peaks["1"]


@pytest.mark.slow
def test_a_large_study_fits_into_3_gb(measures, tmp_path):
    peaks = measures.peaks_of_large(tmp_path, {"map-em-2step": ["--method", "map-em-2step"]}, seed=1)
    assert peaks["map-em-2step"] < 3 * 1024
