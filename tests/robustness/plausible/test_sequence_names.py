"""Sequences under another name. With nothing drawn, the locator sees the cavity in any contrast."""

import json

import mrigmm

KIND = "names of sequences"
CHECK = "blood against its surroundings, where the cavity is drawn or found, with what the sequence is named"


def test_lge_and_t2_exchanged(cohort, tmp_path):
    """LGE given as T2 and T2 as LGE -> both are said to look like the other; no Dice is expected"""
    content = json.loads(cohort.read_text())
    study = content["test"][0]
    del study["region"]
    image = study["image"]
    image["LGE"], image["T2"] = image["T2"], image["LGE"]
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({**content, "training": [], "test": [study]}))
    out = tmp_path / "out"
    problems = mrigmm.predict(manifest, out, data_root=cohort.parent).problems
    told = [p.what for p in problems if "rather than" in p.what]
    assert [text.split(":")[0] for text in told] == [
        "LGE looks like T2 rather than LGE",
        "T2 looks like LGE or bSSFP rather than T2",
    ]
    found = json.loads((out / f"{study['id']}.json").read_text())
    assert "infarct" in found
    assert "expected_dice" not in found
    assert found["region"]["misnamed"] == told


def test_t2_given_as_the_only_lge_with_a_region(cohort, tmp_path):
    """T2 given as the only LGE, with a region map -> said not to look like LGE; no Dice is expected"""
    content = json.loads(cohort.read_text())
    study = content["test"][0]
    study["image"] = {"LGE": study["image"]["T2"]}
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({**content, "training": [], "test": [study]}))
    result = mrigmm.predict(manifest, tmp_path / "out", data_root=cohort.parent)
    assert "LGE does not look like LGE" in [p.what for p in result.problems if p.severity == "warning"]
    found = json.loads((tmp_path / "out" / f"{study['id']}.json").read_text())
    assert "infarct" in found
    assert "expected_dice" not in found
