"""The command line: one command per job. Parses, calls, prints; holds no logic.

`console.EXIT_CODES` says what the exit codes mean; `mrigmm --help` prints it.
"""

from mrigmm.cli.application import app
from mrigmm.cli.entry import main

__all__ = ["app", "main"]
