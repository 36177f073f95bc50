"""What unpacks answers gives back what was packed, however it arrives."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.compression import NotGzip, compress, unpacker

TIMES = st.integers(0, 900)
PLAIN = st.binary(max_size=300) | st.builds(lambda part, times: part * times, st.binary(max_size=40), TIMES)


def unpacked(packed: bytes, at_once: int, piece: int) -> tuple[bytes, bool]:
    """Unpack bytes that arrive so many at once, into pieces of at most so many."""
    whole, inner = b"", unpacker()
    for start in range(0, len(packed), at_once):
        chunk = packed[start : start + at_once]
        while not inner.eof:
            found = inner.decompress(chunk, piece)
            assert len(found) <= piece
            whole += found
            chunk = inner.unconsumed_tail
            if not chunk and len(found) < piece:
                break
    return whole, inner.eof


@given(PLAIN, st.integers(0, 9), st.integers(1, 5_000), st.integers(100, 40_000), st.binary(max_size=9))
def test_comes_back(plain: bytes, level: int, at_once: int, piece: int, behind: bytes) -> None:
    """A page would be read wrong, or taken for one that broke off."""
    assert unpacked(gzip.compress(plain, level) + behind, at_once, piece) == (plain, True)
    assert unpacked(compress(plain), at_once, piece) == (plain, True)


@given(PLAIN, st.integers(1, 18), st.integers(1, 5_000))
def test_cut_is_no_end(plain: bytes, lost: int, at_once: int) -> None:
    """Half a page would count as a whole one."""
    found, is_whole = unpacked(gzip.compress(plain)[:-lost], at_once, 4_096)
    assert not is_whole
    assert plain.startswith(found)


def test_something_else_is_refused() -> None:
    """A page with an error in it would be read as far as it goes."""
    packed = gzip.compress(b"text" * 500)
    for other in (b"no gzip at all", packed[:-5] + b"????" + packed[-1:]):
        with pytest.raises(NotGzip):
            unpacked(other, 1_000, 4_096)
