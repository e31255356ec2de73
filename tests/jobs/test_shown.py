from mrigmm.errors import counted
from mrigmm.jobs.shown import MAX_ROWS, ShownTable, figure


def test_text_has_names_to_the_left_and_figures_to_the_right():
    table = ShownTable(("class", "Dice"), (("scar", "0.7"), ("myocardium", "0.85")), "Overlap")
    assert table.as_text().splitlines() == [
        "Overlap",
        "class       Dice",
        "scar         0.7",
        "myocardium  0.85",
    ]


def test_names_from_files_are_escaped():
    table = ShownTable(("study",), (("<b>\n",),))
    assert table.as_text() == "study\n<b>\\n"
    assert "<td>&lt;b&gt;\n</td>" in table.as_html()


def test_long_tables_end_early():
    table = ShownTable(("study",), tuple((str(n),) for n in range(MAX_ROWS + 3)))
    assert table.as_text().splitlines()[-2:] == [str(MAX_ROWS - 1), "... and 3 more"]
    assert table.as_html().endswith("<p>... and 3 more</p>")
    assert table.as_html().count("<tr>") == MAX_ROWS + 1


def test_figures():
    assert (figure(0.12345), figure(float("nan")), figure(None), figure(2.0, 1)) == ("0.123", "–", "–", "2.0")
    assert (counted(1, "error"), counted(2, "error"), counted(0, "study", "studies")) == (
        "1 error",
        "2 errors",
        "0 studies",
    )
