import json

import benchmark_check as script
import numpy as np
import pytest

from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import load_study
from mrigmm.labels import TISSUES


@pytest.fixture
def copy(cohort, tmp_path):
    """The cohort's manifest in a folder that may be written to."""
    for name in ("images", "regions", "labels"):
        (tmp_path / name).symlink_to(cohort.parent / name)
    path = tmp_path / "manifest.json"
    path.write_text(cohort.read_text())
    return path


def images(path):
    content = json.loads(path.read_text())
    return [entry["image"] for split in ("training", "test") for entry in content[split]]


def test_changed_manifests(copy):
    path, count = script.changed(copy, "left_out", script.without("T2"))
    assert count == 4
    assert [list(image) for image in images(path)] == [["LGE", "bSSFP"]] * 4
    path, count = script.changed(path, "exchanged", script.exchanged("LGE", "T2"))
    assert (count, images(path)) == (0, images(path.with_name("left_out.json")))
    path, count = script.changed(copy, "exchanged", script.exchanged("bSSFP", "T2"))
    assert count == 4
    assert all("bSSFP" in image["T2"] and "T2" in image["bSSFP"] for image in images(path))


def test_what_counts_as_a_false_alarm(workshop):
    """A ventricle of 7 mm does; a missing T2 and negative LGE do not."""
    entry = workshop.study(sequences=("LGE", "bSSFP"))
    count, said = script.false_alarms(workshop.manifest([entry]))
    assert (count, dict(said)) == (1, {"no adult left ventricle has this size": 1})


def test_a_region_in_the_lung_is_noticed(cohort):
    manifest = read_manifest(cohort)
    study = load_study(manifest.split("test")[0], manifest.sequences, tuple(TISSUES))
    region = study.region.numpy()
    assert not script.noticed(study, region)
    assert script.noticed(study, np.roll(region, round(30 / 1.5), 0))
    kinds = [kind for kind, _ in script.wrong_regions([study, study])]
    assert kinds == 2 * ["moved by 10 mm", "moved by 20 mm", "moved by 30 mm", "of another patient"]
