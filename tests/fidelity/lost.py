"""What Langfuse loses for good: the reasons that excuse an attribute which does not come back as it was.

A reason holds for every span of every instrumentation, by key and value, never for one example. An attribute that
comes back all the same needs no excuse.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fidelity.pairs import Direct

#: The direct span, the key, its value, and what came instead (None for nothing).
Test = Callable[[Direct, str, Any, Any], bool]

_FIRST_INEXACT = 2**53
_WORDS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an attribute is lost. `keys` names those meant, `when` says which of them, `api` who loses it."""

    text: str
    keys: str  # a regular expression for the whole key
    when: Test = field(compare=False)
    api: frozenset[str] = frozenset({"v1", "v2"})

    def __str__(self) -> str:
        return self.text


def _number_text(_: Direct, __: str, here: Any, there: Any) -> bool:
    """Whether a text came back as the number that it can be read as, or as another text of that number."""
    number = _number(here) if isinstance(here, str) else None
    return number is not None and number == _number(str(there))


def _word(_: Direct, __: str, here: Any, there: Any) -> bool:
    return isinstance(here, str) and there is not None and _WORDS.get(here) is there


def _as_text(_: Direct, __: str, here: Any, there: Any) -> bool:
    """Whether a number, a boolean or a list came back as its JSON text."""
    return not isinstance(here, str) and isinstance(there, str) and there == json.dumps(here, separators=(",", ":"))


def _quoted(_: Direct, __: str, here: Any, there: Any) -> bool:
    """Whether a text is a JSON string, and what stands in its quotes came back."""
    return (
        isinstance(here, str)
        and here[:1] == '"'
        and isinstance(there, str)
        and here in {json.dumps(there), json.dumps(there, ensure_ascii=False)}
    )


def _whole_double(_: Direct, __: str, here: Any, there: Any) -> bool:
    return isinstance(here, float) and here.is_integer() and isinstance(there, int) and here == there


def _inexact(_: Direct, __: str, here: Any, there: Any) -> bool:
    return isinstance(here, int) and abs(here) > _FIRST_INEXACT and _number(str(there)) == float(here)


def _always(_: Direct, __: str, ___: Any, there: Any) -> bool:
    return there is None


def _same_millisecond(_: Direct, __: str, here: Any, there: Any) -> bool:
    """Whether two ISO times, which may be quoted, differ only below the millisecond and in how the zone is written."""
    return isinstance(here, str) and isinstance(there, str) and _millisecond(here) == _millisecond(there)


def _has(*prefixes: str) -> Test:
    """Whether the span has a key with one of the prefixes besides the one that is lost."""
    return lambda span, key, _, there: (
        there is None and any(other.startswith(prefixes) for other in span.attributes if other != key)
    )


def _beside_older_names(span: Direct, _: str, __: Any, there: Any) -> bool:
    """Whether a span has messages under the older names too; what came instead can only be made of these."""
    text = json.dumps(_parsed(there) if isinstance(there, str) else there, ensure_ascii=False)
    stated = [
        value for key, value in span.attributes.items() if key.startswith(("gen_ai.prompt.", "gen_ai.completion."))
    ]
    is_of_these = there is None or all(json.dumps(_parsed(value), ensure_ascii=False) in text for value in stated)
    return bool(stated) and is_of_these


def _hidden(span: Direct, key: str, here: Any, there: Any) -> bool:
    """Whether the trace's metadata has another value under the key, which Langfuse prefers."""
    other = span.attributes.get(key.replace(".observation.", ".trace.", 1), here)
    return other != here and there in (None, other)


def _no_json_in(source: str) -> Test:
    """Whether the text that messages would be rebuilt from is no JSON, such as what Python's repr() writes."""
    return lambda span, _, __, there: there is None and not _is_json(span.attributes.get(source))


def _described_before(span: Direct, _: str, here: Any, there: Any) -> bool:
    """Whether a message's value stands nowhere in the output: it is of a call that the span told before its last."""
    wanted = _parsed(here) if isinstance(here, str) else here
    answer = _parsed(span.attributes.get("output.value"))
    return there is None and isinstance(answer, dict) and not any(inner in (here, wanted) for inner in _all(answer))


def _filled_up(span: Direct, _: str, here: Any, there: Any) -> bool:
    """Whether a tool is one of the response, with the fields that only the SDK's own object has, all of them null."""
    tool, answer = _parsed(here), _parsed(span.attributes.get("output.value"))
    shown = answer.get("tools") if isinstance(answer, dict) else None
    if there is not None or not isinstance(tool, dict) or not isinstance(shown, list):
        return False
    reported = {key: value for key, value in tool.items() if value is not None}
    return reported != tool and reported in shown


def _all(value: Any) -> Iterator[Any]:
    """Yield a value and everything in it."""
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        yield from _all(item)


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


def _tools_apart(span: Direct, _: str, here: Any, there: Any) -> bool:
    return "gen_ai.tool.definitions" in span.attributes and "function_tools" in str(here)


REASONS: tuple[Reason, ...] = (
    Reason('text that reads as a number: Langfuse returns the number, `"1.10"` becomes 1.1', r".*", _number_text,
           frozenset({"v2"})),
    Reason("text that reads as `true` or `false`: Langfuse returns the boolean", r".*", _word),
    Reason("text that reads as a number in Langfuse's own metadata: v1 returns the number",
           r"langfuse\..*|ai\.telemetry\.metadata\..*", _number_text, frozenset({"v1"})),
    Reason("the type of an attribute that is not text: v1 returns it as text", r"(?!langfuse\.).*", _as_text,
           frozenset({"v1"})),
    Reason("text that is a JSON string: Langfuse returns it without its quotes", r".*", _quoted, frozenset({"v2"})),
    Reason("a double without decimals under a key that does not imply its type: `2.0` becomes 2", r".*", _whole_double),
    Reason("an integer beyond 2^53", r".*", _inexact),
    Reason("the trace's own input and output, which the v2 API does not return", r"langfuse\.trace\.(?:input|output)",
           _always, frozenset({"v2"})),
    Reason("an observation's metadata under a key for which the trace's metadata has another value",
           r"langfuse\.observation\.metadata\..*", _hidden, frozenset({"v2"})),
    Reason("microseconds of a time", r"langfuse\.observation\.completion_start_time", _same_millisecond),
    Reason("messages on a span that also has them under the older names, which Langfuse prefers",
           r"gen_ai\.(?:input|output)\.messages", _beside_older_names),
    Reason("`input.value` and `output.value` beside Langfuse's own input and output, which it prefers",
           r"(?:input|output)\.value", _has("langfuse.observation.input", "langfuse.observation.output")),
    Reason("`all_messages_events` beside an attribute that Langfuse prefers", r"all_messages_events",
           _has("prompt", "events", "final_result")),
    Reason("OpenInference's input messages if `input.value` is not JSON", r"llm\.input_messages\..*",
           _no_json_in("input.value")),
    Reason("OpenInference's output messages if `output.value` is not JSON", r"llm\.output_messages\..*",
           _no_json_in("output.value")),
    Reason("OpenInference's output messages of all calls of a span but the last",
           r"llm\.output_messages\..*", _described_before),
    Reason("a tool of Responses with the unset fields of the SDK's version", r"llm\.tools\.\d+\.tool\.json_schema",
           _filled_up),
    Reason("Pydantic AI's copy of the tools beside `gen_ai.tool.definitions`: Langfuse keeps one of them",
           r"model_request_parameters", _tools_apart),
)  # fmt: skip


def reason_for(span: Direct, key: str, here: Any, there: Any, generation: str) -> Reason | None:
    """Return why an attribute that came back otherwise, or not at all, cannot be had; None where it could be."""
    for reason in REASONS:
        meant = (not generation or generation in reason.api) and re.fullmatch(reason.keys, key, re.DOTALL)
        if meant and reason.when(span, key, here, there):
            return reason
    return None


def _number(text: str) -> float | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_json(text: Any) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (TypeError, ValueError):
        return False


def _millisecond(text: str) -> str:
    match = re.fullmatch(r'"?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,3})\d*)?(?:Z|\+00:00)"?', text)
    return text if match is None else f"{match[1]}.{match[2] or '':0<3}"
