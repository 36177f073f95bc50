"""Who may import what, as CONTRIBUTING.md draws it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.tables import ROOT

PACKAGE = ROOT / "sync_worker"

#: Modules that stand alone and that every part may import.
COMMON = frozenset(
    {
        "__version__",
        "bounded_client",
        "backoff",
        "choices",
        "clock",
        "compression",
        "configured",
        "connections",
        "corrected",
        "errors",
        "event_loop",
        "expressions",
        "http",
        "json_text",
        "measurements",
        "printable",
        "records",
        "request_snapshot",
        "targets",
        "times",
        "intervals",
        "patterns",
        "waits",
        "wording",
    }
)

#: What each part may import of the others.
MAY: dict[str, frozenset[str]] = {
    "spans": frozenset({"choices", "records", "json_text", "times", "errors", "patterns", "configured"}),
    "selection": frozenset({"spans", "records", "intervals", "patterns", "configured"}),
    "signals": frozenset({"records", "json_text", "times", "spans", "configured"}),
    "langfuse": frozenset(
        {
            "choices",
            "records",
            "json_text",
            "times",
            "intervals",
            "errors",
            "clock",
            "backoff",
            "http",
            "bounded_client",
            "connections",
            "request_snapshot",
            "waits",
            "wording",
        }
    ),
    "otlp": frozenset(
        {
            "spans",
            "signals",
            "json_text",
            "errors",
            "clock",
            "backoff",
            "compression",
            "http",
            "bounded_client",
            "connections",
            "targets",
            "wording",
            "__version__",
        }
    ),
    "ledger": frozenset({"spans", "intervals", "errors", "clock", "request_snapshot", "wording"}),
    "redaction": frozenset({"records", "expressions"}),
    "settings": frozenset(
        {"errors", "printable", "redaction", "targets", "patterns", "expressions", "configured", "wording"}
    ),
    "watch": COMMON | {"langfuse", "ledger", "settings", "pipeline", "runs", "sync"},
    "demo": COMMON,
    "pipeline": COMMON | {"redaction", "selection", "spans", "signals", "langfuse", "otlp", "ledger", "settings"},
    "runs": COMMON
    | {"redaction", "selection", "spans", "signals", "langfuse", "otlp", "ledger", "settings", "pipeline"},
    "sync": COMMON | {"redaction", "selection", "spans", "langfuse", "otlp", "ledger", "settings", "pipeline", "runs"},
    "parallel": COMMON | {"langfuse", "ledger", "settings", "pipeline", "runs", "sync", "watch"},
    "cli": COMMON
    | {
        "parallel",
        "redaction",
        "selection",
        "spans",
        "langfuse",
        "otlp",
        "ledger",
        "settings",
        "watch",
        "pipeline",
        "runs",
        "sync",
        "demo",
    },
    "compression": frozenset(),
    "choices": frozenset(),
    "configured": frozenset(),
    "request_snapshot": frozenset(),
    "records": frozenset({"choices"}),
    "patterns": frozenset({"expressions"}),
    "expressions": frozenset(),
    "intervals": frozenset(),
    "times": frozenset(),
    "targets": frozenset(),
    "errors": frozenset(),
    "event_loop": frozenset(),
    "garbage": frozenset(),
    "json_text": frozenset(),
    "measurements": frozenset(),
    "printable": frozenset(),
    "waits": frozenset(),
    "wording": frozenset(),
    "connections": frozenset({"errors"}),
    "clock": frozenset({"errors"}),
    "backoff": frozenset({"errors", "clock", "waits", "wording"}),
    "corrected": frozenset({"clock", "times"}),
    "http": frozenset({"json_text", "wording"}),
    "bounded_client": frozenset({"clock", "compression", "wording"}),
    "__init__": frozenset(),
    "__main__": frozenset({"cli", "garbage"}),
}

#: Who alone may import a library, for the reason in the docstring of the test.
ONLY: dict[str, frozenset[str]] = {
    "sqlite3": frozenset({"ledger"}),
    "sqlite_utils": frozenset({"ledger"}),
    "httpx": frozenset({"langfuse", "otlp", "http", "bounded_client", "connections", "sync", "watch"}),
    "apscheduler": frozenset({"sync"}),
    "pydantic": frozenset({"settings"}),
    "pydantic_settings": frozenset({"settings"}),
    "prometheus_client": frozenset({"watch"}),
    "argparse": frozenset({"cli"}),
    "re2": frozenset({"expressions"}),
    "opentelemetry": frozenset({"spans", "signals", "otlp", "demo"}),
}

#: What pure conversion has no use for: the network, files, waiting, clocks, chance.
IMPURE = frozenset(
    {"asyncio", "datetime", "fcntl", "http", "httpx", "logging", "os", "pathlib", "random", "secrets", "socket",
     "sqlite3", "sqlite_utils", "ssl", "subprocess", "tempfile", "threading", "time", "urllib.request"}
)  # fmt: skip


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def _imported(path: Path) -> tuple[str, ...]:
    """Return the full names a module imports, those for the type checker included."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            whole = node.module == PACKAGE.name
            yield from (f"{node.module}.{alias.name}" for alias in node.names) if whole else [str(node.module)]


def _own(path: Path) -> set[str]:
    """Return the other parts of the worker that a module imports."""
    names = (name.split(".") for name in _imported(path))
    return {name[1] for name in names if name[0] == PACKAGE.name and len(name) > 1} - {_part(path)}


def _foreign(path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imported(path)} - {PACKAGE.name}


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_data_walks_one_way(path: Path) -> None:
    """A part would know of one that it has no business with, and no longer be understood or tested alone."""
    assert _own(path) <= MAY[_part(path)]


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    """State would be written, requests sent or settings parsed in a second place, past the rules of the first."""
    for library in _foreign(path) & set(ONLY):
        assert _part(path) in ONLY[library], library


@pytest.mark.parametrize(
    "path", sorted(path for part in ("spans", "signals") for path in (PACKAGE / part).rglob("*.py")), ids=_name
)
def test_conversion_is_pure(path: Path) -> None:
    """The same rows would no longer give the same bytes, or a conversion could wait or fail on the outside."""
    for name in _imported(path):
        assert name not in IMPURE, name
        assert name.split(".")[0] not in IMPURE, name


def test_every_part_has_a_rule() -> None:
    """A new package would be held by no rule; CONTRIBUTING.md has a line for each."""
    parts = {_part(path) for path in _modules()}
    assert parts == set(MAY)
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [part for part in parts if not part.startswith("__") and f"`{part}`" not in page] == []


@pytest.mark.parametrize("part", ["langfuse", "spans", "otlp", "ledger", "settings"])
def test_the_page_draws_the_rule(part: str) -> None:
    """CONTRIBUTING.md would allow an import that the rule forbids, or the other way round."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith(f"| `{part}` |"))
    assert set(re.findall(r"`(\w+)`", line.split("|")[3])) == {name for name in MAY[part] if not name.startswith("__")}


def test_file_and_class_names_are_unique() -> None:
    """Who types a name into "go to file" or "go to symbol" has to choose among places, and takes a wrong one."""
    files = Counter(path.name for path in PACKAGE.rglob("*.py") if path.name not in {"__init__.py", "__main__.py"})
    of_commands = len(list((PACKAGE / "cli" / "commands").glob("*/run.py")))
    assert {name: count for name, count in files.items() if count > 1} == {"run.py": of_commands}
    classes = Counter(
        one.name
        for path in PACKAGE.rglob("*.py")
        for one in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(one, ast.ClassDef) and not one.name.startswith("_")
    )
    assert {name for name, count in classes.items() if count > 1} == set()
