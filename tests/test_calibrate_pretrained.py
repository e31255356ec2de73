from argparse import Namespace

import calibrate_pretrained as script


def test_rows_are_those_of_the_networks(tmp_path, monkeypatch):
    asked = []

    def judge_simulated(preset, n_studies, seed, *, networks):
        assert (preset, n_studies, seed) == ("small", 1, script.hearts_of("small", 1))
        asked.append(networks)
        return [networks]

    monkeypatch.setattr(script, "judge_simulated", judge_simulated)
    monkeypatch.setattr(script, "row_of", lambda networks, cohort: {"networks": str(networks)})
    monkeypatch.setattr(script, "summary", str)
    monkeypatch.setattr(script, "digests_of", lambda folder: [folder.path.name])
    options = Namespace(work=tmp_path / "rows", seeds=[1], studies=1, cohorts=["small"])
    one, two = tmp_path / "one", tmp_path / "two"
    for networks in (None, one, two, one, None):
        (row,) = script.collect(Namespace(**vars(options), networks=networks))
        assert (row["networks"], row["seed"]) == (str(networks), 1)
    assert asked == [None, one, two]


def test_neither_scanner_nor_hearts_of_a_test_are_seen():
    rows = [{"cohort": c, "seed": s} for c in "abc" for s in (1, 2)]
    parts = {own[0]["cohort"]: (own, others) for own, others in script.left_out(rows)}
    own, others = parts["a"]
    assert own == [{"cohort": "a", "seed": 1}, {"cohort": "a", "seed": 2}]
    assert {row["cohort"] for row in others} == {"b", "c"}
    assert len(others) == 4
    assert len({script.hearts_of(c, s) for c in "abc" for s in (1, 2)}) == 6
