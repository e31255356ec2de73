"""`mrigmm review`: a page on this computer to correct predictions, and to accept or reject them."""

from __future__ import annotations

import getpass
import webbrowser
from collections.abc import Callable
from pathlib import Path

from mrigmm.jobs.common import Outcome


def review(
    predictions: Path | str,
    *,
    by: str | None = None,
    port: int = 0,
    browser: bool = True,
    ready: Callable[[str], None] = lambda address: None,
) -> Outcome:
    """Serve a page of a folder of predictions until interrupted (docs/review.md).

    Examples:
        >>> mrigmm.review("predictions", by="A. Reader")  # doctest: +SKIP

    Args:
        predictions: folder that `predict` or `segment` wrote.
        by: who reviews, for the side files; default the name of the account.
        port: of the loopback address; 0: one that is free.
        browser: open the page.
        ready: told the address of the page once it can be opened.

    Returns:
        The studies that were saved.

    Raises:
        InputError: there are no predictions, the port cannot be used, or a package is missing.
    """
    from mrigmm.jobs.reviewing.server import ReviewServer  # its packages are an extra
    from mrigmm.jobs.reviewing.workbench import Workbench

    folder = Path(predictions)
    bench = Workbench(folder, by or getpass.getuser())
    server = ReviewServer(bench, port)
    ready(server.url)
    if browser:
        webbrowser.open(server.url)
    try:
        server.run()
    finally:
        server.close()
        bench.tables.finish()
    return Outcome(folder, tuple(bench.saved))
