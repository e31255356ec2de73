import pytest
import yaml

from mrigmm.data.dicom.recognise import choose
from mrigmm.data.dicom.series_map import read_map, write_map
from mrigmm.errors import InputError

from .files import ROOT, series
from .test_series import studies

GOOD = {
    "studies": [
        {
            "id": "P1",
            "study": "1.2",
            "series": [{"series": "1.2.1", "sequence": "LGE"}, {"series": "1.2.2", "sequence": "ignore"}],
        }
    ]
}


def test_what_is_written_is_read_back(tmp_path):
    series(tmp_path / "s")
    series(tmp_path / "s", series=2, description="on: {a tricky, 'name'} #1")
    found, _ = studies(tmp_path / "s")
    path = tmp_path / "map.yaml"
    write_map(path, found, ["007"], [choose(found[0].parts)[0]])
    mapped = read_map(path)
    assert mapped[f"{ROOT}.1"].id == "007"
    assert mapped[f"{ROOT}.1"].sequences == {f"{ROOT}.1.1": "LGE", f"{ROOT}.1.2": "ignore"}
    text = path.read_text()
    assert text.startswith("# Which series is which sequence.")
    shown = yaml.safe_load(text)["studies"][0]["series"][0]
    assert shown["why"] == "the name has 'lge'"
    assert shown["what"] == "3 slices of 5 x 6 pixels of 1.25 x 1.5 mm, magnitude"


def problems(tmp_path, text):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_map(path)
    return [(problem.what, problem.remedy) for problem in caught.value.problems]


def changed(**study):
    return yaml.safe_dump({"studies": [GOOD["studies"][0] | study]})


def test_a_good_map(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    assert read_map(path)["1.2"].sequences == {"1.2.1": "LGE", "1.2.2": "ignore"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("studies: [", "the map cannot be read"),
        ("[]", "the map has another form"),
        ("studies: {}", "the map has another form"),
        ("studies: [3]", "a study of the map has another form"),
        (changed(id="../x"), "a study id becomes a file name"),
        (changed(id=7), "a study id must be a non-empty text"),
        (changed(study=1.2), "a study UID must be a text in quotes"),
        (changed(extra=1), "unknown key 'extra'"),
        (changed(series=[{"series": "1.2.1"}]), "a series of the map has no 'sequence'"),
        (changed(series=["1.2.1"]), "a series of the map has another form"),
        (changed(series=[{"series": "1", "sequence": "T3"}]), "unknown sequence of series 1"),
        (changed(series=[{"series": "1", "sequence": "T2"}] * 2), "series 1 stands twice"),
        (yaml.safe_dump({"studies": GOOD["studies"] * 2}), "a study or an id stands twice in the map"),
    ],
)
def test_maps_that_are_wrong(tmp_path, text, what):
    assert problems(tmp_path, text)[0][0].startswith(what)


def test_an_id_of_digits_needs_quotes(tmp_path):
    ((what, remedy),) = problems(tmp_path, changed(id="P1").replace("id: P1", "id: 0004711"))
    assert what == "a study id must be a non-empty text"
    assert remedy.startswith("put the id in quotes")


def test_every_problem_is_said_and_names_are_suggested(tmp_path):
    wrong = [{"series": "1", "sequence": "lge"}, {"series": "2", "sequence": "ignored"}]
    found = problems(tmp_path, changed(series=wrong))
    assert [remedy for _, remedy in found] == ["did you mean LGE?", "did you mean ignore?"]


def test_no_map(tmp_path):
    with pytest.raises(InputError, match="the map does not exist"):
        read_map(tmp_path / "none.yaml")
