"""Finds values that cannot be what was written: SQLite checks its pages, not their values.

A flipped bit turns text into bytes, breaks a letter or a bracket. Whoever reads that would fail somewhere else, each
time in another way, so it is looked for here: in the small tables at each opening, in all when something broke.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from sync_worker.ledger.state_keys import number_names

#: Tables that grow with what is synced. They are read through only when something broke.
_LARGE = frozenset(
    {
        "sent",
        "traces",
        "deliveries",
        "requests",
        "dead_letters",
        "hourly_counts",
        "second_reads",
        "scores",
        "history",
    }
)
_KINDS: dict[str, tuple[type, ...]] = {"TEXT": (str,), "INTEGER": (int,), "FLOAT": (int, float), "BLOB": (bytes,)}
#: Columns that hold JSON, and names of state keys that hold a number.
_JSON = frozenset({("traces", "context"), ("runs", "report")})
_NUMBERS = frozenset({"sequence"}) | number_names()


def damage_in(connection: sqlite3.Connection, *, everything: bool) -> str | None:
    """Return what is wrong in the tables of a state file, the first of it; None where nothing is.

    Without `everything`, tables that may be large are left out. Raises sqlite3.Error or UnicodeDecodeError.
    """
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    text, connection.text_factory = connection.text_factory, bytes
    try:
        for name in names:
            known = isinstance(name, str) and not name.startswith(("sqlite_", "_sqlite"))
            if known and (everything or name not in _LARGE):
                for damage in _in_table(connection, name):
                    return damage
    finally:
        connection.text_factory = text
    return None


def _in_table(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    columns = [
        (name.decode("utf-8", "replace"), kind.decode("utf-8", "replace").upper(), bool(required or key))
        for _, name, kind, required, _, key in connection.execute(f'PRAGMA table_info("{table}")')
    ]
    for name, _, _ in columns:
        if not name.isidentifier():
            yield f"a column of {table} is named {name!r}"
    types = ", ".join(f'"{name}", typeof("{name}")' for name, _, _ in columns)
    for values in connection.execute(f'SELECT {types} FROM "{table}"'):
        row = {}
        for (name, kind, required), value, stored in zip(columns, values[::2], values[1::2], strict=True):
            what = f"{name} in {table}"
            if value is None:
                if required:
                    yield f"{what} is missing"
                continue
            if stored == b"text":
                try:
                    value = value.decode("utf-8")  # noqa: PLW2901 - the same value, as it is meant
                except UnicodeDecodeError:
                    yield f"{what} is text that is no UTF-8"
                    continue
            if kind in _KINDS and not isinstance(value, _KINDS[kind]):
                yield f"{what} is {stored.decode()} and not {kind.lower()}"
                continue
            row[name] = value
        yield from _unreadable(table, row)


def _unreadable(table: str, row: dict[str, Any]) -> Iterator[str]:
    """Yield the values of a row that the program could not parse."""
    for name, value in row.items():
        is_state = table == "state_keys" and name == "value"
        if (table, name) in _JSON or (is_state and str(value).startswith(("{", "["))):
            try:
                json.loads(value)
            except (ValueError, RecursionError):
                yield f"{name} in {table} is no JSON"
        elif is_state and row.get("name") in _NUMBERS and not str(value).lstrip("-").isdigit():
            yield f"{row['name']} in {table} is no number"
