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


def test_what_was_found_may_differ():
    problems = [Problem("leads out", "a", got=f"{name}: /x") for name in ("LGE", "T2")]
    assert grouped([*problems, Problem("leads out", "b")]) == [
        Problem("leads out", "a, b", got="LGE: /x, T2: /x")
    ]


def test_the_same_problem_of_files_without_a_study_is_one():
    problems = [Problem("is damaged", file=f"{n}.dcm", got="no Rows") for n in range(2)]
    assert grouped(problems) == [Problem("is damaged", file="0.dcm, 1.dcm", got="no Rows")]


def test_many_that_differ_in_numbers_are_one_and_a_few_are_not():
    few = [Problem(f"T2: cine of {n} frames", f"s{n}", severity="warning") for n in range(5)]
    assert grouped(few) == few
    (problem,) = grouped([*few, Problem("T2: cine of 7.5 frames", "s7", severity="warning")])
    assert problem.what == "T2: cine of 0 frames (so for s0; the others have numbers of their own)"
    assert problem.study == "s0, s1, s2, s3, s4, ... (6 in all)"
    names = [Problem(f"T{n}: no image", f"s{n}") for n in range(9)]
    assert grouped(names) == names  # those are names, not numbers


def test_of_many_studies_the_first_are_named():
    for severity in ("error", "warning"):
        (problem,) = grouped([Problem("x", str(n), f"{n}.nii", severity=severity) for n in range(7)])
        assert problem.study == "0, 1, 2, 3, 4, ... (7 in all)"
        assert problem.file == "0.nii, 1.nii, 2.nii, 3.nii, 4.nii, ... (7 in all)"


def test_all_of_a_problem_in_one_line():
    whole = Problem("too thin", "a", "a.nii", "3 mm", "1 mm", "look")
    assert whole.line == "too thin: 1 mm; expected 3 mm (look)"
    assert Problem("too thin", "a").line == "too thin"


def test_of_many_names_the_first_and_their_number():
    assert some_of(["a", "b"]) == "a, b"
    assert some_of([str(n) for n in range(8)]) == "0, 1, 2, 3, 4, ... (8 in all)"


def test_a_problem_in_one_line():
    assert Problem("no scar").brief == "no scar"
    assert Problem("the file is damaged", "p1", "/data/p1.nii").brief == "the file is damaged (p1.nii)"
