"""The adaptation benchmark: costs, gains and shares from known figures."""

import math

import benchmark_adaptation as bench
import pytest
from quality.scoring import Result

from mrigmm.pretrained.learning import LearntCohort


def scored(**scar):
    """Studies with a Dice of scar, a wall of .9 and nothing else."""
    nothing = dict.fromkeys(bench.DICE.values(), math.nan)
    studies = {
        name: {
            **nothing,
            "dice/scar": value,
            "dice/wall": 0.9,
            "volume_ml/scar": 1.0,
            "volume_percent/scar": 2.0,
            "probability": 0.1,
            "has_infarct": 0.0,
        }
        for name, value in scar.items()
    }
    return Result(studies, {}, 1.0, len(studies))


@pytest.fixture
def results():
    rows = {
        bench.STANDARD: (scored(a=0.8, b=0.6), scored(a=0.8, b=0.6)),
        "psir": (scored(a=0.5, b=0.5), scored(a=0.6, b=0.6)),
        "noisy": (scored(a=0.7), scored(a=0.7)),
    }
    return {
        name: {p: dict(zip(bench.ROWS, pair, strict=True)) for p in bench.PROTOCOLS}
        for name, pair in rows.items()
    }


def test_cost_is_against_the_standard_cohort_and_the_gain_is_paired(results):
    found = bench.lines(results, "nothing")
    line = found["psir"]["scar"]
    assert (line.shipped, line.adapted, line.cost) == pytest.approx((0.5, 0.6, 0.2))
    assert (line.gain.mean, line.gain.low, line.gain.high) == pytest.approx((0.1, 0.1, 0.1))
    assert line.regained == pytest.approx(0.5)
    assert math.isnan(found["noisy"]["scar"].regained)  # the shift costs nothing
    together = found["all shifted"]["scar"]
    assert together.gain.mean == pytest.approx(0.2 / 3)
    assert together.gain.n == 3


def test_tables_name_command_seed_and_what_was_found(results):
    before = dict.fromkeys(bench.FIGURES, 0.5)
    learnt = {
        name: LearntCohort(
            name=name, use="no labels", studies=("a",), before=before, after={**before, bench.NLL: nll}
        )
        for name, nll in zip(results, (0.5, 0.501, 0.4), strict=True)
    }
    text = bench.tables(results, learnt, "python it.py", 901)
    assert "```\npython it.py\n```" in text
    assert "| psir | scar | 0.500 | 0.600 | +0.100 [+0.100, +0.100] | 0.200 | 50% |" in text
    figures = "0.500, 0.500 | 0.500, 0.500 | 0.500"
    assert f"| {bench.STANDARD} | {figures}, 0.500 | adapted | 2.00 | 2.00 | 2.00 | 2.00 |" in text
    assert f"| psir | {figures}, 0.501 | kept |" in text
    assert f"| noisy | {figures}, 0.400 | adapted |" in text
    assert text.count("| psir | wall |") == 1  # given otherwise
    content = bench.as_json(results, learnt, "python it.py", 901)
    assert content["lines"]["nothing"]["psir"]["scar"]["cost"] == pytest.approx(0.2)


def test_an_unknown_cohort_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench.parse_arguments(["-o", "x", "--cohorts", "nowhere"])
    assert "unknown cohorts: nowhere" in capsys.readouterr().err
