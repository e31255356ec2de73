"""Parts of a cohort that jobs of their own predict, each into its folder, and their folders joined."""

import json

import pytest

import mrigmm
from mrigmm.data.files import sole_writer
from mrigmm.errors import InputError

PARTS = ("1/3", "2/3", "3/3")


@pytest.fixture
def several(workshop):
    """A manifest of five small studies, one of which cannot be read."""
    entries = [workshop.study(f"s{i}", seed=i) for i in range(5)]
    entries[1]["region"] = "nowhere.nii.gz"
    return workshop.manifest(entries)


def side_files(folder):
    """What a study's side file says, apart from the time it took."""
    files = [path for path in folder.glob("s*.json") if not path.name.endswith("_failed.json")]
    return {path.name: {**json.loads(path.read_text()), "seconds": None} for path in files}


def joined(folders, out):
    """All results in one folder, without the tables of each."""
    out.mkdir()
    for folder in folders:
        for path in folder.iterdir():
            if path.name not in ("segments.csv", "quantities.csv", "quantities.json"):
                path.rename(out / path.name)
    return out


@pytest.mark.parametrize(
    "options",
    [{"method": "map-em"}, {"method": "kmeans", "overrides": ("scope=cohort",)}],
    ids=["alone", "learns from the whole cohort"],
)
def test_joined_parts_are_the_whole(several, tmp_path, options):
    whole = mrigmm.predict(several, tmp_path / "whole", **options)
    folders = [tmp_path / part.replace("/", "-") for part in PARTS]
    done = [
        mrigmm.predict(several, folder, part=part, **options).done
        for part, folder in zip(PARTS, folders, strict=True)
    ]
    assert done == [("s0", "s3"), ("s4",), ("s2",)]
    out = joined(folders, tmp_path / "joined")
    result = mrigmm.predict(several, out, resume=True, **options)
    assert sorted(result.done) == sorted(whole.done)
    assert [p.study for p in result.problems if p.severity == "error"] == ["s1"]  # told again
    assert side_files(out) == side_files(tmp_path / "whole")
    for path in (tmp_path / "whole").iterdir():
        if path.name not in side_files(out):
            assert (out / path.name).read_bytes() == path.read_bytes(), path.name


def test_parts_do_not_write_into_one_folder_at_the_same_time(several, tmp_path):
    with (
        sole_writer(tmp_path / "out"),
        pytest.raises(InputError, match="another process is writing") as caught,
    ):
        mrigmm.predict(several, tmp_path / "out", method="map-em", part="1/3")
    assert "another -o" in caught.value.problems[0].remedy


def test_parts_can_follow_each_other_into_one_folder(several, tmp_path):
    for part in PARTS:
        mrigmm.predict(several, tmp_path / "out", method="map-em", part=part, resume=True)
    assert sorted(side_files(tmp_path / "out")) == ["s0.json", "s2.json", "s3.json", "s4.json"]
    rows = json.loads((tmp_path / "out" / "quantities.json").read_text())["studies"]
    assert sorted(rows) == ["s0", "s2", "s3", "s4"]


def test_tasks_of_srun_with_a_part_each(several, tmp_path, cli, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    command = ("predict", several, "-o", tmp_path / "out", "--method", "map-em", "--quiet")
    refused = cli(*command)
    assert (refused.code, "srun started several tasks" in refused.err) == (2, True)
    assert not (tmp_path / "out").exists()
    part = cli(*command, "--part", "3/3")
    assert (part.code, "segmented 1 study" in part.out) == (0, True)


def test_part_belongs_to_a_manifest(workshop, tmp_path, cli):
    single = workshop.single(workshop.study())
    result = cli("predict", *single, "-o", tmp_path / "o", "--method", "map-em", "--part", "1/2")
    assert (result.code, "--part belongs to a manifest" in result.err) == (2, True)
