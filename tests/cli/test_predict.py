"""The command predict."""


def test_one_study_by_its_files(cli, workshop, tmp_path):
    arguments = workshop.single(workshop.study())
    result = cli("predict", *arguments, "-o", tmp_path / "out", "--method", "em-gmm", "--id", "patient 7")
    assert result.code == 0, result.err
    assert (tmp_path / "out" / "patient 7_labels.nii.gz").exists()
