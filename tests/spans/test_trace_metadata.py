"""A trace's metadata and fields, which the v1 API tells on the trace alone, stand on every span as the v2 API's do."""

from dataclasses import replace
from typing import Any

import pytest

from sync_worker.records import Observation
from sync_worker.spans.context import TraceContext, gather
from sync_worker.spans.conversion import convert
from sync_worker.spans.span_model import Attributes, Conversion
from tests.spans.made import CHILD, ROOT, TRACE, row

PREFIXES = ("langfuse.trace.", "langfuse.observation.metadata.", "langfuse.release")


def made_by(version: str = "5.0.4", **metadata: Any) -> dict[str, Any]:
    """Return metadata as v1 nests it for a span of Langfuse's Python SDK."""
    scope = {"name": "langfuse-sdk", "version": version, "attributes": {"public_key": "pk"}}
    return metadata | {"scope": scope, "resourceAttributes": {"telemetry.sdk.language": "python"}}


def v1(id: str, **changes: Any) -> Observation:  # noqa: A002
    return replace(row(id, **changes), api="v1")


def trace(metadata: dict[str, Any], **changes: Any) -> Observation:
    """Return the row that v1's reader makes of a trace."""
    return v1("t-" + TRACE, is_root=True, end=None, metadata=metadata, **changes)


def stated(*rows: Observation, known: TraceContext | None = None) -> dict[str, Attributes]:
    """Return, by row, what the spans tell of their trace and of their own metadata."""
    result = convert(rows, gather(rows[0].trace_id or "", rows, known), "shop", Conversion())
    return {
        row.id: {key: value for key, value in span.attributes.items() if key.startswith(PREFIXES)}
        for row, span in result.spans
    }


def test_on_every_span() -> None:
    """The children would lack what was said for the whole trace, and the root would have it as its own."""
    found = stated(
        trace(made_by(tenant="acme", step="plan"), name="chat", trace_name="chat", tags=("prod",), release="r1"),
        v1(ROOT, is_root=True, metadata=made_by(step="plan")),
        v1(CHILD, parent_id=ROOT, metadata=made_by(part=1)),
    )
    shared = {"langfuse.trace.metadata.tenant": '"acme"', "langfuse.trace.name": "chat",
              "langfuse.trace.tags": ["prod"], "langfuse.release": "r1"}  # fmt: skip
    assert found == {
        ROOT: shared | {"langfuse.observation.metadata.step": '"plan"'},
        CHILD: shared | {"langfuse.observation.metadata.part": "1"},
    }


def test_what_a_row_says_itself_stays() -> None:
    """v1 does not merge: an observation's own value under the same key is there, and would be lost."""
    found = stated(
        trace(made_by(tenant="acme")),
        v1(ROOT, is_root=True, metadata=made_by()),
        v1(CHILD, parent_id=ROOT, metadata=made_by(tenant="mine")),
    )
    assert found[CHILD] == {
        "langfuse.trace.metadata.tenant": '"acme"', "langfuse.observation.metadata.tenant": '"mine"',
    }  # fmt: skip


def test_names_that_langfuse_gives() -> None:
    """Langfuse names a trace by its root: no span had told that name."""
    rows = (
        trace(made_by(), name="step", trace_name="step"),
        v1(ROOT, is_root=True, metadata=made_by()),
        v1(CHILD, parent_id=ROOT, name="look", metadata=made_by()),
    )
    assert stated(*rows) == {ROOT: {}, CHILD: {}}


def test_a_trace_without_its_root() -> None:
    """The root's own metadata would be told as the trace's."""
    found = stated(trace(made_by(step="plan")), v1(CHILD, parent_id=ROOT, metadata=made_by()))
    assert found == {CHILD: {}}


@pytest.mark.parametrize(("version", "expected"), [("3.15.0", 2), ("4.18.0", "2"), ("5.0.4", "2")])
def test_as_the_version_writes_it(version: str, expected: object) -> None:
    """Python's SDK 3 tells a trace's metadata on one span, as it writes an observation's; later ones hand text down."""
    found = stated(
        trace(made_by(version, tier=2)),
        v1(ROOT, is_root=True, metadata=made_by(version)),
    )
    assert found[ROOT] == {"langfuse.trace.metadata.tier": expected}


def test_long_values() -> None:
    """A value too long to be kept with the trace's state is still told, and known again."""
    text = "x" * 5000
    rows = (trace(made_by("3.15.0", text=text)), v1(ROOT, is_root=True, metadata=made_by("3.15.0")))
    assert stated(*rows)[ROOT] == {"langfuse.trace.metadata.text": text}
    stored = gather(TRACE, rows).as_json()["propagated"]
    assert len(str(stored)) < 200


def test_it_is_remembered() -> None:
    """A late row comes without its trace's row: it would lack what the others have."""
    first = (trace(made_by(tenant="acme")), v1(ROOT, is_root=True, metadata=made_by()))
    known = TraceContext.from_json(TRACE, gather(TRACE, first).as_json())
    found = stated(v1(CHILD, parent_id=ROOT, metadata=made_by()), known=known)
    assert found[CHILD] == {"langfuse.trace.metadata.tenant": '"acme"'}
    stored = gather(TRACE, first).as_json()
    stored["propagated"]["of another version"] = 1
    assert TraceContext.from_json(TRACE, stored).propagated == known.propagated


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_rows_of_the_ingestion_api(api: Any) -> None:
    """v2 merges the trace's metadata into each row, v1 does not: spans are the same from both."""
    merged = {"plan": "gold", "n": 2} if api == "v2" else {"n": 2}
    rows = (
        replace(row("t-chat", trace_id="chat", is_root=True, end=None, metadata={"plan": "gold"}), api=api),
        replace(row("obs-1", trace_id="chat", parent_id="t-chat", metadata=merged), api=api),
    )
    found = stated(*rows)
    assert found["t-chat"]["langfuse.trace.metadata.plan"] == "gold"
    assert {key: value for key, value in found["obs-1"].items() if "metadata" in key} == {
        "langfuse.trace.metadata.plan": "gold", "langfuse.observation.metadata.n": 2,
    }  # fmt: skip
