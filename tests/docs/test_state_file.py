"""The tables of the state file that the pages name, held to its schema."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sync_worker.clock import SystemClock
from sync_worker.ledger import open_ledger
from tests.docs.tables import ROOT

#: SQLite's own tables, and that of the migrations.
_NOT_OURS = ("sqlite_", "_sqlite_")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the tables of a new state file."""
    path = tmp_path_factory.mktemp("state") / "state.db"
    open_ledger(path, SystemClock()).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return {name for name in names if not name.startswith(_NOT_OURS)}


def test_how_it_works_names_every_table(tables: set[str]) -> None:
    """An operator who opens the file would find a table that no page explains, or look for one that is not there."""
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    section = page[page.index("## The ledger\n") : page.index("## Leases\n")]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == tables


@pytest.mark.parametrize("name", sorted(path.name for path in Path(ROOT / "docs").glob("*.md")))
def test_tables_named_elsewhere_exist(name: str, tables: set[str]) -> None:
    """A page would name a table under a name that it no longer has."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    named = " ".join(re.findall(r"\btables? ((?:`\w+`(?:, | and )?)+)", page))
    assert set(re.findall(r"`(\w+)`", named)) <= tables
