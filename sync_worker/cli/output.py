"""stdout belongs to results, stderr to talk."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def say(line: str) -> None:
    """Tell the person something."""
    print(line, file=sys.stderr)  # noqa: T201


def print_line(line: str = "") -> None:
    """Print a line of the result."""
    print(line)  # noqa: T201


def print_json(value: Any) -> None:
    """Print the result as one JSON object."""
    print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in aligned columns."""
    everything = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in everything) for column in range(len(head))]
    for row in everything:
        print_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
