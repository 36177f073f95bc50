"""docs/spans.md, held to the conversion."""

from __future__ import annotations

import re

import pytest

from sync_worker.spans.conversion import SOURCE
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id
from tests.docs.tables import ROOT

PAGE = (ROOT / "docs" / "spans.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(otlp_trace_id("p1", "4BF92F3577B34DA6A3CE929D0E0E4736"), id="hex trace"),
        pytest.param(otlp_trace_id("p1", "3F2504E0-4F89-41D3-9A0C-0305E82C3301"), id="UUID trace"),
        pytest.param(otlp_trace_id("p1", "chat_42"), id="other trace"),
        pytest.param(otlp_span_id("p1", "chat_42", "00F067AA0BA902B7"), id="hex observation"),
        pytest.param(otlp_span_id("p1", "chat_42", "obs-1"), id="other observation"),
    ],
)
def test_ids_are_those_of_the_page(found: str) -> None:
    """Somebody who looks a trace up by the rule on the page would find nothing."""
    assert f"→ `{found}` |" in PAGE


def test_every_mark_is_on_the_page() -> None:
    """An attribute of the worker's own would stand in Kelet with no word on what it means."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "sync_worker" / "spans").rglob("*.py"))
    written = set(re.findall(r'SOURCE \+ "(\w+)"', code)) | set(re.findall(rf'"{re.escape(SOURCE)}(\w+)"', code))
    assert written == set(re.findall(rf"^\| `{re.escape(SOURCE)}(\w+)` \|", PAGE, re.MULTILINE))


def test_defaults_named_are_the_defaults() -> None:
    """The page would name a size that is not the one of the settings."""
    from sync_worker.settings.model import default_text

    assert (default_text("sync_max_value_bytes"), default_text("sync_max_attributes")) == (str(1024 * 1024), "256")
    assert "`SYNC_MAX_VALUE_BYTES` (1 MiB)" in PAGE
    assert "`SYNC_MAX_ATTRIBUTES` (256)" in PAGE
