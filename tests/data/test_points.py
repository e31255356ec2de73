import json

import numpy as np
import pytest

from mrigmm.data.points import read_points
from mrigmm.errors import InputError

MARKUPS = {
    "markups": [
        {
            "type": "Fiducial",
            "coordinateSystem": "LPS",
            "controlPoints": [
                {"label": "s1", "position": [-10, -20, 30], "positionStatus": "defined"},
                {"label": "s2", "position": [1.5, 0, -3]},
            ],
        }
    ]
}
FCSV = (
    "# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n"
    "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    "1,{x},{y},30,0,0,0,1,1,1,0,s1,,\n"
)
CONTROL_POINTS = "label,{columns},defined,selected,visible,locked,description\ns1,{x},{y},30,1,1,1,0,\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "study,x_mm,y_mm,z_mm\ns1,10,20,30\n"),
        ("p.csv", "study,x_mm,y_mm,z_mm\ns1,10,20,30,,\n"),  # of a spreadsheet
        ("p.csv", "study;x_mm;y_mm;z_mm\ns1;10,0;2,0e1;30\n"),  # where commas are decimal
        ("p.mrk.json", json.dumps(MARKUPS)),
        ("p.json", json.dumps(MARKUPS).replace('"coordinateSystem": "LPS", ', "")),
        ("p.fcsv", FCSV.format(system="LPS", x=-10, y=-20)),
        ("p.fcsv", FCSV.format(system="1", x=-10, y=-20)),
        ("p.fcsv", FCSV.format(system="0", x=10, y=20)),
        ("p.csv", CONTROL_POINTS.format(columns="l,p,s", x=-10, y=-20)),
        ("p.csv", CONTROL_POINTS.format(columns="r,a,s", x=10, y=20)),
    ],
)
def test_every_format_becomes_ras(tmp_path, name, text):
    """The schema of 3D Slicer's markups means LPS where no system is named."""
    (tmp_path / name).write_text(text)
    np.testing.assert_array_equal(read_points(tmp_path / name)["s1"], [10, 20, 30])


def test_a_folder_of_one_file_per_study(tmp_path):
    (tmp_path / "a.fcsv").write_text(FCSV.format(system="RAS", x=1, y=2))
    one = {"markups": [{**MARKUPS["markups"][0], "controlPoints": [{"label": "F-1", "position": [1, 2, 3]}]}]}
    (tmp_path / "b.c.mrk.json").write_text(json.dumps(one))
    (tmp_path / "notes.txt").write_text("")
    points = read_points(tmp_path)
    assert {name: point.tolist() for name, point in points.items()} == {"a": [1, 2, 30], "b.c": [-1, -2, 3]}


@pytest.mark.parametrize(
    ("name", "text", "got"),
    [
        ("p.csv", "", "columns"),
        ("p.csv", "study,x_mm,y_mm,z_mm\ns1,10,5,20,0,30,5\n", "decimal commas"),
        ("p.csv", "study,x,y,z\ns1,1,2,3\n", "columns study, x, y, z"),
        (
            "p.csv",
            CONTROL_POINTS.format(columns="l,p,s", x=1, y=2).replace(",1,1,1,0", ",0,1,1,0"),
            "not placed",
        ),
        ("p.fcsv", FCSV.format(system="IJK", x=1, y=2), "'IJK' of s1"),
        ("p.fcsv", "1,1,2,3,0,0,0,1,1,1,0,s1,,\n", "CoordinateSystem"),
        ("p.mrk.json", json.dumps(MARKUPS).replace("s2", "s1"), "second time"),
        ("p.mrk.json", json.dumps(MARKUPS).replace('"defined"', '"undefined"'), "not placed"),
        ("p.mrk.json", json.dumps(MARKUPS).replace('"type"', '"coordinateUnits": "um", "type"'), "in um"),
        ("p.mrk.json", "[" * 10**5, ""),
        ("p.mrk.json", '{"markups": 5}', ""),
    ],
)
def test_refused(tmp_path, name, text, got):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="the insertions of the right ventricle cannot be read") as caught:
        read_points(tmp_path / name)
    assert got in (caught.value.problems[0].got or "")


def test_folders_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_points(tmp_path)
    assert caught.value.problems[0].got == "a folder without files .mrk.json or .fcsv"
    (tmp_path / "a.mrk.json").write_text(json.dumps(MARKUPS))
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_points(tmp_path)
    assert caught.value.problems[0].got == "2 points in a.mrk.json"
