"""Files are written to a temporary name beside their own and renamed, so none is ever half there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mrigmm.errors import InputError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path` that takes its name when the block ends without error.

    Raises:
        InputError: when the folder cannot be written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays: writers choose the format by it.
        handle, name = tempfile.mkstemp(
            prefix=".partial-", suffix="".join(path.suffixes[-2:]), dir=path.parent
        )
        os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from None
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


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


def require_not_input(path: Path, inputs: Iterable[Path], *, study: str | None = None) -> None:
    """Refuse to write over a file that is being read.

    Raises:
        InputError: `path` is one of `inputs`, links followed.
    """
    if path.resolve() in {file.resolve() for file in inputs}:
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        "the output cannot be written",
        file=path,
        expected="a folder with write permission and free space",
        got=error.strerror or str(error),
    )
