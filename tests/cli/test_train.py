"""Commands that learn."""


def test_an_interrupted_training_says_how_to_go_on(cli, workshop, tmp_path, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mrigmm.jobs.train.train", interrupted)
    result = cli("train", workshop.manifest(), "-o", tmp_path / "run")
    assert result.code == 130
    assert "--resume" in result.err
