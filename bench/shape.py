"""How a made-up project's rows lie in time, and how their ids tell which row they are.

A block of rows is made once, as a template, and stands for every hour (or day) of the project: block by block only the
first letters of ids and the date in times change, and these have a fixed length. So a server holds one block whatever
the number of rows, and a receiver knows from a span id alone which row it stands for.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

DAY_MS = 86_400_000
HOUR_MS = 3_600_000

#: What stands in a template in place of the letters that tell the block, and of the date (and hour) of the block.
MARKER = "~~~~~~"
MOMENT = {DAY_MS: "^" * len("2026-01-31"), HOUR_MS: "^" * len("2026-01-31T23")}

_BLOCK_FACTOR, _BLOCK_SHIFT, _BLOCKS = 0x9E3779, 0x51F15E, 1 << 24
_ROW_FACTOR, _ROW_SHIFT, _ROWS = 0x9E3779B97F, 0x7F4A7C15F3, 1 << 40
_BLOCK_INVERSE = pow(_BLOCK_FACTOR, -1, _BLOCKS)
_ROW_INVERSE = pow(_ROW_FACTOR, -1, _ROWS)

#: Rows of a block where nothing else is said: of a whole project if that is small.
BLOCK_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Shape:
    """A project: `blocks` times `block_rows` rows, one block every `period_ms` from `first_ms` on."""

    blocks: int
    block_rows: int
    period_ms: int
    first_ms: int
    seed: int = 20_260

    @property
    def rows(self) -> int:
        """All rows."""
        return self.blocks * self.block_rows

    @property
    def end_ms(self) -> int:
        """When the last block ends."""
        return self.first_ms + self.blocks * self.period_ms

    def start_of(self, block: int) -> int:
        """Return when a block begins, in Unix milliseconds; `blocks` itself is the end of all."""
        return self.first_ms + block * self.period_ms

    def moment_of(self, block: int) -> str:
        """Return the date, with the hour where a block is an hour, that all times of a block begin with."""
        return iso(self.start_of(block))[: len(MOMENT[self.period_ms])]

    def as_text(self) -> str:
        """Return it for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Shape:
        """Read what `as_text` gave."""
        return cls(**json.loads(text))


def recent(rows: int, *, block_rows: int | None = None, period_ms: int = DAY_MS) -> Shape:
    """Return a project of at least so many rows whose last block has just ended."""
    size = min(rows, block_rows or BLOCK_ROWS)
    blocks = -(-rows // size)
    end = (time.time_ns() // 1_000_000 - 2 * HOUR_MS) // period_ms * period_ms
    return Shape(blocks, size, period_ms, end - blocks * period_ms)


def marker_of(block: int) -> str:
    """Return the letters that the ids of a block begin with."""
    return f"{(block * _BLOCK_FACTOR + _BLOCK_SHIFT) % _BLOCKS:06x}"


def block_of(marker: str) -> int:
    """Return which block the letters stand for; a large number for letters that stand for none."""
    return (int(marker, 16) - _BLOCK_SHIFT) * _BLOCK_INVERSE % _BLOCKS


def tail_of(row: int) -> str:
    """Return the rest of the id of a block's row."""
    return f"{(row * _ROW_FACTOR + _ROW_SHIFT) % _ROWS:010x}"


def row_of(tail: str) -> int:
    """Return which row of its block the rest of an id stands for; a large number for one that stands for none."""
    return (int(tail, 16) - _ROW_SHIFT) * _ROW_INVERSE % _ROWS


def iso(moment_ms: int) -> str:
    """Return a time as Langfuse writes it."""
    moment = datetime.fromtimestamp(moment_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment_ms % 1000:03d}Z"


def unix_ms(text: str) -> int:
    """Return the Unix milliseconds of a time with an offset."""
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000
