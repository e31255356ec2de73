"""The model card of a trained run, as Markdown; every text from files is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class ModelCard:
    """Content of a model card.

    Attributes:
        title: of the run.
        purpose: what it is for, in a sentence or two of ours.
        tables: title of a section -> name of a fact -> fact.
        limits: sentences of ours.
        licence: of the weights.
        settings: the whole configuration as YAML.
    """

    title: str
    purpose: str
    tables: Mapping[str, Mapping[str, str]]
    limits: Sequence[str]
    licence: str
    settings: str


def render_model_card(card: ModelCard, *, disclaimer: str) -> str:
    """Fill the template."""
    # Markdown, so that HTML's escapes are not enough: `cell` makes them.
    environment = Environment(
        loader=PackageLoader("mrigmm.reporting"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["cell"] = _cell
    return environment.get_template("model_card.md.j2").render(**vars(card), disclaimer=disclaimer) + "\n"


def _cell(text: str) -> str:
    """Return a text on one line, without what Markdown or HTML would take for its own."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{c}" if c in "\\|[]`*" else c for c in escaped)
