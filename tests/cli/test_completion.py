"""What the shell offers after TAB."""

import os
import subprocess
import sys
from typing import get_args

import pytest

from mrigmm.cli import completion
from mrigmm.config import PRESETS, RunConfig
from mrigmm.config_anatomy import AnatomyConfig
from mrigmm.config_learning import AdaptConfig
from mrigmm.data.manifest import SPLITS
from mrigmm.data.sources.table import KINDS
from mrigmm.data.standardise import STANDARDISATIONS
from mrigmm.jobs.quantifying.insertions import BASES
from mrigmm.labels import SCHEMES
from mrigmm.methods.registry import METHODS
from mrigmm.phantom import PRESETS as COHORTS
from mrigmm.training.cache import Cache
from mrigmm.training.hardware import ACCELERATORS, PRECISIONS


@pytest.fixture
def offered(cli, monkeypatch):
    """Completions of a command line whose last word is being typed, as bash asks for them."""

    # `python -m pytest` would give the program its own name
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)

    def ask(*words):
        monkeypatch.setenv("_MRIGMM_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["mrigmm", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        result = cli()
        monkeypatch.delenv("_MRIGMM_COMPLETE")
        assert (result.code, result.err) == (0, "")
        return result.out.split()

    return ask


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (("predict", "--method", ""), METHODS),
        (("segment-image", "--method", ""), METHODS),
        (("train", "--preset", ""), PRESETS),
        (("simulate", "--preset", ""), COHORTS),
        (("predict", "--split", ""), (*SPLITS, "all")),
        (("manifest", ""), (*KINDS, "dicom")),
        (("export", "--scheme", ""), SCHEMES),
        (("train", "--accelerator", ""), ACCELERATORS),
        (("train", "--precision", ""), PRECISIONS),
        (("train", "--cache", ""), get_args(Cache)),
        (("quantify", "--base", ""), BASES),
        (("export", "--format", "ni"), ["nifti"]),
        (("predict", "--method", "map-em-"), ["map-em-2step"]),
        (("predict", "--split", "no"), []),
        (("ev",), ["evaluate"]),
    ],
)
def test_names_are_those_of_the_package(offered, words, known):
    assert offered(*words) == list(known)


def test_units_are_those_that_a_prior_can_have():
    assert set(completion.UNITS) <= set(STANDARDISATIONS)


def test_settings_are_those_of_the_command(offered):
    keys = (RunConfig.model_fields.keys() - {"version", "preset"}) | AdaptConfig.model_fields.keys()
    assert set(offered("train", "--set", "")) == {f"{key}=" for key in keys}
    assert offered("train", "--set", "epo") == ["epochs="]
    keys = AnatomyConfig.model_fields.keys() - {"version", "kind"}
    assert set(offered("train-anatomy", "--set", "")) == {f"{key}=" for key in keys}
    fields = METHODS["map-em-2step"].fields
    assert offered("predict", "--method", "map-em-2step", "--set", "") == [f"{key}=" for key in fields]
    assert offered("predict", "--set", "") == []


def test_completion_loads_no_torch():
    code = (
        "import sys\nsys.argv = ['mrigmm']\nfrom mrigmm.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print([name for name in ('torch', 'numpy', 'nibabel') if name in sys.modules])\n"
    )
    environment = {
        **os.environ,
        "_MRIGMM_COMPLETE": "complete_bash",
        "COMP_WORDS": "mrigmm predict --method nsd --set ",
        "COMP_CWORD": "5",
    }
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=600, check=True
    )
    assert result.stdout.splitlines() == ["n=", "[]"]
