"""Reading gzip streams fast: the largest part of the time that loading a study takes."""

from __future__ import annotations

from isal import igzip_lib, isal_zlib

_GZIP = 31  # `wbits` of a gzip stream with the largest window
_CHUNK = 1 << 20
MAX_RATIO = 1032  # deflate packs no denser


class InflateError(Exception):
    """The bytes are no gzip stream, or a damaged one."""


class SurplusError(Exception):
    """There are more bytes than there may be."""


def inflate(stream: bytes, size: int, surplus: int | None) -> bytes:
    """Return the first `size` bytes of a gzip stream, which is read to its end, where the checksum stands.

    No more than `size` and a chunk are held in memory, whatever the stream expands to.

    Args:
        stream: one or more gzip members in a row, perhaps with zeros behind them.
        size: bytes to return, at least 1; fewer are returned when there are no more.
        surplus: bytes that may follow them; None: do not read on.

    Raises:
        InflateError: no gzip stream, damaged, or it ends early.
        SurplusError: more than `surplus` bytes follow.
    """
    parts: list[bytes] = []
    missing = size
    while stream:
        inflater = isal_zlib.decompressobj(wbits=_GZIP)
        while not inflater.eof:
            try:
                part = inflater.decompress(stream, missing or _CHUNK)
            except igzip_lib.IsalError as error:  # type: ignore[misc]  # its stub declares an instance
                raise InflateError(str(error)) from None
            stream = inflater.unconsumed_tail
            if surplus is None:
                return part
            if missing:
                parts.append(part)
                missing -= len(part)
            else:
                surplus -= len(part)
                if surplus < 0:
                    raise SurplusError
            if not part and not stream and not inflater.eof:
                raise InflateError("the compressed file ended before its end-of-stream marker")
        stream = inflater.unused_data.lstrip(b"\0")
    return parts[0] if len(parts) == 1 else b"".join(parts)
