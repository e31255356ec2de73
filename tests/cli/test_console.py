"""What is said where, and what --quiet leaves of it."""

import json

from ..conftest import ventricle


def test_quiet_says_nothing_but_the_result(cli, workshop, tmp_path):
    entry = workshop.study(sequences=("LGE", "bSSFP"))
    workshop.volume("s1_bSSFP.nii.gz", ventricle() * 0.0)
    manifest = workshop.manifest([entry])
    loud = cli("predict", manifest, "-o", tmp_path / "a", "--method", "em-gmm")
    assert "note (s1): bSSFP is constant inside the region and is left out" in loud.err
    quiet = cli("predict", manifest, "-o", tmp_path / "b", "--method", "em-gmm", "--quiet")
    assert quiet.err == ""
    assert quiet.out == f"segmented 1 study; label maps: {tmp_path / 'b'}\n"


def test_one_bad_study_of_three(cli, workshop, tmp_path):
    manifest = workshop.manifest([workshop.study(name) for name in ("a", "b", "c")])
    (workshop.folder / "b_LGE.nii.gz").write_bytes(b"broken")
    out = tmp_path / "out"
    result = cli("predict", manifest, "-o", out, "--method", "map-em")
    assert result.code == 2
    assert "segmented 2 studies" in result.out
    assert "study: b" in result.err
    assert "1 study could not be processed" in result.err
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["a_labels.nii.gz", "c_labels.nii.gz"]
    # The next steps go on with the two, and say again which one is missing.
    result = cli("evaluate", out, manifest)
    assert result.code == 2
    assert "the study has no prediction" in result.err
    assert json.loads((out / "metrics.json").read_text())["not_evaluated"] == ["b"]
    assert cli("report", out).code == 0


def test_texts_from_files_are_not_markup(cli, workshop, tmp_path):
    """`[red]` and `:cat:` are parts of names, not instructions to the terminal."""
    (workshop.folder / ":cat:").mkdir()
    entry = {**workshop.study("[red]a"), "label": ":cat:/[bold]no.nii"}
    manifest = workshop.manifest([entry])
    assert "[red]a" in cli("check", manifest).out
    cli("predict", manifest, "-o", tmp_path / "out", "--method", "em-gmm")
    result = cli("evaluate", tmp_path / "out", manifest)
    assert result.code == 2
    assert "study: [red]a" in result.err
    assert f"file: {workshop.folder}/:cat:/[bold]no.nii" in result.err
