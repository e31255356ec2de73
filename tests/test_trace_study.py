import sys

import trace_study as script


def test_functions_files_and_changes_of_file_by_hand(tmp_path, monkeypatch):
    """work calls double (other file) twice, squares (its own) once; importing calls double as well."""
    package = tmp_path / "traced_package"
    (package / "below").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "below" / "__init__.py").write_text("")
    (package / "below" / "other.py").write_text("def double(x):\n    return 2 * x\n\nFOUR = double(2)\n")
    (package / "first.py").write_text(
        "def squares(values):\n    return sorted([v * v for v in values], key=lambda v: -v)\n\n"
        "def work():\n"
        "    from traced_package.below.other import double\n"
        "    return squares([double(1), double(2)])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from traced_package.first import work

    passed = script.traced(work, package)
    assert sys.getprofile() is None
    assert passed.functions == {
        ("first.py", "work"): 1,
        ("below/other.py", "double"): 2,
        ("first.py", "squares"): 1,
    }
    assert passed.changes == 2
    assert script.package_lines(package) == 4 + 6
    numbers = script.numbers_of(passed, 10)
    assert numbers["parts"] == {
        "below": {"functions": 1, "files": 1},
        "first.py": {"functions": 2, "files": 1},
    }
    assert "| changes of file | 2 |" in script.tables(numbers)
