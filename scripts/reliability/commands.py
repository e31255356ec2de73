"""`mrigmm` commands as processes that can be killed, signalled and limited."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Small enough to start and measure another process without being measured itself.
_MEASURE = """
import os, sys
child = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
print(f"peak_kib={usage.ru_maxrss}", file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code; negative: the signal that killed it.
        text: what it wrote to the terminal.
    """

    code: int
    text: str


@dataclass
class Started:
    """A command that is running in a process forked from this one, which saves loading the packages."""

    pid: int
    terminal: Path
    _ended: Ended | None = None

    def poll(self) -> Ended | None:
        """How it ended, or None while it runs."""
        if self._ended is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                text = self.terminal.read_text(errors="replace")
                self._ended = Ended(os.waitstatus_to_exitcode(status), text)
        return self._ended

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, patience_s: float = 600) -> Ended:
        """Wait for its end; one that takes longer than `patience_s` is killed, and that is an error."""
        deadline = time.monotonic() + patience_s
        while (ended := self.poll()) is None:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                raise TimeoutError(f"process {self.pid} did not end: {self.terminal.read_text()}")
            time.sleep(0.002)
        return ended


def start(
    arguments: Sequence[object], terminal: Path, *, limits: Callable[[], None] | None = None
) -> Started:
    """Start a command in a fork of this process.

    Args:
        arguments: after `mrigmm`.
        terminal: file for what it writes.
        limits: called in the new process first, to set limits.
    """
    terminal.parent.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return Started(pid, terminal)
    code = 70
    try:
        output = os.open(terminal, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # ignored where this script is in the background
        sys.argv = ["mrigmm", *map(str, arguments)]
        from mrigmm.cli import main

        if limits is not None:
            limits()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def file_size_limit(n_bytes: int) -> Callable[[], None]:
    """No file may grow beyond so many bytes: a disk that is full in the middle of a file."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))

    return limit


def memory_limit(extra_bytes: int) -> Callable[[], None]:
    """So much more memory than the loaded packages take."""

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        total = pages * resource.getpagesize() + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (total, total))

    return limit


@dataclass(frozen=True)
class Measured(Ended):
    """How a fresh process ended, and its peak resident memory in MiB."""

    peak_mib: float


def measure(
    arguments: Sequence[object], *, environment: Mapping[str, str] | None = None, python: Sequence[str] = ()
) -> Measured:
    """Run a command in a fresh process.

    Args:
        arguments: after `mrigmm`.
        environment: changes of the environment.
        python: arguments for Python instead of `-m mrigmm`.
    """
    command = [sys.executable, *(python or ("-m", "mrigmm")), *map(str, arguments)]
    result = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    text, _, peak = result.stdout.rpartition("peak_kib=")
    return Measured(result.returncode, text, int(peak.split()[0]) / 1024)
