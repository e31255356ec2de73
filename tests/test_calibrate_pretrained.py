from argparse import Namespace

import calibrate_pretrained as script


def test_rows_are_those_of_the_networks(tmp_path, monkeypatch):
    asked = []

    def rows_of(study, labels, cohort, sequences, networks):
        asked.append(networks)
        return [{"protocol": "nothing", "networks": str(networks)}]

    monkeypatch.setattr(script, "rows_of", rows_of)
    monkeypatch.setattr(script, "summary", str)
    monkeypatch.setattr(script, "digests_of", lambda folder: [folder.path.name])
    options = Namespace(work=tmp_path / "rows", seed=1, studies=1, cohorts=["small"])
    one, two = tmp_path / "one", tmp_path / "two"
    for networks in (None, one, two, one, None):
        (row,) = script.collect(Namespace(**vars(options), networks=networks))
        assert row["networks"] == str(networks)
    assert asked == [None, one, two]
