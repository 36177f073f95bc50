"""What the table of docs/troubleshooting.md quotes, checked against the messages in the code."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.docs.tables import ROOT

#: Stands for what is put into a message when it is made.
_VALUE = "\0"
_ROW = re.compile(r"^\| (.+?) \| .+ \|$", re.MULTILINE)


@cache
def _messages() -> str:
    """Return every text in the code, one a line, values of f-strings as `_VALUE`."""
    found = []
    for path in sorted((ROOT / "sync_worker").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else _VALUE for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def quoted() -> list[str]:
    """Return the messages that the table quotes: code in its first column that has a space in it."""
    section = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    return [code for cell in _ROW.findall(section) for code in re.findall(r"`([^`]+)`", cell) if " " in code]


@pytest.mark.parametrize("message", quoted())
def test_quoted_messages_exist(message: str) -> None:
    """An operator who searches the page for what was printed would not find it."""
    number = rf"(?:\\d+|{_VALUE})"
    pattern = ".*".join(re.sub(r"\d+", number, re.escape(part)) for part in message.split("…"))
    pattern = pattern.replace("Kelet", f"(?:Kelet|{_VALUE})")  # the name of the target
    assert re.search(pattern, _messages()), message


def test_messages_are_found() -> None:
    """The table would not be read, and every message would pass."""
    assert len(quoted()) > 15
