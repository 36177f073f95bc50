"""Ids: the mapping that every span ever sent hangs on."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.records import is_otel_span_id, is_otel_trace_id
from sync_worker.spans import ids
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id, source_parent_id, source_trace_id

HEX_TRACE, HEX_SPAN = "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"
TEXT = st.text(st.characters(), min_size=1, max_size=40)
HEX = "0123456789abcdef"


@pytest.mark.parametrize(
    ("trace_id", "expected"),
    [
        ("3F2504E0-4F89-41D3-9A0C-0305E82C3301", "3f2504e04f8941d39a0c0305e82c3301"),
        ("chat_42", "f25367d7dfb38d277ccedc0fdca6f0b6"),
        ("0AF7651916CD43DD8448EB211C80319C", "0af7651916cd43dd8448eb211c80319c"),
        (HEX_TRACE, HEX_TRACE),
    ],
)
def test_trace_vectors(trace_id: str, expected: str) -> None:
    """A changed mapping would send all traces of all customers again, under new ids."""
    assert expected == otlp_trace_id("p1", trace_id)
    assert ids.ID_MAP_VERSION == 1


@pytest.mark.parametrize(
    ("trace_id", "row_id", "expected"),
    [
        ("chat_42", "obs-1", "31b106bb24acc7b4"),
        ("chat_42", "t-chat_42", "74a88fbb2fb95f54"),
        ("any", "00F067AA0BA902B7", "00f067aa0ba902b7"),
        (HEX_TRACE, HEX_SPAN, HEX_SPAN),
    ],
)
def test_span_vectors(trace_id: str, row_id: str, expected: str) -> None:
    """A changed mapping would send all spans of all customers again, and cut them off from their parents."""
    assert expected == otlp_span_id("p1", trace_id, row_id)


@pytest.mark.parametrize("trace_id", ["0" * 32, "00000000-0000-0000-0000-000000000000"])
def test_zero_trace_id(trace_id: str) -> None:
    """OTLP receivers refuse ids of only zeros: the trace would be lost."""
    assert set(otlp_trace_id("p1", trace_id)) != {"0"}
    assert otlp_trace_id("p1", trace_id) != otlp_trace_id("p2", trace_id)


def test_zero_span_id() -> None:
    """A span id of only zeros means "no span" to every receiver."""
    assert set(otlp_span_id("p1", "t", "0" * 16)) != {"0"}


def test_hash_of_only_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest may begin with zeros; the id would be invalid for ever after."""

    class Zeros:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def digest(self) -> bytes:
            return (b"\1" if self.data.endswith(b":0:0") else b"\0") * 32

    monkeypatch.setattr("hashlib.sha256", Zeros)
    assert otlp_span_id("p1", "t", "x") == "0101010101010101"


@given(TEXT, TEXT, TEXT)
def test_any_text_becomes_an_id(project_id: str, trace_id: str, row_id: str) -> None:
    """Langfuse takes nearly any text for an id; one that breaks the mapping, or maps to zero, loses its row."""
    trace, span = otlp_trace_id(project_id, trace_id), otlp_span_id(project_id, trace_id, row_id)
    assert re.fullmatch("[0-9a-f]{32}", trace)
    assert re.fullmatch("[0-9a-f]{16}", span)
    assert trace.strip("0")
    assert span.strip("0")
    assert trace == otlp_trace_id(project_id, trace_id)
    assert span == otlp_span_id(project_id, trace_id, row_id)


@given(TEXT, st.sets(TEXT, min_size=2, max_size=20))
def test_distinct_rows_get_distinct_spans(trace_id: str, row_ids: set[str]) -> None:
    """Two rows of a trace under one span id would overwrite each other."""
    distinct = {row_id.lower() if is_otel_span_id(row_id) else row_id for row_id in row_ids}
    assert len(distinct) == len({otlp_span_id("p1", trace_id, row_id) for row_id in row_ids})


@given(st.uuids().filter(lambda value: value.int != 0))
def test_uuid_keeps_its_bits(value: object) -> None:
    """A UUID that is hashed could not be found again from Kelet's side."""
    assert str(value).replace("-", "") == otlp_trace_id("p1", str(value))
    assert str(value).replace("-", "") == otlp_trace_id("p2", str(value).upper())


@given(st.text(HEX, min_size=32, max_size=32).filter(lambda text: text.strip("0")))
def test_hex_is_kept_in_lower_case(text: str) -> None:
    """OpenTelemetry's own ids must come out as a direct export has them, or signals do not find their trace."""
    assert text == otlp_trace_id("p1", text.upper())
    if text[:16].strip("0"):
        assert text[:16] == otlp_span_id("p1", "t", text[:16].upper())


@pytest.mark.parametrize("near", [HEX_TRACE[:-1], HEX_TRACE + "0", HEX_TRACE + "\n", "g" + HEX_TRACE[1:], "٠" * 32])
def test_nearly_hex_is_hashed(near: str) -> None:
    """A text that only looks like an OpenTelemetry id would become bytes of the wrong length."""
    assert re.fullmatch("[0-9a-f]{32}", otlp_trace_id("p1", near))
    assert not is_otel_trace_id(near)
    assert otlp_trace_id("p1", near) != otlp_trace_id("p2", near)


def test_projects_do_not_meet() -> None:
    """Two Langfuse projects with a trace "1" each must not become one trace."""
    assert otlp_trace_id("p1", "1") != otlp_trace_id("p2", "1")
    assert otlp_span_id("p1", "1", "2") != otlp_span_id("p2", "1", "2")
    assert otlp_span_id("p1", "1", "2") != otlp_span_id("p1", "3", "2")


def test_row_without_a_trace() -> None:
    """Rows without a trace must not be thrown into one common trace."""
    assert source_trace_id(None, "7") == "obs:7"
    assert source_trace_id("t", "7") == "t"


@pytest.mark.parametrize("parent_id", [None, "", HEX_SPAN])
def test_no_parent(parent_id: str | None) -> None:
    """A root, or a row that names itself, must not wait for a parent that never comes."""
    assert source_parent_id(HEX_TRACE, HEX_SPAN, parent_id) is None


def test_parent_in_the_other_case_is_the_row_itself() -> None:
    """Both spellings become one span id: the span would be its own parent."""
    assert source_parent_id(HEX_TRACE, HEX_SPAN, HEX_SPAN.upper()) is None
    assert source_parent_id(HEX_TRACE, "abc", "ABC") == "ABC"


@pytest.mark.parametrize(
    ("trace_id", "row_id", "expected"),
    [
        (HEX_TRACE, HEX_SPAN, None),
        (HEX_TRACE, "3f2504e0-4f89-41d3-9a0c-0305e82c3301", f"t-{HEX_TRACE}"),
        (HEX_TRACE, "3f2504e04f8941d39a0c0305e82c3301", f"t-{HEX_TRACE}"),
        ("chat_42", HEX_SPAN, "t-chat_42"),
        ("chat_42", "obs-1", "t-chat_42"),
    ],
)
def test_synthetic_root_as_parent(trace_id: str, row_id: str, expected: str | None) -> None:
    """An OpenTelemetry tree must equal its direct export; a tree of old SDKs must keep its only root."""
    assert expected == source_parent_id(trace_id, row_id, f"t-{trace_id}")


def test_synthetic_root_of_another_trace() -> None:
    """A link into another trace is a link like any other."""
    assert source_parent_id(HEX_TRACE, HEX_SPAN, "t-other") == "t-other"
