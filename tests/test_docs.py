"""Every command that README and docs show is run; every file they link to exists."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def run(arguments, folder):
    result = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, f"{arguments}\n{result.stdout}\n{result.stderr}"


def test_readme_commands_run_in_their_order(tmp_path):
    commands = [line for block in blocks(ROOT / "README.md", "console") for line in block.splitlines()]
    assert len(commands) >= 10
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "mrigmm"
        run(
            [sys.executable, "-m", "mrigmm", *arguments, *([] if "info" in arguments else ["--quiet"])],
            tmp_path,
        )
    for code in blocks(ROOT / "README.md", "python"):
        run([sys.executable, "-c", code], tmp_path)
    assert (tmp_path / "predictions" / "run" / "report.html").stat().st_size > 10_000


def test_demo_runs_as_the_readme_says(tmp_path):
    assert "mrigmm demo\n" in (ROOT / "README.md").read_text()
    run([sys.executable, "-m", "mrigmm", "demo", "--quiet"], tmp_path)
    folder = tmp_path / "mrigmm_demo"
    assert (folder / "report.html").exists()
    for name in ("deep-gem", "em-gmm"):
        assert len(list((folder / "predictions" / name).glob("*_labels.nii.gz"))) == 3
        assert (folder / "predictions" / name / "metrics.json").exists()


def test_the_gate_runs_the_readme_test_command():
    pattern = r"^pip install .*\[test\].*pytest"
    assert re.search(pattern, (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert r"'^pip install .*\[test\].*pytest'" in (ROOT / ".ci" / "run").read_text()


def anchors(page):
    """What a link can name in a page: its headings in lower case, with hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        if not target.startswith("http"):
            file = page.parent / target if target else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_that_docs_name_explain_themselves(page):
    for script in set(re.findall(r"scripts/\w+\.py", page.read_text())):
        run([sys.executable, str(ROOT / script), "--help"], ROOT)
