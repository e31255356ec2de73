"""The command predict."""

import json

from ..conftest import PATIENT


def test_one_study_by_its_files(cli, workshop, tmp_path):
    arguments = workshop.single(workshop.study())
    result = cli("predict", *arguments, "-o", tmp_path / "out", "--method", "em-gmm", "--id", "patient 7")
    assert result.code == 0, result.err
    assert (tmp_path / "out" / "patient 7_labels.nii.gz").exists()


def test_a_sequence_that_was_not_given_is_noted_as_that_of_a_manifest(cli, workshop, tmp_path):
    entry = workshop.study(sequences=("LGE", "bSSFP"))
    arguments = ("--method", "map-em", "--device", "cpu")
    single = cli("predict", *workshop.single(entry), "-o", tmp_path / "one", "--id", "s1", *arguments)
    cohort = cli("predict", workshop.manifest([entry]), "-o", tmp_path / "out", *arguments)
    assert (single.code, cohort.code) == (0, 0)
    assert "note (s1): no T2" in cohort.err.splitlines()
    assert "note (s1): no T2" in single.err.splitlines()
    assert "no T2" in json.loads((tmp_path / "one" / "s1.json").read_text())["notes"]
    whole = cli(
        "predict", *workshop.single(workshop.study("s2", affine=PATIENT)), "-o", tmp_path / "two", *arguments
    )
    assert "no " not in whole.err
