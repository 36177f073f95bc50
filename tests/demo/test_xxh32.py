"""The hash that rows of the same time are ordered by."""

from __future__ import annotations

import pytest

from sync_worker.demo.xxh32 import trace_hash, xxh32


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0x02CC5D05),
        (b"a", 0x550D7456),
        (b"abc", 0x32D153FF),
        (b"Nobody inspects the spammish repetition", 0xE2293B2F),
    ],
)
def test_known_values(data: bytes, expected: int) -> None:
    """Another hash would list rows that tie in time in an order that no Langfuse server has."""
    assert xxh32(data) == expected


@pytest.mark.parametrize("length", [15, 16, 17, 31, 32, 33, 36])
def test_every_byte_counts(length: int) -> None:
    """A byte skipped at the edge of a block would give two trace ids the same place."""
    data = bytes(range(length))
    changed = {xxh32(data[:at] + b"\xff" + data[at + 1 :]) for at in range(length)}
    assert len(changed | {xxh32(data)}) == length + 1


def test_no_trace_hashes_as_empty() -> None:
    """A row without a trace would stop the listing."""
    assert trace_hash(None) == xxh32(b"")
