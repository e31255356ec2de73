"""Commands about a cohort."""


def test_check_of_a_manifest_that_is_none(cli, tmp_path):
    (tmp_path / "m.json").write_text("{")
    assert cli("check", tmp_path / "m.json").code == 1
    assert cli("check", tmp_path / "no.json").code == 2
