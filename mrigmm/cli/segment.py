"""The command `segment`: from a folder to the numbers."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mrigmm.cli.completion import complete_kinds, complete_schemes
from mrigmm.cli.console import (
    KEEPS_FINISHED,
    Voice,
    err_console,
    first_imports,
    out_console,
    resumable,
    studies_text,
)
from mrigmm.cli.options import (
    INPUT,
    OUTPUT,
    SINGLE,
    DataRoot,
    Json,
    Quiet,
    Verbose,
    named_files,
    named_several,
    option,
    takes,
)
from mrigmm.cli.tables import print_tables
from mrigmm.errors import InputError
from mrigmm.jobs.options import PredictOptions


@takes(PredictOptions)
def segment(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SRC", help="Folder of NIfTI or DICOM, data set, manifest.json, or files; or use --image."
        ),
    ] = None,
    out: Annotated[Path, option(OUTPUT, "Folder for everything.", "-o", "--out")] = ...,  # type: ignore[assignment]
    *,
    images: Annotated[
        list[str] | None,
        option(
            INPUT,
            "Files of a sequence (or region, label, ignore), for example LGE='*_lge*.nii.gz'.",
            "--images",
            metavar="NAME=PATTERN",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        option(
            INPUT, "Layout, as of manifest. Default: recognised.", metavar="LAYOUT", complete=complete_kinds
        ),
    ] = None,
    labels: Annotated[
        str | None,
        option(
            INPUT,
            "Ids of label maps: myops, emidec, ..., or blood=1,scar=3+4.",
            metavar="SCHEME",
            complete=complete_schemes,
        ),
    ] = None,
    image: Annotated[
        list[str] | None, option(SINGLE, "One file of a single study (or region=FILE).", metavar="NAME=FILE")
    ] = None,
    data_root: DataRoot = None,
    dry_run: Annotated[bool, option(OUTPUT, "Say what was recognised, and stop.", "--dry-run")] = False,
    resume: Annotated[bool, option(OUTPUT, "Keep the finished studies in the folder.", "--resume")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **options: Any,
) -> None:
    """Recognise studies, segment and measure them, and say infarct, edema and LV mass of each.

    Examples:
        mrigmm segment patients -o results
        mrigmm segment patients -o results --dry-run
        mrigmm segment patients -o results --images LGE='*_lge*.nii.gz'
        mrigmm segment p01_lge.nii.gz p01_t2.nii.gz -o results
    """
    with first_imports():
        from mrigmm.jobs.common import DISCLAIMER
        from mrigmm.jobs.segment import as_json as content
        from mrigmm.jobs.segment import segment_folder
        from mrigmm.jobs.segmenting.answer import legend, to_look_at

    voice = Voice(quiet, verbose)
    if bool(sources) == bool(image):
        raise InputError("give either a folder (or files), or --image NAME=FILE (one per sequence)")

    def tell(understood: Any) -> None:
        if not as_json and not quiet:
            print_tables([understood.table()])
            out_console.print(f"manifest: {understood.manifest}", markup=False, highlight=False)
        voice.tell(understood.problems)

    with resumable(KEEPS_FINISHED):
        result = segment_folder(
            named_files(image) if image else sources or [],
            out,
            kind=kind,
            images=named_several(images or [], "--images", "NAME=PATTERN", "LGE='*_lge*.nii.gz'"),
            labels=labels,
            data_root=data_root,
            dry_run=dry_run,
            resume=resume,
            tell=tell,
            track=voice.track,
            ask=_ask if sys.stdin.isatty() and not as_json else None,
            **options,
        )
    if dry_run or not result.done:
        count = studies_text(len(result.done))
        text = f"{count} recognised; nothing is segmented yet" if dry_run else "no study was segmented"
        voice.finish(result, text, as_json=content(result) if as_json else None)
        return
    lines = []
    if not as_json and result.speaks:
        # Warnings of studies stand below the numbers.
        voice.tell(p for p in result.problems if p.severity != "warning" or p.study is None)
        print_tables(result.tables())
        lines = legend(result.answers) + [f"look at {line}" for line in to_look_at(result.problems)]
    lines += [f"report: {result.report}"] if result.report is not None else []
    lines += [f"segmented {studies_text(len(result.done))}; label maps and tables: {result.output}"]
    lines.append(DISCLAIMER)
    if not as_json:
        result = replace(result, problems=tuple(p for p in result.problems if p.severity == "error"))
    voice.finish(result, "\n".join(lines), as_json=content(result) if as_json else None)


def _ask(question: Any) -> int | None:
    """Put a question on the terminal; Enter alone leaves it open."""
    err_console.print(question.text, markup=False, highlight=False)
    for number, answer in enumerate(question.answers, start=1):
        err_console.print(f"  {number}  {answer}", markup=False, highlight=False)
    err_console.print(f"a number, or Enter to leave it open ({question.option}): ", end="", markup=False)
    answer = sys.stdin.readline().strip()
    if answer.isdecimal() and 1 <= int(answer) <= len(question.answers):
        return int(answer) - 1
    return None
