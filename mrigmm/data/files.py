"""Files are written to a temporary name beside their own and renamed, so none is ever half there."""

from __future__ import annotations

import errno
import hashlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mrigmm.errors import InputError

_PARTIAL = ".partial-"
_LOCK = ".lock"
_MARKED_BYTES = 8192
# A full disk, quota, or limit of a file's size.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAKE_ROOM = "make room, then the same command again; of train and predict with --resume"
# Long enough for a process that is just ending.
_LOCK_PATIENCE_S = 1.0


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path` that takes its name when the block ends without error.

    Raises:
        InputError: when the folder cannot be written to, or the disk is full.
    """
    # Named here and made by the writer: an interrupt can then not come between the two and leave the file.
    # The suffix stays: writers choose the format by it.
    temporary = path.with_name(f"{_PARTIAL}{secrets.token_hex(8)}{''.join(path.suffixes[-2:])}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Let no other process that asks the same write to a folder, and remove what a killed one left half.

    The system frees the lock of a process that dies. A folder that was made for it and got no file is
    removed.

    Raises:
        InputError: another process writes to the folder, or it cannot be written to.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    try:
        with locked(folder):
            for pattern in (f"{_PARTIAL}*", f"*/{_PARTIAL}*"):
                for left in folder.glob(pattern):
                    remove(left)
            yield
    finally:
        if new:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other process that asks the same write to a folder that is there.

    Raises:
        InputError: another process writes to the folder, or it cannot be written to.
    """
    lock_file = folder / _LOCK
    try:
        lock = FileLock(lock_file, timeout=_LOCK_PATIENCE_S)
        lock.acquire()
    except Timeout:
        raise InputError(
            "another process is writing to this folder",
            file=folder,
            remedy="wait for it, or choose another -o",
        ) from None
    except OSError as error:
        raise _cannot_write(folder, error) from None
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)  # while it is held: who waits for it looks for it anew
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file in one piece.

    Bytes of file names that are no UTF-8 are written as escapes, which JSON reads back as they were.
    """
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def remove(path: Path) -> None:
    """Delete a file when it is there.

    Raises:
        InputError: it cannot be deleted, or is a folder.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from None


def require_not_input(*paths: Path, inputs: Iterable[Path], study: str | None = None) -> None:
    """Refuse to write over a file that is being read.

    Raises:
        InputError: one of `paths` is one of `inputs`, links followed.
    """
    read = {file.resolve() for file in inputs}
    for path in paths:
        if path.resolve() in read:
            raise InputError(
                "the output would replace an input",
                study=study,
                file=path,
                expected="a file that is not read",
                remedy="choose another -o",
            )


def require_new_file(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file without being asked to.

    Raises:
        InputError: `path` is there and `overwrite` is False.
    """
    if path.exists() and not overwrite:
        raise InputError(
            "the output is already there",
            file=path,
            expected="a name for a new file",
            remedy="choose another -o, or allow to replace it with --overwrite",
        )


def require_own(path: Path, *, mark: str) -> None:
    """Refuse to replace a file that an earlier run of the same command cannot have written.

    Args:
        path: a file that can be made again at any time, and is replaced without asking.
        mark: what stands near the beginning of every such file.

    Raises:
        InputError: `path` is a file without it.
    """
    try:
        if not path.is_file():
            return
        with path.open("rb") as content:
            beginning = content.read(_MARKED_BYTES)
    except OSError as error:
        raise _cannot_write(path, error) from None
    if beginning and mark.encode() not in beginning:
        raise InputError(
            "the output would replace a file that this command did not write",
            file=path,
            expected="a new name, or the result of an earlier run",
            remedy="choose another -o, or move that file away",
        )


def require_new_folder(
    folder: Path, *, holds: str, overwrite: bool = False, instead: str | None = None
) -> None:
    """Refuse an output folder that already has results.

    Args:
        folder: where results are to go.
        holds: glob pattern of the results that matter, such as "*_labels.nii.gz".
        overwrite: the user allowed to replace what is there.
        instead: what the user can do beside choosing another folder.

    Raises:
        InputError: results are there and `overwrite` is False, or `folder` is a file.
    """
    try:
        nearest = next((p for p in (folder, *folder.parents) if p.exists()), folder)
        if nearest.exists() and not nearest.is_dir():
            raise InputError(
                "the output is not a folder",
                file=folder,
                expected="a folder, or a name for a new one",
                got=f"the file {nearest}",
                remedy="choose another -o",
            )
        found = next(folder.glob(holds), None) if folder.is_dir() else None
    except OSError as error:
        raise _cannot_write(folder, error) from None
    if found is not None and not overwrite:
        raise InputError(
            "the output folder already has results",
            file=folder,
            expected="a new or empty folder",
            got=f"{found.name} and perhaps more",
            remedy="choose another -o" + (f", or {instead}" if instead else ""),
        )


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        "the output cannot be written",
        file=path,
        expected="a folder with write permission and free space",
        got=error.strerror or str(error),
        remedy=_MAKE_ROOM if error.errno in _NO_ROOM else None,
    )


def sha256(file: Path) -> str | None:
    """Digest of a file's content; None where there is none, or no file: reading a pipe would never end."""
    try:
        if not file.is_file():
            return None
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None
