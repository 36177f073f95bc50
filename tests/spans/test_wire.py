"""Spans written by hand have the bytes that OpenTelemetry's own messages have."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from sync_worker.spans.encode import serialize, to_proto
from sync_worker.spans.memo import Memo
from sync_worker.spans.span_model import Event, Scope, Span
from sync_worker.spans.wire import varint

ANY_TEXT = st.text(max_size=8) | st.text(min_size=90, max_size=200) | st.text(st.characters(), max_size=8)
KEYS = st.sampled_from(["", "a", "k" * 200]) | st.text(st.characters(), max_size=6)
NUMBERS = st.integers(-(2**70), 2**70) | st.integers(-300, 300)
FLOATS = st.floats()
VALUES: st.SearchStrategy[Any] = (
    ANY_TEXT | st.booleans() | NUMBERS | FLOATS
    | st.lists(ANY_TEXT, max_size=3) | st.lists(st.booleans(), max_size=3)
    | st.lists(NUMBERS, max_size=3) | st.lists(FLOATS, max_size=3)
)  # fmt: skip
IDS = st.binary(max_size=20).map(bytes.hex)
TIMES = st.integers(0, 2**63 - 1)
EVENTS = st.builds(Event, name=ANY_TEXT, time_ns=TIMES, attributes=st.dictionaries(KEYS, VALUES))
SPANS = st.builds(
    Span, trace_id=IDS, span_id=IDS, parent_id=IDS,
    name=ANY_TEXT, kind=st.integers(0, 5), start_ns=TIMES, end_ns=TIMES, attributes=st.dictionaries(KEYS, VALUES),
    resource=st.just({}), scope=st.just(Scope("s")), status_code=st.integers(0, 2), status_message=ANY_TEXT,
    events=st.lists(EVENTS, max_size=2),
    dropped_attributes=st.integers(0, 2**32 - 1),
)  # fmt: skip
PLAIN = Span("0" * 31 + "1", "0" * 15 + "1", "", "", 0, 0, 0, {}, {}, Scope("s"))


def with_attributes(**attributes: Any) -> Span:
    return Span("0" * 31 + "1", "0" * 15 + "1", "", "n", 1, 1, 2, attributes, {}, Scope("s"))


@given(SPANS)
@example(PLAIN)
@example(with_attributes(n=1))
@example(with_attributes(n=1.0))
@example(with_attributes(n=True))
@example(with_attributes(n=0.0))
@example(with_attributes(n=-0.0))
@example(with_attributes(n=""))
@example(with_attributes(n=[1, True, 1.0, -0.0, "", 2**63]))
@example(with_attributes(**{"": ""}))
@example(with_attributes(**{"\ud800": 1, "a": "\ud800", "l": ["\ud800"]}))
@example(with_attributes(**{"x" * 127: "y" * 127, "x" * 128: "y" * 128, "long": "ü" * 20_000}))
def test_same_bytes(span: Span) -> None:
    """Bytes that differ from what the library writes may be read as something else, or not at all."""
    expected = to_proto(span).SerializeToString()
    assert serialize(span)[2] == expected
    assert serialize(span)[2] == expected  # from what was remembered


@given(st.integers(0, 2**64 - 1))
@example(0)
@example(127)
@example(128)
@example(2**64 - 1)
def test_varint(number: int) -> None:
    """Lengths of all fields are written so: a wrong one makes the rest of the request unreadable."""
    written = varint(number)
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(written)) == number
    assert [byte > 0x7F for byte in written] == [True] * (len(written) - 1) + [False]


def test_memo_is_bounded_by_bytes() -> None:
    """Keys and values are what strangers write: a number of entries says nothing of the memory that they take."""
    asked: list[str] = []

    def doubled(text: str) -> str:
        asked.append(text)
        return text * 2

    memo = Memo(doubled, lambda text, result: len(text) + len(result), 30_000)
    for number in range(1_000):
        text = f"{number:0>90}"
        assert memo[text] == text * 2
        assert memo.kept_bytes == sum(len(key) + len(value) for key, value in memo.items()) <= 30_000
    assert memo["0" * 87 + "999"] == "0" * 87 + "999" + "0" * 87 + "999"
    assert len(asked) == 1_000  # the last one was at hand
    large = "x" * 101
    assert memo[large] == memo[large] == large * 2
    assert large not in memo
    assert asked[1_000:] == [large, large]
