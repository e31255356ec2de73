import json
import math
import re

import pytest

from mrigmm.export.side_files import finite, write_itksnap_labels, write_json, write_slicer_colours

CLASSES = ("blood", "myocardium", "edema", "scar")
EXPECTED = {
    0: ("background", (0, 0, 0)),
    1: ("blood", (86, 180, 233)),
    2: ("myocardium", (0, 158, 115)),
    3: ("edema", (240, 228, 66)),
    4: ("scar", (213, 94, 0)),
}


def read_itksnap(path):
    """As ITK-SNAP reads it: index, red, green, blue, alpha (0 to 1), visible, mesh, quoted name."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(
            r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"([^"]*)"', line
        )
        assert match, line
        index, r, g, b = (int(match[i]) for i in range(1, 5))
        rows[index] = (match[8], (r, g, b), float(match[5]), match[6] == "1")
    return rows


def read_slicer(path):
    """As 3D Slicer reads it: index, name without blanks, red, green, blue, alpha (0 to 255)."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        index, name, r, g, b, alpha = line.split(" ")
        rows[int(index)] = (name, (int(r), int(g), int(b)), int(alpha))
    return rows


def test_itksnap(tmp_path):
    write_itksnap_labels(tmp_path / "a.txt", CLASSES)
    rows = read_itksnap(tmp_path / "a.txt")
    assert rows[0] == ("Clear Label", (0, 0, 0), 0.0, False)
    assert {i: row[:2] for i, row in rows.items() if i} == {i: EXPECTED[i] for i in (1, 2, 3, 4)}
    assert all(row[2:] == (1.0, True) for i, row in rows.items() if i)


def test_slicer(tmp_path):
    write_slicer_colours(tmp_path / "a.ctbl", CLASSES)
    rows = read_slicer(tmp_path / "a.ctbl")
    assert {i: row[:2] for i, row in rows.items()} == EXPECTED
    assert {i: row[2] for i, row in rows.items()} == {0: 0, 1: 255, 2: 255, 3: 255, 4: 255}


def test_ids_of_a_selection_stay_fixed(tmp_path):
    write_slicer_colours(tmp_path / "a.ctbl", ("scar", "myocardium"))
    assert {i: row[:2] for i, row in read_slicer(tmp_path / "a.ctbl").items()} == {
        i: EXPECTED[i] for i in (0, 2, 4)
    }


@pytest.mark.parametrize(
    ("name", "itksnap", "slicer"),
    [
        ("white matter", "white matter", "white_matter"),
        ('a"b', "a b", "a_b"),
        ("a\tb\nc", "a b c", "a_b_c"),
        ("Ödem", "Ödem", "Ödem"),
        ("a\u00a0b", "a b", "a_b"),
    ],
)
def test_names_cannot_end_a_field_or_a_line(tmp_path, name, itksnap, slicer):
    write_itksnap_labels(tmp_path / "a.txt", (name, "other"))
    write_slicer_colours(tmp_path / "a.ctbl", (name, "other"))
    assert read_itksnap(tmp_path / "a.txt")[1][0] == itksnap
    assert read_slicer(tmp_path / "a.ctbl")[1][0] == slicer


def test_json_has_no_nan(tmp_path):
    content = {"a": math.nan, "b": [1.5, math.inf, (-math.inf, "x")], 3: {"c": None, "d": True}}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == {"a": None, "b": [1.5, None, [None, "x"]], "3": {"c": None, "d": True}}
    assert finite(1e300) == 1e300
