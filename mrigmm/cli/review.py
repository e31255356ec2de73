"""The command review."""

from __future__ import annotations

from typing import Annotated

from mrigmm.cli.console import Voice, err_console, studies_text
from mrigmm.cli.options import MESSAGES, OUTPUT, PredictionsArg, Quiet, Verbose, option


def review(
    predictions: PredictionsArg,
    by: Annotated[
        str | None, option(OUTPUT, "Who reviews, for the side files. Default: the account.", metavar="NAME")
    ] = None,
    port: Annotated[int, option(MESSAGES, "Of the page. Default: one that is free.")] = 0,
    no_browser: Annotated[
        bool, option(MESSAGES, "Print the address of the page, but do not open it.", "--no-browser")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Look at label maps on a page of this computer, correct, accept or reject them (docs/review.md).

    Examples:
        mrigmm review predictions/run --by "A. Reader"
        mrigmm review results --no-browser --port 8123
    """
    from mrigmm.jobs.review import review as job

    def ready(address: str) -> None:
        text = f"review: {address}\nonly this computer can open it; end with Ctrl-C"
        err_console.print(text, markup=False, highlight=False)

    voice = Voice(quiet, verbose)
    result = job(predictions, by=by, port=port, browser=not no_browser, ready=ready)
    voice.finish(result, f"reviewed {studies_text(len(result.done))}: {result.output}")
