import benchmark_start as script
import pytest
from benchmark_start import Command


def test_a_command_costs_what_it_works_and_not_what_it_waits(tmp_path):
    sleep = Command(("-c", "import time; time.sleep(0.3)")).run(tmp_path)
    assert sleep.wall > 0.3
    assert sleep.cpu < sleep.wall
    work = "import time\nwhile time.process_time() < 0.3: pass"
    assert Command(("-c", work)).run(tmp_path).cpu >= 0.3


def test_a_command_sees_its_threads_and_a_new_folder(tmp_path):
    say = (
        "import os, sys; open(sys.argv[1], 'w')\n"
        "open('{}', 'w').write(os.environ.get('OMP_NUM_THREADS', '-'))"
    )
    for threads, expected in (("", "-"), ("2", "2")):
        Command(("-c", say.format(tmp_path / "said"), "{new}"), threads).run(tmp_path)
        assert (tmp_path / "said").read_text() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["said"]


def test_a_command_that_fails_is_shown(tmp_path):
    with pytest.raises(SystemExit, match="broken"):
        Command(("-c", "raise SystemExit('broken')")).run(tmp_path)


@pytest.mark.gate
def test_predictions_run_to_their_end(cohort, tmp_path):
    commands = {"map-em": Command(script.predict_command(cohort, "--method", "map-em"))}
    found = script.in_turn(commands, tmp_path, 1)
    assert len(found["map-em"]) == 1
    assert found["map-em"][0].cpu > 0
