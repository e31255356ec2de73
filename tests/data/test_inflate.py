import gzip

import numpy as np
import pytest

from mrigmm.data.inflate import InflateError, SurplusError, inflate

CONTENT = np.random.default_rng(0).integers(0, 50, 3_000_000, dtype=np.uint8).tobytes()
PACKED = gzip.compress(CONTENT)
ALL = len(CONTENT)


@pytest.mark.parametrize("size", [1, 540, 1 << 20, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 9])
def test_the_first_bytes(size):
    assert inflate(PACKED, size, ALL) == CONTENT[:size]
    assert inflate(PACKED, size, None) == CONTENT[:size]


def test_several_members_and_zeros_behind_them():
    packed = gzip.compress(CONTENT[:1000]) + gzip.compress(CONTENT[1000:]) + bytes(100)
    assert inflate(packed, 2000, ALL) == CONTENT[:2000]


@pytest.mark.parametrize("kept", [1, 100, len(PACKED) // 2, len(PACKED) - 8, len(PACKED) - 1])
def test_a_stream_that_ends_early(kept):
    with pytest.raises(InflateError):
        inflate(PACKED[:kept], 500, ALL)


@pytest.mark.parametrize("place", [0, 1, -1, -6])
def test_a_damaged_header_checksum_or_length(place):
    """The checksum stands behind the data; it counts although only the first bytes are asked for."""
    spoilt = bytearray(PACKED)
    spoilt[place] ^= 0x10
    with pytest.raises(InflateError):
        inflate(bytes(spoilt), 500, ALL)


def test_garbage_behind_the_stream():
    with pytest.raises(InflateError):
        inflate(PACKED + b"garbage", 500, ALL)


def test_nothing():
    assert inflate(b"", 500, 0) == inflate(b"", 500, None) == b""
    assert inflate(gzip.compress(b""), 500, 0) == inflate(gzip.compress(b""), 500, None) == b""


def test_more_than_there_may_be():
    assert inflate(PACKED, ALL - 100, 100) == CONTENT[:-100]
    with pytest.raises(SurplusError):
        inflate(PACKED, ALL - 101, 100)


def test_a_stream_that_never_seems_to_end_is_not_read_to_its_end():
    endless = gzip.compress(bytes(1 << 20)) * 100_000
    with pytest.raises(SurplusError):
        inflate(endless, 500, 1 << 20)
