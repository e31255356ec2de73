import io

import numpy as np
import pytest
from PIL import Image

from mrigmm.reporting.comparison import comparison_figure, markdown_table


def figure(values, names=("a", "b")):
    notes = {metric: dict.fromkeys(by_class, "n") for metric, by_class in values.items()}
    image = Image.open(io.BytesIO(comparison_figure(values, notes, names)))
    return np.asarray(image.convert("RGB")).astype(int)


def pixels_of(image, colour):
    return int((np.abs(image - colour).sum(axis=2) < 8).sum())


def test_every_class_is_drawn_in_its_colour():
    pairs = np.array([[0.2, 0.8], [0.4, 0.9]])
    both = figure({"Dice": {"scar": pairs, "blood": pairs}, "HD95 (mm)": {"scar": pairs, "blood": pairs}})
    for colour in ((213, 94, 0), (86, 180, 233)):  # labels.py
        assert pixels_of(both, colour) > 20
    scar = figure({"Dice": {"scar": pairs, "blood": np.empty((0, 2))}})
    assert pixels_of(scar, (213, 94, 0)) > 20
    assert pixels_of(scar, (86, 180, 233)) == 0


@pytest.mark.parametrize("name", ["$x$", "a$", "$\\frac", "<b>"])
def test_names_are_no_formulas(name):
    values = {"Dice": {name: np.array([[0.1, 0.2]])}}
    assert not np.array_equal(figure(values, (name, name)), figure(values, ("b", "b")))


def test_cells_end_no_line_and_no_column():
    table = markdown_table(("class", "A|B"), [("scar\n| x", "1")])
    assert table == "| class | A\\|B |\n| --- | --- |\n| scar \\| x | 1 |"
