"""What makes a site of pages that also read well in the repository: hooks of MkDocs (mkdocs.yml).

Pages from outside this folder join the site, guides get a notebook (`scripts/notebooks.py`), links between
pages are turned into those of the site, and the command line's reference is written from the command line.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent

# Files of the repository outside docs/ -> their pages in the site.
JOINED = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "mrigmm/reporting/vendor/niivue/README.md": "niivue.md",
    **{
        f"data_manifests/{page.name}": f"data_sets/{page.name}"
        for page in sorted((ROOT / "data_manifests").glob("*.md"))
    },
}
# The repository's first page is not the site's: links to it lead to the site's own.
_LINKED = {**JOINED, "README.md": "index.md"}
_COMMANDS = "<!-- commands -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere in the repository, and the notebooks."""
    from mkdocs.structure.files import File

    sys.path.insert(0, str(ROOT / "scripts"))
    from notebooks import guides, notebook

    for source, target in JOINED.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    for page in guides():
        files.append(File.generated(config, f"notebooks/{page.stem}.ipynb", content=notebook(page)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A page as the site shows it."""
    if _COMMANDS in markdown:
        markdown = markdown.replace(_COMMANDS, command_reference())
    file = f"notebooks/{page.file.src_uri.removesuffix('.md')}.ipynb"
    if file in files.src_uris:
        markdown += f"\n[This page as a notebook]({file})\n"
    # Commands without a prompt; as a console session they would all be output.
    markdown = re.sub(r"^```console\n(?!\$)", "```sh\n", markdown, flags=re.MULTILINE)
    # Tables inside a fold are Markdown in the repository, too.
    markdown = markdown.replace("<details>", '<details markdown="1">')
    return with_site_links(markdown, page.file.src_uri)


def with_site_links(markdown: str, page: str) -> str:
    """Turn the links of a page of the site, which name places in the repository, into places in the site."""
    sources = {target: source for source, target in JOINED.items()}
    folder = posixpath.dirname(sources.get(page, f"docs/{page}"))

    def site_link(link: re.Match[str]) -> str:
        target, anchor = link[1], link[2] or ""
        if not target or "://" in target:
            return link[0]
        place = posixpath.normpath(posixpath.join(folder, target))
        place = _LINKED.get(place, place.removeprefix("docs/"))
        return f"]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{anchor})"

    return re.sub(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", site_link, markdown)


def command_reference() -> str:
    """Every command with its options, from the program itself (typer's own utility)."""
    made = subprocess.run(
        [sys.executable, "-m", "typer", "mrigmm.cli", "utils", "docs", "--name", "mrigmm"],
        capture_output=True,
        text=True,
        check=True,
    )
    _, *commands = re.split(r"^(?=## )", made.stdout, flags=re.MULTILINE)
    text = "".join(commands).replace("<id>", "&lt;id&gt;")
    # Examples below a command come without a fence.
    return re.sub(r"^((?:mrigmm .*\n)+)", r"**Examples**:\n\n```sh\n\1```\n", text, flags=re.MULTILINE)
