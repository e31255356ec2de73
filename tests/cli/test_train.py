"""Commands that learn."""


def test_an_interrupted_training_says_how_to_go_on(cli, workshop, tmp_path, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mrigmm.jobs.train.train", interrupted)
    result = cli("train", workshop.manifest(), "-o", tmp_path / "run")
    assert result.code == 130
    assert "--resume" in result.err


def test_what_is_wrong_with_studies_is_told_before_the_first_epoch_and_once(cli, workshop, tmp_path):
    entries = [workshop.study(name, seed=number) for number, name in enumerate("abcd")]
    for entry in entries[2:]:
        del entry["region"]
    manifest = workshop.manifest(training=entries, test=[])
    settings = [f"--set={text}" for text in ("epochs=1", "filters=4", "levels=2", "crop_mm=32")]
    result = cli("train", manifest, "-o", tmp_path / "run", "--preset", "tiny", *settings, "--verbose")
    assert result.code == 2
    what = "no left ventricle was found"
    assert result.err.count(what) == 2  # with --verbose, each study by itself
    assert result.err.rindex(what) < result.err.index("Training")
    assert "trained on 2 studies" in result.out
    assert "2 studies could not be processed" in result.err
