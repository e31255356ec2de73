"""Tables that other programs read: dictionary, REDCap, visits; and whose intervals are shown."""

import csv
import json
import re

import numpy as np
import pytest

import mrigmm
from mrigmm.jobs.quantifying.dictionary import described, redcap_tables

from ..conftest import PATIENT, save_nifti, ventricle

VOXEL_G = 1.05 * 0.2025  # 4.5 x 4.5 x 10 mm


def rows(file):
    return list(csv.DictReader(file.read_text().splitlines()))


@pytest.fixture
def masks(tmp_path):
    """Two visits of p1, of which the later has scar only in the first slice, and one of p2."""
    later = ventricle()
    later[..., 1:][later[..., 1:] > 2] = 2
    for name, data in (("p1_M12", later), ("p1_D8", ventricle()), ("p2_D8", ventricle())):
        save_nifti(tmp_path / "masks" / f"{name}.nii.gz", data, PATIENT)
    return tmp_path / "masks"


def test_visits_of_one_patient(masks, tmp_path):
    """Of n voxels of scar a third is left, of n + e at risk: by hand."""
    out = tmp_path / "out"
    mrigmm.measure(masks, out, labels="mrigmm")
    scar, edema = (int((ventricle() == i).sum()) for i in (4, 3))
    (row,) = rows(out / "longitudinal.csv")
    texts = ("patient", "acute_study", "acute_visit", "later_study", "later_visit")
    assert [row[name] for name in texts] == ["p1", "p1_D8", "D8", "p1_M12", "M12"]
    assert float(row["acute_infarct_mass_g"]) == pytest.approx(VOXEL_G * scar, rel=1e-5)
    assert float(row["later_infarct_mass_g"]) == pytest.approx(VOXEL_G * scar / 3, rel=1e-5)
    assert float(row["infarct_change_g"]) == pytest.approx(-VOXEL_G * scar * 2 / 3, rel=1e-5)
    assert float(row["infarct_shrinkage_percent"]) == pytest.approx(200 / 3, rel=1e-5)
    assert float(row["salvage_by_later_infarct_percent"]) == pytest.approx(
        100 * (edema + scar * 2 / 3) / (edema + scar), rel=1e-5
    )
    table = {row["study"]: (row["patient"], row["visit"]) for row in rows(out / "quantities.csv")}
    assert table["p2_D8"] == ("p2", "D8")
    assert json.loads((out / "quantities.json").read_text())["longitudinal"][0]["patient"] == "p1"


def test_visits_of_a_manifest(workshop, tmp_path):
    """As the manifest says, by `predict` and by a `quantify` with another manifest; told where unordered."""
    entries = [
        workshop.study(name, region="cavity-wall") | {"patient": "p", "visit": visit}
        for name, visit in (("a", "2"), ("b", "1"))
    ]
    out = tmp_path / "out"
    mrigmm.predict(workshop.manifest(entries), out, method="otsu")
    assert [row["acute_study"] for row in rows(out / "longitudinal.csv")] == ["b"]
    assert rows(out / "longitudinal.csv")[0]["acute_area_at_risk_mass_g"] == ""
    entries[1]["visit"] = "left"
    result = mrigmm.quantify(out, manifest=workshop.manifest(entries, name="other.json"))
    assert any("visits of the patient p cannot be put in order" in p.what for p in result.problems)
    assert not (out / "longitudinal.csv").exists()


def test_every_column_is_described(masks, workshop, tmp_path):
    """Of all tables, with a reference and with probabilities; no column is taken for a class's volume."""
    out, measured = tmp_path / "out", tmp_path / "measured"
    manifest = workshop.manifest()
    mrigmm.predict(manifest, out, method="map-em", save_probabilities=True)
    mrigmm.quantify(out, manifest=manifest)
    mrigmm.measure(masks, measured, labels="mrigmm")
    for folder in (out, measured):
        dictionary = rows(folder / "quantities_dictionary.csv")
        described_columns = [(row["file"], row["name"]) for row in dictionary]
        tables = ["quantities.csv", "quantities_intervals.csv", "segments.csv", "longitudinal.csv"]
        columns = [
            (name, column) for name in tables if (folder / name).exists() for column in rows(folder / name)[0]
        ]
        assert described_columns == columns
        for row in dictionary:
            assert row["definition"] != f"volume of {row['name'].removesuffix('_ml')}"
            unit = re.search(r"_(ml|g|percent)(_of_|_at_|_\d|$)", row["name"])
            if unit is not None:
                assert row["unit"] == {"percent": "%"}.get(unit[1], unit[1]), row["name"]


def test_redcap(cli, masks, tmp_path):
    """A dictionary in REDCap's 18 columns, and records whose columns are its fields."""
    out = tmp_path / "out"
    assert cli("measure", masks, "--labels", "mrigmm", "--redcap", "-o", out).code == 0
    fields = rows(out / "redcap_dictionary.csv")
    assert len(fields[0]) == 18
    assert [*fields[0]][:4] == ["Variable / Field Name", "Form Name", "Section Header", "Field Type"]
    names = [field["Variable / Field Name"] for field in fields]
    assert names[0] == "record_id"
    assert all(re.fullmatch(r"[a-z][a-z0-9_]{0,25}", name) for name in names)
    assert {field["Form Name"] for field in fields} == {"mrigmm_quantities"}
    by_name = dict(zip(names, fields, strict=True))
    number = "Text Validation Type OR Show Slider Number"
    assert (by_name["infarct_mass_g"]["Field Label"], by_name["infarct_mass_g"][number]) == (
        "infarct mass (g)",
        "number",
    )
    assert (by_name["edited"]["Field Type"], by_name["visit"][number]) == ("yesno", "")
    records = rows(out / "redcap_import.csv")
    assert [*records[0]] == [*names, "mrigmm_quantities_complete"]
    assert [record["record_id"] for record in records] == ["p1_D8", "p1_M12", "p2_D8"]
    assert (records[0]["edited"], records[0]["visit"]) == ("0", "D8")
    mrigmm.quantify(out)  # not asked for: an older template would not be of these numbers
    assert not list(out.glob("redcap*"))


def test_names_that_redcap_takes():
    columns = ["study", "grey matter_ml", "grey-matter_ml", "2_ml", "salvage_percent_of_area_at_risk"]
    fields, _ = redcap_tables([], columns, "about")
    assert [field["Variable / Field Name"] for field in fields] == [
        "record_id", "grey_matter_ml", "grey_matter_ml_2", "v_2_ml", "salvage_pct_aar",
    ]  # fmt: skip


def test_what_a_column_is():
    low = described("interval_low_infarct_mass_g")
    assert (low.unit, low.definition.endswith("lower end of the 95 % interval")) == ("g", True)
    assert described("grey_ml").definition == "volume of grey"


def test_the_posterior_of_pretrained_is_not_shown(workshop, tmp_path):
    """Neither of its own probabilities nor of what an older version wrote; of other methods it is."""
    out = tmp_path / "out"
    manifest = workshop.manifest()
    mrigmm.predict(manifest, out, method="map-em", save_probabilities=True)
    assert json.loads((out / "quantities.json").read_text())["studies"]["s1"]["intervals"]
    side = json.loads((out / "s1.json").read_text())
    (out / "s1.json").write_text(json.dumps(side | {"method": "pretrained"}))
    for saved in (True, False):
        if not saved:
            (out / "s1_probabilities.nii.gz").unlink()
        result = mrigmm.quantify(out, manifest=manifest)
        study = json.loads((out / "quantities.json").read_text())["studies"]["s1"]
        assert study["intervals"] == {}
        assert not any("expected" in name or "interval" in name for name in result.studies["s1"])
        assert not (out / "quantities_intervals.csv").exists()
        assert np.isfinite(study["volumes"]["infarct_mass_g"])
        assert "no CRPS: give members" in study["notes"]
