import json

import benchmark_end_to_end as script
import pytest


@pytest.fixture
def cpu_time(monkeypatch):
    """A CPU clock that stands still until it is told."""
    now = [100.0]
    monkeypatch.setattr(script.time, "process_time", lambda: now[0])
    return now


def test_an_inner_stage_is_not_counted_in_the_outer_one(cpu_time):
    clock = script.StageClock(since=100.0)

    def pass_(seconds):
        cpu_time[0] += seconds

    pass_(1)
    with clock.stage("mixture"):
        pass_(2)
        with clock.stage("network"):
            pass_(4)
        pass_(8)
    pass_(16)
    clock.settle()
    assert clock.used == {"other": 17, "mixture": 10, "network": 4}


def test_a_stage_ends_when_its_function_raises(cpu_time):
    class Reader:
        def read(self):
            cpu_time[0] += 3
            raise ValueError("damaged")

    clock = script.StageClock(since=100.0)
    clock.wrap(Reader, "read", "read")
    with pytest.raises(ValueError, match="damaged"):
        Reader().read()
    cpu_time[0] += 5
    clock.settle()
    assert clock.used == {"other": 5, "read": 3}


def test_ratios_are_taken_within_a_round():
    ratio = script.Ratio.of([2, 8, 9], [1, 2, 3])  # 2, 4, 3
    assert (ratio.low, ratio.median, ratio.high) == (2.5, 3, 3.5)


def test_growth_is_the_cost_of_a_unit_over_that_of_the_first_size():
    rounds = {
        "map-em, 5 studies": [{"read": 5.0}],  # 1 s each
        "map-em, 40 studies": [{"read": 40.0, "mixture": 20.0}],  # 1.5 s each
    }
    table = script.growth_table(rounds, {"5 studies": 5, "40 studies": 40}, "5 studies", "study")
    assert "| `map-em` | 1.00 (1.00 to 1.00) | 1.50 (1.50 to 1.50) |" in table


def test_what_lies_beyond_the_network_is_compared_with_the_files():
    rounds = {
        "files": [{"read": 3.0, "write": 1.0}],
        "default": [{"network": 50.0, "read": 4.0, "mixture": 8.0}],
        "map-em": [{"read": 2.0, "mixture": 2.0}],
        "pretrained": [{"network": 40.0, "read": 2.0, "quantities": 6.0}],
        "em-gmm-sklearn": [{"read": 2.0, "mixture": 22.0}],
    }
    found = {name: ratio.median for name, ratio in script.ratios(rounds).items()}
    assert list(found.values()) == [3.0, 1.0, 2.0, 8 / 24, 12.0, 2.0, 11.0, 6.0]


@pytest.mark.slow
def test_a_tiny_benchmark(tmp_path):
    text, numbers = script.measured(tmp_path, studies=1, cohorts=[1, 2], stacks=[2, 3], rounds=1)
    json.dumps(numbers)
    for name in script.PROGRAMS:
        assert f"| `{name}` |" in text
    stages = numbers["stages"]["default"][0]
    assert set(stages) == set(script.STAGES)
    assert min(stages.values()) > 0
    assert set(numbers["stages"]["files"][0]) == {"read", "write", "other"}
    assert 100 < max(numbers["memory"]["map-em"][0].values()) < 4000  # MiB
