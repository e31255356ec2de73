"""Write the pages of docs/ that show commands or Python as notebooks, each for a folder of its own.

The text stays as it is, without links and pictures; commands become `%%bash` cells that stop at the first
that fails. Nothing is run: `jupyter lab` does it. Needs nbformat (pip install --group docs).
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
_CODE = re.compile(r"^```(console|python)\n(.*?)^```\n", flags=re.MULTILINE | re.DOTALL)
_PLACE = re.compile(r"^mkdir (\w+) && cd \1\n", flags=re.MULTILINE)


def guides() -> list[Path]:
    """Return the pages that have a notebook; the site's first page only names what others show."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    return [page for page in pages if page.name != "index.md" and _CODE.search(page.read_text("utf-8"))]


def notebook(page: Path) -> str:
    """Return a page as the JSON of a notebook."""
    text = page.read_text("utf-8")
    text = re.sub(r"^!\[.*?\]\(.*?\)\n\n?", "", text, flags=re.MULTILINE | re.DOTALL)
    pieces = _CODE.split(text)
    cells = [new_markdown_cell(f"*From docs/{page.name} of mrigmm, which has to be installed.*")]
    for words, language, code in zip(pieces[::3], [*pieces[1::3], None], [*pieces[2::3], ""], strict=True):
        if words.strip():
            cells.append(new_markdown_cell(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", words).strip()))
        if place := _PLACE.match(code):
            cells.append(new_code_cell(f"%mkdir {place[1]}\n%cd {place[1]}"))
            code = code[place.end() :]
        if language is not None:
            magic = "%%bash -e\n" if language == "console" else ""
            cells.append(new_code_cell(magic + code.rstrip("\n")))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.writes(new_notebook(cells=cells, metadata={"kernelspec": kernel}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the notebooks")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for page in guides():
        (folder / f"{page.stem}.ipynb").write_text(notebook(page), "utf-8")
        print(folder / f"{page.stem}.ipynb")


if __name__ == "__main__":
    main()
