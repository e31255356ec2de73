import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import mrigmm
from mrigmm.errors import InputError
from mrigmm.jobs.options import (
    PredictKeywords,
    PredictOptions,
    SegmentKeywords,
    SegmentOptions,
    TrainKeywords,
    TrainOptions,
    fields_of,
    read_options,
)
from mrigmm.training.hardware import DEFAULT_PRECISION

CALLS = [
    (mrigmm.predict, PredictOptions),
    (mrigmm.predict_study, PredictOptions),
    (mrigmm.segment, SegmentOptions),
    (mrigmm.train, TrainOptions),
]


def test_options_are_read():
    options = read_options(PredictOptions, {"run": "folder", "overrides": ["epochs=50"], "mvo": False})
    assert options.run == Path("folder")
    assert (options.method, options.overrides, options.mvo) == (None, {"epochs": 50}, False)
    assert options.device == "auto"
    with pytest.raises(AttributeError):
        options.mvo = True


def test_options_of_training_are_read():
    options = read_options(TrainOptions, {"also": None, "devices": 2})
    assert (options.also, options.devices, options.precision) == ((), 2, DEFAULT_PRECISION)
    assert read_options(TrainOptions, {"also": ["a", Path("b")]}).also == (Path("a"), Path("b"))
    with pytest.raises(InputError, match="'also'"):
        read_options(TrainOptions, {"also": "manifest.json"})


def test_an_unknown_option_is_refused_with_near_misses():
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'metod': did you mean method"):
        mrigmm.predict("manifest.json", "out", metod="map-em")


def test_values_that_are_not_allowed_are_named():
    with pytest.raises(InputError, match="'device'") as caught:
        mrigmm.predict("manifest.json", "out", device=3, mvo="perhaps")
    assert [problem.what for problem in caught.value.problems] == [
        "the value of 'device' is not allowed",
        "the value of 'mvo' is not allowed",
    ]
    with pytest.raises(InputError, match="overrides must be several texts"):
        mrigmm.predict("manifest.json", "out", overrides="epochs=50")


@pytest.mark.parametrize(("run", "method", "number"), [(None, None, 0), ("r", "m", 1), ("r", None, 0)])
def test_a_run_or_a_method(run, method, number):
    assert len(read_options(PredictOptions, {"run": run, "method": method}).contradictions()) == number


@pytest.mark.parametrize(("call", "model"), CALLS, ids=lambda case: case.__name__)
def test_every_option_stands_in_the_signature_and_the_docstring(call, model):
    parameters = inspect.signature(call).parameters
    for name, field in fields_of(model).items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert field.description
        assert f"    {name}: {field.description}\n" in inspect.getdoc(call)
    assert parameters["device"].default == fields_of(model)["device"].default
    assert "**options" not in call.__doc__


def test_type_checkers_know_every_option():
    assert {*SegmentKeywords.__annotations__} == {*fields_of(SegmentOptions)}
    assert {*PredictKeywords.__annotations__} == {*fields_of(PredictOptions)}
    assert {*TrainKeywords.__annotations__} == {*fields_of(TrainOptions)}


def test_options_need_no_torch():
    code = "import sys, mrigmm.jobs.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
