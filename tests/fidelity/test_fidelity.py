"""docs/fidelity.md, held to the pairs; the spans, held to docs/fidelity.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fidelity import page
from tests.fidelity.__main__ import main
from tests.fidelity.compare import verdict_on
from tests.fidelity.derived import expectations, messages
from tests.fidelity.lost import REASONS, reason_for
from tests.fidelity.pairs import GENERATIONS, NAMES, Direct, load, spans_of

FIRST_TOKEN = "langfuse.observation.completion_start_time"
TEXT = page.PAGE.read_text(encoding="utf-8")
each_pair = pytest.mark.parametrize("name", NAMES)
each_generation = pytest.mark.parametrize("generation", GENERATIONS)


@each_generation
@each_pair
def test_nothing_falls(name: str, generation: str) -> None:
    """A rule that restored something was broken: a figure is lower than the page says."""
    made = page.with_figures(TEXT)
    assert [line for line in page.falls(TEXT, made) if line.startswith(f"{name} ({generation})")] == []


def test_the_page_is_as_the_pairs_say() -> None:
    """The page would promise less, or something else, than what is so (run scripts/fidelity)."""
    assert page.with_figures(TEXT) == TEXT


def test_the_page_has_every_pair() -> None:
    """A pair that is measured nowhere would look as if it were restored."""
    for generation in GENERATIONS:
        assert set(page.lines_of(TEXT, f"figures {generation}")) == set(NAMES)


@each_pair
def test_each_span_has_an_expectation(name: str) -> None:
    """A span that nobody looked at would count as if all of it were right."""
    assert expectations(name).keys() == {direct.key for direct in load(name).direct}
    known = {"span", "trace", "id", "agent", "session", "user", "provider", "tokens", "input", "output", "arguments",
             "result", "call_id", "lost"}  # fmt: skip
    assert all(reported.keys() <= known for reported in expectations(name).values())


@each_pair
def test_what_is_lost_is_nowhere(name: str) -> None:
    """A message that could be had would be excused."""
    lost = {key: reported["lost"] for key, reported in expectations(name).items() if "lost" in reported}
    for rows in GENERATIONS.values() if lost else ():
        made = spans_of(rows(load(name)))
        for key, sides in lost.items():
            assert all(reason and messages(made[key].attributes, side) == [] for side, reason in sides.items())


def test_derived_attributes_are_on_the_page() -> None:
    """A pair would be measured nowhere, or nothing expected of it."""
    for generation in GENERATIONS:
        lines = page.lines_of(TEXT, f"derived {generation}")
        assert set(lines) == set(NAMES)
        assert all(any("/" in cell for cell in cells.values()) for cells in lines.values())


def test_messages_as_expectations_write_them() -> None:
    """A message with another role, part or id would count as the one that is expected."""
    call = {"type": "tool_call", "id": "c1", "name": "f", "arguments": '{"b": 1, "a": 2}'}
    answer = {"type": "tool_call_response", "id": "c1", "response": [1]}
    reported = [
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, call, {"type": "blob"}]},
        {"role": "user", "parts": [answer]},
        {"role": "user", "parts": [{"type": "text", "content": "hi"}, {"type": "text", "content": ""}]},
    ]
    attributes = {
        "gen_ai.input.messages": json.dumps(reported),
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "S"}]),
    }
    assert messages(attributes, "input") == [
        ("system", ("text S",)),
        ("assistant", ("reasoning hm", 'call f c1 {"a": 2, "b": 1}', "blob")),
        ("tool", ("answer c1 [1]",)),
        ("user", ("text hi",)),
    ]
    assert messages({}, "output") == []


@each_generation
@each_pair
def test_what_langfuse_keeps_exactly(name: str, generation: str) -> None:
    """Ids, parents, times, errors and scopes are all there in the rows: a difference is the conversion's mistake."""
    found = page.scores(generation)[name]
    assert found.unexpected == 0
    assert {found.same[what] for what in ("id", "parent", "times", "scope")} == {found.of}


@each_generation
@each_pair
def test_nothing_is_wrong(name: str, generation: str) -> None:
    """A wrong value is worse than none: whoever reads it in Kelet has no means to see that it is."""
    found = page.scores(generation)[name].findings
    assert [item for item in found if item.verdict == "wrong" and item.reason is None] == []


@each_generation
@each_pair
def test_no_error_is_lost(name: str, generation: str) -> None:
    """A failed span would look as if it had gone well."""
    for direct, span in page.matched(name, generation):
        assert direct.status != 2 or span.status_code == 2


def direct(**attributes: object) -> Direct:
    """Return a direct span with nothing but attributes."""
    return Direct(("", ""), "", "", 1, 0, 0, 0, "", "", "", {}, {}, attributes, [], 0)


@pytest.mark.parametrize(
    ("key", "here", "there", "excused"),
    [
        ("app.version", "1.10", "1.1", True),
        ("app.version", "1.10", 1.1, True),
        ("app.version", "1.10", "1.2", False),
        ("app.version", "1.10", None, False),
        ("app.name", "ten", 10, False),
        ("flag", "true", True, True),
        ("flag", "true", False, False),
        ("flag", "yes", True, False),
        ("said", '"Zürich"', "Zürich", True),
        ("said", '"Zürich"', "Genf", False),
        ("size", 2.0, 2, True),
        ("size", 2.5, 2, False),
        ("size", 2, 2.0, False),
        ("count", 9007199254740993, 9007199254740992, True),
        ("count", 9007199254740993, 9007199254740990, False),
        ("count", 12, 13, False),
        ("langfuse.trace.input", "x", None, True),
        ("langfuse.trace.input", "x", "y", False),
        ("langfuse.observation.input", "x", None, False),
        (FIRST_TOKEN, '"2026-11-22T16:51:53.784634Z"', '"2026-11-22T16:51:53.784Z"', True),
        (FIRST_TOKEN, '"2026-11-22T16:51:53.784634Z"', '"2026-11-22T16:51:53.785Z"', False),
    ],
)  # fmt: skip
def test_excuses_are_narrow(key: str, here: object, there: object, excused: bool) -> None:
    """A mistake of the conversion would pass as a loss that nobody can help."""
    assert (reason_for(direct(), key, here, there, "v2") is not None) == excused


def test_an_excuse_by_neighbour_needs_it() -> None:
    """Messages that could be rebuilt would count as lost."""
    for key, neighbour in (
        ("gen_ai.input.messages", "gen_ai.prompt.0.role"),
        ("input.value", "langfuse.observation.input"),
        ("all_messages_events", "final_result"),
        ("llm.input_messages.0.message.role", "input.value"),
    ):
        assert reason_for(direct(**{neighbour: "ChatMessage(role='user')"}), key, "x", None, "v2") is not None
        assert reason_for(direct(**{neighbour: "ChatMessage(role='user')"}), key, "x", "y", "v2") is None
    assert reason_for(direct(), "gen_ai.input.messages", "x", None, "v2") is None
    assert (
        reason_for(direct(**{"input.value": '{"messages":[]}'}), "llm.input_messages.0.message.role", "x", None, "v2")
        is None
    )


def test_an_excuse_by_older_names_needs_what_they_say() -> None:
    """Messages made of anything but what Langfuse kept would pass as the best that can be had."""
    span = direct(**{"gen_ai.completion.0.function_call.name": "look"})
    key = "gen_ai.output.messages"
    assert reason_for(span, key, "x", '[{"parts":[{"name":"look"}]}]', "v2") is not None
    assert reason_for(span, key, "x", '[{"parts":[{"name":"seek"}]}]', "v2") is None


def test_an_excuse_by_the_output_needs_that_it_is_not_there() -> None:
    """A message or a tool that could be rebuilt of the output would count as lost."""
    name = "llm.output_messages.0.message.tool_calls.0.tool_call.function.name"
    answer = json.dumps(
        {"content": [{"name": "look", "args": {"a": 1}}], "tools": [{"name": "look", "type": "function"}]}
    )
    span = direct(**{"output.value": answer})
    assert reason_for(span, name, "search", None, "v2") is not None
    assert reason_for(span, name, "look", None, "v2") is None
    assert reason_for(span, name, '{"a": 1}', None, "v2") is None
    assert reason_for(span, name, "search", "look", "v2") is None
    tool = "llm.tools.0.tool.json_schema"
    assert reason_for(span, tool, '{"name": "look", "type": "function", "strict": null}', None, "v2") is not None
    assert reason_for(span, tool, '{"name": "look", "type": "function"}', None, "v2") is None
    assert reason_for(span, tool, '{"name": "seek", "type": "function", "strict": null}', None, "v2") is None


def test_what_the_older_api_keeps_is_no_loss_there() -> None:
    """The older API's rows keep the text of numbers and the trace's input: rules for them would go unmeasured."""
    assert reason_for(direct(), "langfuse.trace.input", "x", None, "v1") is None
    assert reason_for(direct(), "app.version", "1.10", "1.1", "v1") is None
    assert reason_for(direct(), "langfuse.observation.input", "1.10", "1.1", "v1") is not None
    assert reason_for(direct(), "app.port", 8080, "8080", "v1") is not None
    assert reason_for(direct(), "app.port", 8080, "8081", "v1") is None
    assert reason_for(direct(), "app.port", 8080, "8080", "v2") is None
    assert {name for reason in REASONS for name in reason.api} <= {"v1", "v2"}


@pytest.mark.parametrize(
    ("here", "there", "verdict"),
    [
        ("a", "a", "exact"),
        (1, 1, "exact"),
        (1, 1.0, "type"),
        (True, 1, "type"),
        ("1", 1, "type"),
        (["a"], '["a"]', "type"),
        ('{"a": 1}', '{"a":1}', "json"),
        ('"a"', "a", "wrong"),
        ("1.10", "1.1", "wrong"),
        ("a", "b", "wrong"),
        (["a"], ["b"], "wrong"),
        ("a", None, "missing"),
    ],
)
def test_verdicts(here: object, there: object, verdict: str) -> None:
    """A value of another type, or another value, would count as restored."""
    assert verdict_on(here, there) == verdict


def test_a_fall_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lower figures would be written over higher ones without a word, and `--check` would let them pass."""
    path = tmp_path / "fidelity.md"
    name = NAMES[0]
    figure = page.lines_of(TEXT, "figures v2")[name]["attributes"]
    path.write_text(TEXT.replace(f"| {figure} |", "| 9999/9999 |"), encoding="utf-8")
    assert main(["--check"], path) == 1
    assert f"fell: {name} (v2), attributes: {figure}, was 9999/9999" in capsys.readouterr().err
    assert [main([], path), main(["--check"], path)] == [0, 0]
    assert path.read_text(encoding="utf-8") == TEXT


def test_show_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever mends a convention would not see which attribute is wrong."""
    name = max(NAMES, key=lambda name: len(page.scores("v2")[name].findings))
    assert main(["--show", name]) == 0
    assert page.scores("v2")[name].findings[0].key in capsys.readouterr().out


def test_both_generations_hold_the_same_spans() -> None:
    """A pair whose older answers were lost in packing would leave the older reader without its measure."""
    for name in NAMES:
        pair = load(name)
        assert {row["id"] for row in pair.v2} <= {row["id"] for row in pair.v1["observations"]}
        assert {row["traceId"] for row in pair.v1["observations"]} == {trace["id"] for trace in pair.v1["traces"]}
