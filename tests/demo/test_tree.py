"""How received spans are printed."""

from __future__ import annotations

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sync_worker.demo.receiver import ReceivedSpan, decode
from sync_worker.demo.trace_tree import render
from tests.support import otlp


def received(*spans: Span, project: str = "shop") -> list[ReceivedSpan]:
    return list(decode(otlp.request(*spans), project))


def test_whole_picture() -> None:
    """The tree is what a newcomer judges the worker by: order, nesting and state_keys must be right."""
    spans = received(
        otlp.span("late-tool", id=4, parent=1, start_ms=900, ms=0.5, langfuse__observation__type="tool", error="boom"),
        otlp.span(
            "llm",
            id=3,
            parent=2,
            start_ms=300,
            ms=400,
            gen_ai__operation__name="chat",
            gen_ai__request__model="gpt-4o",
            gen_ai__usage__input_tokens=12,
            gen_ai__usage__output_tokens=3,
        ),
        otlp.span("plan", id=2, parent=1, start_ms=200, ms=600, langfuse__observation__type="chain"),
        otlp.span("lost", id=5, parent=99, start_ms=950, ms=90_000, langfuse__observation__type="span"),
        otlp.span("agent", id=1, ms=1250, langfuse__observation__type="agent", session__id="s-1", user__id="u-1"),
    )
    assert render(spans) == "\n".join(
        [
            f"trace {1:032x}  project shop  session s-1  user u-1",
            "agent  agent  1.25 s",
            "├─ plan  chain  600 ms",
            "│  └─ llm  chat  400 ms  gpt-4o  12→3 tokens",
            "└─ late-tool  tool  0.5 ms  ERROR boom",
            "lost  span  1.5 min  (parent not in Langfuse)",
        ]
    )


def test_traces_by_start_and_limit() -> None:
    """With many traces, the first ones are shown and the rest is counted, not dropped in silence."""
    spans = received(*(otlp.span(f"t{number}", trace=number, start_ms=-number) for number in (1, 2, 3)))
    assert [line for line in render(spans, limit_traces=2).splitlines() if "step" not in line] == [
        f"trace {3:032x}  project shop",
        "t3  1 s",
        "",
        f"trace {2:032x}  project shop",
        "t2  1 s",
        "",
        "… and 1 more trace",
    ]
    assert render([]) == ""


def test_resent_span_is_shown_once() -> None:
    """A span that was sent again would look like two."""
    assert render(received(otlp.span("old"), otlp.span("new"))).splitlines()[1:] == ["new  1 s"]


def test_control_characters_cannot_steer_the_terminal() -> None:
    """A name comes from a stranger's data: it must not move the cursor, colour the screen or fake a line."""
    name = "a\x1b[31m\nb\u202ec\u2028d\x9b"
    shown = render(received(otlp.span(name, session__id="s\r", error="x\ty"), project="p\x07"))
    assert "a\\x1b[31m\\nb\\u202ec\\u2028d\\x9b" in shown
    assert all(char.isprintable() for line in shown.split("\n") for char in line)
    assert "project p\\x07  session s\\r" in shown


def test_lines_keep_to_the_width() -> None:
    """A long name or message must not break the picture; wide characters take two cells."""
    spans = received(otlp.span("界" * 80, error="é" * 200), otlp.span("x" * 200, id=2, parent=1, model="m" * 80))
    for line in render(spans, width=40).splitlines():
        assert sum(2 if char == "界" else 1 for char in line) <= 40
    assert "界…" in render(spans)


def test_rings_and_depth() -> None:
    """Spans that name each other as parents, and very deep chains, must print once each and come to an end."""
    ring = received(
        otlp.span("a", id=1, parent=2), otlp.span("b", id=2, parent=1, start_ms=1), otlp.span("me", id=3, parent=3)
    )
    assert sorted(line.split()[-3] for line in render(ring).splitlines()[1:]) == ["a", "b", "me"]
    deep = received(*(otlp.span(id=number, parent=number - 1 or None) for number in range(1, 3001)))
    lines = render(deep).splitlines()
    assert len(lines) == 3001
    assert all("step" in line for line in lines[1:])


def test_color_only_when_asked() -> None:
    """Colour codes in a file or a pipe are noise."""
    spans = received(otlp.span("a", error="boom"))
    assert "\x1b" not in render(spans)
    colored = render(spans, color=True)
    assert "\x1b[31m  ERROR boom\x1b[0m" in colored
    assert colored.count("\x1b[") % 2 == 0
