"""The older names, `gen_ai.prompt.N.*`, rebuilt from the nested objects that Langfuse makes of them."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_worker.spans.conventions.convention import Rebuilt
from sync_worker.spans.conventions.prompts import MAX_KEYS, flattened
from tests.spans.made import attributes, otlp, row
from tests.spans.test_convention_semconv import ANSWER, USER, back, compact

OPENLLMETRY = "opentelemetry.instrumentation.openai.v1"


def call(asked: object, answered: object, scope: str = OPENLLMETRY, **original: Any) -> Rebuilt:
    texts = [value if value is None or isinstance(value, str) else compact(value) for value in (asked, answered)]
    metadata = otlp(**({"gen_ai__system": "openai"} | original)) | {"scope.name": scope}
    return back(row(type="GENERATION", input=texts[0], output=texts[1], metadata=metadata))


def test_both_sides() -> None:
    """Each leaf goes back under the name it had, in its type; content that is JSON text stays text."""
    asked = [{"role": "user", "content": '[{"type": "text"}]'}, {"tool_calls": [{"id": "c1", "name": "look"}]}]
    answered = [{"finish_reason": "stop", "role": "assistant", "index": 0, "ok": True, "score": 0.5}]
    found = call(asked, answered)
    assert found.attributes == {
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": '[{"type": "text"}]',
        "gen_ai.prompt.1.tool_calls.0.id": "c1",
        "gen_ai.prompt.1.tool_calls.0.name": "look",
        "gen_ai.completion.0.finish_reason": "stop",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.index": 0,
        "gen_ai.completion.0.ok": True,
        "gen_ai.completion.0.score": 0.5,
    }


def test_sides_without_attributes() -> None:
    """Langfuse makes an empty object of a side that has none: it was no attribute."""
    assert call([{"content": "Zürich"}], {}).attributes == {"gen_ai.prompt.0.content": "Zürich"}
    assert call({}, {"tool": {"name": "look"}}).attributes == {"gen_ai.completion.tool.name": "look"}
    assert call({}, {}).attributes == {}


def test_an_empty_side_shows_the_names_in_any_scope() -> None:
    """No other convention leaves an empty object, so one is enough to know the older names by."""
    assert call([{"content": "x"}], {}, scope="my.app").attributes == {"gen_ai.prompt.0.content": "x"}


def test_messages_hidden_by_a_prompts_name() -> None:
    """`gen_ai.prompt.name` of the newest conventions hides the messages from Langfuse: none are made up for them."""
    found = call({"name": "weather"}, {}, scope="my.app", gen_ai__provider__name="openai")
    assert found.attributes == {"gen_ai.prompt.name": "weather"}
    assert found.lost == {"gen_ai.input.messages", "gen_ai.output.messages"}
    metadata = otlp(gen_ai__provider__name="openai", gen_ai__operation__name="chat")
    sent = attributes(row(type="GENERATION", input='{"name":"weather"}', output="{}", metadata=metadata))
    assert not sent.keys() & found.lost


def test_holes() -> None:
    """Numbers that were left out come back as null: they are no attributes, and the others keep their number."""
    assert call([None, {"role": "user"}], {}).attributes == {"gen_ai.prompt.1.role": "user"}


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ([{"role": "user", "content": "x"}], None),
        (None, [{"role": "assistant", "content": "x"}]),
        ([USER], [ANSWER]),
        ([{"role": "user", "content": "x"}], [ANSWER]),
        ("hi", {}),
        ([1, 2], {}),
        (json.dumps([{"role": "user", "content": "x"}]), json.dumps([{"role": "assistant", "content": "y"}])),
    ],
    ids=["no output", "no input", "parts", "parts in one", "text", "numbers", "text with spaces"],
)
def test_other_shapes(asked: object, answered: object) -> None:
    """What Langfuse cannot have made of the older names must not go out under them."""
    assert not any(key.startswith(("gen_ai.prompt", "gen_ai.completion")) for key in call(asked, answered).attributes)


def test_both_sides_of_another_instrumentation() -> None:
    """Span events come back in the same shape: without a sign of who wrote the span nothing is put back."""
    sides = [{"role": "user", "content": "x"}], {"message": "y", "finish_reason": "stop"}
    assert call(*sides, scope="my.app").attributes == {}
    assert call(*sides, scope="my.app", llm__request__type="chat").attributes == {
        "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "x",
        "gen_ai.completion.message": "y", "gen_ai.completion.finish_reason": "stop",
    }  # fmt: skip


def test_whole_texts() -> None:
    """The langsmith package writes each side as one text."""
    assert call('{"a": 1}', "done", scope="langsmith").attributes == {
        "gen_ai.prompt": '{"a": 1}', "gen_ai.completion": "done",
    }  # fmt: skip


def test_bounds() -> None:
    """More names than a span sends are not made, nor endless ones; the answer stays, whatever was asked."""
    found = call([{"content": str(at)} for at in range(10_000)], [{"content": "ok"}])
    assert len(found.attributes) == MAX_KEYS
    assert found.attributes["gen_ai.prompt.9.content"] == "9"
    assert found.attributes["gen_ai.completion.0.content"] == "ok"
    deep = '{"a":' * 500 + "1" + "}" * 500
    assert call(deep, {}).attributes == {}
    call("[" * 50_000, "{" * 50_000)


def nested(prefix: str, flat: dict[str, Any]) -> Any:
    """Do what Langfuse does to the older names."""
    result: Any = [] if any(key.removeprefix(prefix + ".").split(".")[0].isdigit() for key in flat) else {}
    for key, value in flat.items():
        path = [int(part) if part.isdigit() else part for part in key.removeprefix(prefix + ".").split(".")]
        here = result
        for part, following in pairwise(path):
            if isinstance(part, int):
                here.extend([None] * (part + 1 - len(here)))
            if (isinstance(part, int) and here[part] is not None) or (isinstance(part, str) and part in here):
                here = here[part]
            else:
                here[part] = [] if isinstance(following, int) else {}
                here = here[part]
        here[path[-1]] = value
    return result


LEAVES = st.text(max_size=4) | st.booleans() | st.integers(-5, 5)
FIELDS = st.dictionaries(
    st.sampled_from(["role", "content", "finish_reason", "tool_calls.0.id", "tool_calls.0.name", "tool_calls.1.id",
                     "message.role"]), LEAVES, min_size=1,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(FIELDS, min_size=1, max_size=4))
def test_what_langfuse_nests_is_undone(messages: list[dict[str, Any]]) -> None:
    """Names and values after the way through Langfuse are those before it."""
    flat = {f"gen_ai.prompt.{at}.{key}": value for at, fields in enumerate(messages) for key, value in fields.items()}
    try:
        text = compact(nested("gen_ai.prompt", flat))
    except (TypeError, KeyError):
        return
    assert flattened(text, "{}").attributes == flat
