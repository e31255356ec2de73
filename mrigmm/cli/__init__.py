"""The command line: one command per job. Parses, calls, prints; holds no logic.

Exit codes: 0 done; 1 `check` found errors; 2 bad input (some or all studies could not be processed), a full
disk, too little memory; 70 an error that nobody foresaw; 130 interrupted (Ctrl-C); 143 ended by SIGTERM.
"""

from mrigmm.cli.application import app
from mrigmm.cli.entry import main

__all__ = ["app", "main"]
