"""The tables on stdout."""

import json
import re

import mrigmm
from mrigmm.cli.tables import print_metrics

from ..conftest import ventricle


def test_the_metrics_table_shows_the_numbers_of_the_file(cli, workshop, tmp_path):
    manifest = workshop.manifest()
    cli("predict", manifest, "-o", tmp_path / "out", "--method", "map-em")
    table = cli("evaluate", tmp_path / "out", manifest).out
    summary = json.loads((tmp_path / "out" / "metrics.json").read_text())["summary"]
    for name, figures in summary.items():
        cells = [cell.strip() for cell in re.findall(rf"│ {name} .*", table)[0].strip("│").split("│")]
        assert cells[:4] == [name, f"{figures['dice_mean']:.3f}", f"{figures['iou_mean']:.3f}", "1"]


def test_a_class_that_nobody_has_is_not_a_number(cli, workshop, tmp_path):
    entry = workshop.study()
    workshop.volume(entry["label"], (ventricle() == 1) * 1.0)
    labels = {"background": 0, "muscle": 1, "fat": 9}
    manifest = workshop.manifest([entry], labels=labels)
    out = tmp_path / "out"
    cli("predict", manifest, "-o", out, "--method", "em-gmm")
    side = json.loads((out / "s1.json").read_text())
    (out / "s1.json").write_text(json.dumps({**side, "classes": {"muscle": 1, "other": 2, "fat": 3}}))
    row = re.findall(r"│ fat .*", cli("evaluate", out, manifest).out)[0]
    assert row.split("│")[2].strip() == "nan"


def test_check_prints_one_table_of_everything(cli, workshop):
    entries = [workshop.study(name) for name in ("a", "b", "c")]
    (workshop.folder / "a_T2.nii.gz").unlink()
    workshop.volume("b_region.nii.gz", ventricle() * 9)
    del entries[2]["image"]["T2"]
    result = cli("check", workshop.manifest(entries))
    assert result.code == 1
    assert result.out.count("┏") == 1
    words = re.sub(r"[│\s]+", " ", result.out)
    assert "the T2 file does" in words
    assert "unknown class" in words
    assert "no T2" in words
    assert result.out.endswith("1 study without errors\n")


def test_folders_stand_under_each_other_in_80_columns(cli, workshop, tmp_path, monkeypatch, capsys):
    manifest = workshop.manifest()
    for name in ("map-em", "em-gmm"):
        cli("predict", manifest, "-o", tmp_path / name, "--method", name)
    evaluations = {name: mrigmm.evaluate(tmp_path / name, manifest) for name in ("map-em", "em-gmm")}
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "80")
    print_metrics(evaluations)
    table = capsys.readouterr().out
    assert max(map(len, table.splitlines())) <= 80
    assert re.search(r"class +┃ predictions ┃ +Dice ┃ +IoU ┃ studies ┃ HD95 \(mm\) ┃ studies ┃", table)
    for name, found in evaluations.items():
        figures = [f"{found.summary['scar'].dice_mean:.3f}", f"{found.summary['scar'].iou_mean:.3f}"]
        rows = table[table.index("│ scar") :].splitlines()[: len(evaluations)]
        (row,) = [row for row in rows if name in row]
        assert [cell.strip() for cell in row.split("│")][3:5] == figures


def test_headings_are_words_with_units(cli, workshop, tmp_path):
    manifest = workshop.manifest()
    for name in ("map-em", "em-gmm"):
        cli("predict", manifest, "-o", tmp_path / name, "--method", name)
    result = cli("compare", tmp_path / "map-em", tmp_path / "em-gmm", manifest)
    titles = [line.strip() for line in result.out.splitlines() if line and line[0] not in "┏┃┡│└├"]
    assert titles[:3] == ["Dice", "HD95 (mm)", "volume error (ml)"]


def test_quantify_shows_the_numbers_of_the_file(cli, workshop, tmp_path):
    manifest = workshop.manifest()
    cli("predict", manifest, "-o", tmp_path / "out", "--method", "map-em")
    table = cli("quantify", tmp_path / "out").out
    assert "infarct (% of LV mass)" in table
    numbers = json.loads((tmp_path / "out" / "quantities.json").read_text())["studies"]["s1"]
    cells = [cell.strip() for cell in re.findall(r"│ s1 .*", table)[0].strip("│").split("│")]
    volumes = numbers["volumes"]
    names = ("lv_cavity_ml", "lv_mass_g", "infarct_mass_g")
    assert cells[1:4] == [f"{volumes[name]:.1f}" for name in names]
