"""Distances between boundaries are those of the studies where something was found."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

import mrigmm

from ..cases import place_in

KIND = "HD95 of the found"
CHECK = "The number of studies that a mean distance stands on is printed beside it, next to that of Dice."


@pytest.fixture(scope="module")
def missed(tmp_path_factory):
    """Two predicted studies; in the label map of the second, blood is called myocardium."""
    place = place_in(tmp_path_factory.mktemp("found"))
    mrigmm.predict(place.manifest(), place.out, method="map-em")
    path = place.out / "bad_labels.nii.gz"
    image = nib.load(path)
    labels = np.asarray(image.dataobj).copy()
    labels[labels == 1] = 2
    nib.Nifti1Image(labels, image.affine, image.header).to_filename(path)
    return place


def cells(text: str, row: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"│ {row} ")]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_evaluate(cli, missed):
    """blood missed in one of two studies, `evaluate` -> Dice of 2 studies, HD95 of 1"""
    result = cli("evaluate", missed.out, missed.manifest())
    name, _, _, studies, _, with_distance = cells(result.out, "blood")
    assert (name, studies, with_distance) == ("blood", "2", "1")
    assert cells(result.out, "myocardium")[3::2] == ["2", "2"]
    assert "Dice 0 where the prediction has none (bad)" in " ".join(result.out.split())
    estimates = json.loads((missed.out / "metrics.json").read_text())["summary"]["blood"]["estimates"]
    for metric in ("hd95_mm", "nsd_2mm", "hd95_3d_mm", "nsd_3d_2mm"):
        assert (estimates[metric]["n"], estimates[metric]["n_undefined"]) == (1, 1)


def test_results_in_an_interpreter(missed):
    """the same, the result of `mrigmm.evaluate` printed -> Dice of 2 studies, HD95 of 1"""
    shown = mrigmm.evaluate(missed.out, missed.manifest()).tables()[0]
    assert shown.columns[-3:] == ("studies", "HD95 mm", "studies")
    blood = dict(zip(("class", *shown.columns[1:]), shown.rows[0], strict=True))
    assert (shown.rows[0][4], blood["studies"]) == ("2", "1")


def test_compare(missed, tmp_path):
    """the same, compared with another folder -> the number of pairs beside every difference"""
    other = tmp_path / "other"
    mrigmm.predict(missed.manifest(), other, method="em-gmm")
    result = mrigmm.compare(missed.out, other, missed.manifest())
    by_title = {table.title: table for table in result.tables()}
    for title, n in (("Dice", "2"), ("HD95 (mm)", "1")):
        table = by_title[title]
        (row,) = [row for row in table.rows if row[0] == "blood"]
        assert row[table.columns.index("studies")] == n
    assert result.metrics["hd95_mm"]["blood"].difference.n == 1
