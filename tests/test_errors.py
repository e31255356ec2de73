from pathlib import Path

import pytest

from mrigmm.errors import InputError, Problem, grouped, near_misses, some_of


def test_a_message_names_its_five_parts_in_order():
    error = InputError(
        "the region is empty",
        study="p01",
        file=Path("a/b.nii.gz"),
        expected="voxels",
        got="none",
        remedy="check",
    )
    assert str(error) == (
        "the region is empty\n  study: p01\n  file: a/b.nii.gz\n"
        "  expected: voxels\n  got: none\n  remedy: check"
    )


def test_parts_that_do_not_apply_are_left_out():
    assert str(InputError("no image was given", got="")) == "no image was given\n  got: "


def test_an_error_of_several_problems_carries_all():
    problems = [Problem("first", "a"), Problem("second", "b", severity="warning")]
    error = InputError.from_problems(iter(problems))
    assert error.problems == tuple(problems)
    assert str(error) == "first\n  study: a\nsecond\n  study: b"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("epoch", "did you mean epochs?"),
        ("EPOCHS", "did you mean epochs?"),
        ("batchslices", "did you mean batch_slices?"),
        ("zzz", "known names: epochs, batch_slices, Seed"),
        ("seed", "did you mean Seed?"),
    ],
)
def test_near_misses(name, remedy):
    assert near_misses(name, ("epochs", "batch_slices", "Seed")) == remedy


def test_what_differs_by_study_and_file_only_is_one():
    problems = [
        Problem("the T2 file does not exist", "a", "a.nii", remedy="copy it"),
        Problem("no scar", "a"),
        Problem("the T2 file does not exist", "b", "b.nii", remedy="copy it"),
        Problem("the T2 file does not exist", "c", "c.nii", remedy="move it"),
        Problem("of all", None),
        Problem("of all", None),
        Problem("no scar", "b", severity="warning"),
    ]
    assert grouped(problems) == [
        Problem("the T2 file does not exist", "a, b", "a.nii, b.nii", remedy="copy it"),
        Problem("no scar", "a"),
        Problem("the T2 file does not exist", "c", "c.nii", remedy="move it"),
        Problem("of all", None),
        Problem("of all", None),
        Problem("no scar", "b", severity="warning"),
    ]


def test_of_many_errors_all_studies_are_named_and_of_warnings_the_first():
    for severity, studies in (("error", "0, 1, 2, 3, 4, 5, 6"), ("warning", "0, 1, 2, 3, 4, ... (7 in all)")):
        (problem,) = grouped([Problem("x", str(n), f"{n}.nii", severity=severity) for n in range(7)])
        assert problem.study == studies
        assert problem.file == "0.nii, 1.nii, 2.nii, 3.nii, 4.nii, ... (7 in all)"


def test_of_many_names_the_first_and_their_number():
    assert some_of(["a", "b"]) == "a, b"
    assert some_of([str(n) for n in range(8)]) == "0, 1, 2, 3, 4, ... (8 in all)"


def test_a_problem_in_one_line():
    assert Problem("no scar").brief == "no scar"
    assert Problem("the file is damaged", "p1", "/data/p1.nii").brief == "the file is damaged (p1.nii)"
