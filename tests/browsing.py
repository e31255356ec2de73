"""Headless Chromium for tests of pages; where none is installed (`apt-get install chromium`), they skip."""

from __future__ import annotations

import shutil
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",  # of the operating system's; tests run as root in containers
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL in software
]
TIMEOUT_MS = 300_000  # of busy machines; nothing is timed


class Messages(list[str]):
    """What the browser complained about, and what it asked for."""

    def watch(self, page: Any) -> None:
        """Listen to a page."""
        page.on("console", lambda message: self.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.append(str(error)))
        page.on("request", lambda request: self.append(request.url) if "://" in request.url[5:] else None)
