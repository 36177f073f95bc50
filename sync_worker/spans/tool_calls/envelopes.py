"""What frameworks put around a tool's arguments or its result, by its key markers.

An envelope is recognised by a mark of its own (`"type": "tool_call"`, a call's id), never by its contents alone: what
a tool was given, or returned, may have any keys. Shapes and their sources:

- Anthropic `tool_use`, `tool_result`; OpenAI `{id, type: function, function}`, `{role: tool, tool_call_id}`, Responses
  `function_call`, `function_call_output`; Bedrock and Strands `{toolUseId, name, input}`, `{toolUseId, content}`;
  Gemini and ADK `{id, name, args}`, `{id, name, response}`; MCP `{name, arguments}`: the providers' API references.
- LangChain (langchain-core `messages/tool.py`): `ToolCall` is `{name, args, id, type: tool_call}`; a `ToolMessage` is
  written as its fields, as `{type, data}`, or as `{lc, id, kwargs}` (`load/serializable.py`); LangGraph's
  `ToolCallWithContext` (`prebuilt/tool_node.py`).
- Vercel AI SDK `tool-call`, `tool-result` parts; Pydantic AI `ToolCallPart`, `ToolReturnPart`; AutoGen `FunctionCall`,
  `FunctionExecutionResult`, `ToolResult`; LlamaIndex `ToolOutput` (`core/tools/types.py`) and the events of its agents
  (`core/agent/workflow/workflow_events.py`); Haystack `ToolCall`, `ToolCallResult`.
- The GenAI conventions' parts, and the span events before them, of which Langfuse makes `[{role: tool, content, id}]`
  and `{message, id}`; Azure's agents have the event's body as JSON in `gen_ai.event.content`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sync_worker.json_text import parse

#: Names of a call's id. A message's own `id` is not one, so plain `id` counts only where an envelope states so.
_IDS = ("tool_call_id", "toolCallId", "call_id", "tool_use_id", "toolUseId", "callId", "tool_id")
_NAMES = ("name", "tool_name", "toolName", "function_name")
_ARGUMENTS = ("arguments", "args", "input", "tool_args", "tool_input", "toolInput", "tool_kwargs", "parameters")

#: By the type that a call bears: where its arguments stand.
_CALLS: dict[str, tuple[str, ...]] = {
    "tool_call": ("args", "arguments", "input"),
    "tool-call": ("input", "args", "arguments"),
    "tool_use": ("input",),
    "server_tool_use": ("input",),
    "mcp_tool_use": ("input",),
    "function_call": ("arguments", "args"),
    "custom_tool_call": ("input",),
    "mcp_call": ("arguments",),
}
#: By the type that a result bears: where it stands.
_RESULTS: dict[str, tuple[str, ...]] = {
    "tool": ("content",),
    "tool_result": ("content", "output"),
    "tool-result": ("output", "result"),
    "tool-return": ("content",),
    "tool_call_response": ("response", "result"),
    "function_call_output": ("output",),
    "custom_tool_call_output": ("output",),
    "mcp_tool_result": ("content",),
}
#: Keys that hold a call or a result, and nothing beside it.
_HOLDERS = frozenset(
    {"toolUse", "toolResult", "tool_use", "tool_result", "functionCall", "function_call", "functionResponse",
     "function_response", "tool_call", "toolCall"}
)  # fmt: skip

#: What may stand in a call besides its name, arguments and id.
_BESIDE_CALL = frozenset({"type", "index", "status", "error", "extras", "_meta", "extra", "thought_signature",
                          "thoughtSignature", "caller", "namespace", "part_kind", "providerExecuted", "invalid",
                          "dynamic"})  # fmt: skip
#: The same of Gemini's and ADK's responses.
_RESPONSE = frozenset({"id", "name", "response", "will_continue", "willContinue", "scheduling", "parts"})
_AUTOGEN_RESULT = frozenset({"content", "name", "call_id", "is_error"})
_STRANDS_RESULT = frozenset({"toolUseId", "status", "content", "type"})
_LLAMA_INDEX_RESULT = frozenset({"blocks", "content", "tool_name", "raw_input", "raw_output", "is_error"})
_HAYSTACK_RESULT = frozenset({"result", "origin", "error"})
_SEMANTIC_KERNEL_RESULT = frozenset({"function", "value", "rendered_prompt", "metadata"})
_EVENT = frozenset({"role", "content", "id", "name", "tool_call_id"})

_ANSWER_EVENT = frozenset({"message", "id", "role", "index", "finish_reason", "tool.result"})
_BODY = "gen_ai.event.content"
_AGENT_RESULT = frozenset({"tool_name", "tool_kwargs", "tool_id", "tool_output", "return_direct"})
#: What a function was called with, by position and by name (Langfuse's and Traceloop's decorators, smolagents, DSPy).
_CALLED_WITH = frozenset({"args", "kwargs", "sanitize_inputs_outputs"})


#: Keys of which every envelope has one: what has none is looked at no further.
_CALL_MARKS = frozenset({"type", "part_kind", "__type", "function", "kwargs", "method", "value", "input", "tool_calls",
                         "toolCalls", *_NAMES, *_HOLDERS})  # fmt: skip


class Content(NamedTuple):
    """What an envelope holds, and the id of the call that it names."""

    value: Any
    call_id: str | None = None


def arguments_in(value: Any, tool: str) -> Content | None:
    """Return the arguments in an envelope of a call of `tool`; None where the value is none that is known."""
    if isinstance(value, list):
        return arguments_in(value[0], tool) if len(value) == 1 and _is_marked(value[0], _CALLS) else None
    if not isinstance(value, dict) or _CALL_MARKS.isdisjoint(value):
        return None
    return (
        _typed_call(value)
        or _held(value, tool)
        or _function(value)
        or _called_with(value)
        or _named(value, tool)
        or _with_mime_type(value)
        or _input_alone(value)
    )


def result_in(value: Any) -> Content | None:
    """Return the result in an envelope; None where the value is none that is known."""
    if isinstance(value, list):
        return result_in(value[0]) if len(value) == 1 and _is_marked(value[0], _RESULTS) else None
    if not isinstance(value, Mapping):
        return None
    return _typed_result(value) or _held_result(value) or _by_keys(value) or _with_mime_type(value) or _command(value)


def event_arguments(value: Any) -> Content | None:
    """Return the arguments that a span event stated, of which Langfuse makes a list of one message."""
    message = _event(value)
    if message is None or message.get("role") != "tool":
        return None
    part = _only_part(message, "tool_call")
    if part is not None:
        return Content(part.get("arguments"), _text(part.get("id")))
    if "content" not in message or not message.keys() <= _EVENT:
        return None
    return Content(message["content"], _text(message.get("id")) or _id_of(message))


def event_result(value: Any) -> Content | None:
    """Return the result that a span event stated, where the arguments were stated by one as well."""
    answer = _event(value)
    if answer is None:
        return None
    part = _only_part(answer, "tool_call_response")
    if part is not None:
        return Content(part.get("response", part.get("result")), _text(part.get("id")))
    if "message" not in answer or not answer.keys() <= _ANSWER_EVENT:
        return None
    return Content(answer["message"], _text(answer.get("id")))


def _event(value: Any) -> dict[str, Any] | None:
    """Return an event by its fields, without what the conventions state of any event; a body that is JSON is opened."""
    message = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(message, dict):
        return None
    is_json, body = parse(str(message.get(_BODY))) if _BODY in message else (False, None)
    if is_json and isinstance(body, dict):
        message = message | body
    return {key: stated for key, stated in message.items() if not key.startswith(("gen_ai.", "event."))}


def _only_part(message: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    parts = message.get("parts")
    part = parts[0] if isinstance(parts, list) and len(parts) == 1 else None
    return part if isinstance(part, dict) and part.get("type") == kind else None


def _typed_call(value: Mapping[str, Any]) -> Content | None:
    if value.get("__type") == "tool_call_with_context":  # LangGraph hands a tool the graph's state beside its call
        return _typed_call(_fields(value.get("tool_call")))
    places = _CALLS.get(_kind(value), ())
    for key in places:
        if key in value and any(name in value for name in _NAMES):
            return Content(value[key], _id_of(value) or _text(value.get("id")))
    return None


def _function(value: Mapping[str, Any]) -> Content | None:
    """Read a call of OpenAI's chat completions."""
    function = value.get("function")
    if not isinstance(function, Mapping) or not value.keys() <= {"id", "type", "function", "index"}:
        return None
    if "arguments" not in function or "name" not in function:
        return None
    return Content(function["arguments"], _text(value.get("id")))


def _held(value: Mapping[str, Any], tool: str) -> Content | None:
    inner = _only_value(value)
    if value.get("method") == "tools/call" and isinstance(value.get("params"), Mapping):  # MCP's request
        inner = value["params"]
    if inner is None:
        return None
    return _typed_call(inner) or _function(inner) or _named(inner, tool, anyway=True)


def _named(value: Mapping[str, Any], tool: str, *, anyway: bool = False) -> Content | None:
    """Read a call without a type: it has an id, or names the very tool that ran."""
    name = next((value[key] for key in _NAMES if key in value), None)
    place = next((key for key in _ARGUMENTS if key in value), None)
    if not isinstance(name, str) or place is None:
        return None
    if not value.keys() <= {place, *_NAMES, *_IDS, "id", *_BESIDE_CALL}:
        return None
    call_id = _id_of(value) or _text(value.get("id"))
    if call_id is None and name != tool and not anyway:
        return None
    stated = value[place]
    holds_arguments = (
        stated is None or isinstance(stated, Mapping) or (isinstance(stated, str) and stated[:1] in {"", "{"})
    )
    return Content(stated, call_id) if holds_arguments else None


def _called_with(value: Mapping[str, Any]) -> Content | None:
    """Return what a function was called with by name; by position names are not stated, so that is left as it is."""
    if "kwargs" not in value or not value.keys() <= _CALLED_WITH or not isinstance(value["kwargs"], Mapping):
        return None
    if not value.get("args"):
        return Content(value["kwargs"])
    return Content(value["args"]) if isinstance(value["args"], Mapping) and not value["kwargs"] else None


def _with_mime_type(value: Mapping[str, Any]) -> Content | None:
    """Read a value that stands beside its mime type, as OpenInference's helpers have them."""
    keys = value.keys()
    if len(keys) == 2 and "value" in keys and keys & {"mime_type", "mimeType"}:
        return Content(value["value"])
    return None


def _input_alone(value: Mapping[str, Any]) -> Content | None:
    """Read LangChain's `{"input": "{…}"}` (JavaScript), whose text is the call or its arguments."""
    text = value.get("input") if value.keys() == {"input"} else None
    return Content(text) if isinstance(text, str) and text[:1] == "{" and text[-1:] == "}" else None


def has_positions(value: Any) -> bool:
    """Whether arguments were given by position, so that nobody can show their names."""
    return (
        isinstance(value, Mapping)
        and value.keys() <= _CALLED_WITH
        and "kwargs" in value
        and isinstance(value.get("args"), list)
        and bool(value["args"])
    )


def _typed_result(value: Mapping[str, Any]) -> Content | None:
    """Read a result that bears its type, or a role, and the id of its call."""
    message = _langchain(value)
    if message is not None:
        return Content(message.get("content"), _text(message.get("tool_call_id")))
    kind = _kind(value)
    call_id = _id_of(value)
    if value.get("role") == "tool" and call_id is not None and "content" in value:
        return Content(value["content"], call_id)
    if kind == "mcp_call" and "output" in value:
        return Content(value["output"], _text(value.get("id")))
    for key in _RESULTS.get(kind, ()):
        if key in value and (call_id is not None or kind == "tool_call_response"):
            return Content(_of_vercel(value[key]) if kind == "tool-result" else value[key],
                           call_id or _text(value.get("id")))  # fmt: skip
    return None


def _langchain(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the fields of a ToolMessage of LangChain, in whichever way it was written."""
    data, kwargs = value.get("data"), value.get("kwargs")
    if value.get("type") == "tool" and isinstance(data, Mapping):
        fields = data
    elif isinstance(kwargs, Mapping) and isinstance(value.get("id"), list) and "lc" in value:
        fields = kwargs if str(value["id"][-1:]).find("ToolMessage") >= 0 else {}
    else:
        fields = value
    return fields if "tool_call_id" in fields and "content" in fields else None


def _of_vercel(output: Any) -> Any:
    """Return the value of an output that bears its type (`ai` 5 and later)."""
    is_typed = isinstance(output, Mapping) and output.keys() == {"type", "value"}
    return output["value"] if is_typed else output


def _held_result(value: Mapping[str, Any]) -> Content | None:
    inner = _only_value(value)
    return None if inner is None else _typed_result(inner) or _by_keys(inner)


def _by_keys(value: Mapping[str, Any]) -> Content | None:
    """Read a result that no type marks, but its keys."""
    keys = value.keys()
    if keys >= {"name", "response"} and keys <= _RESPONSE and isinstance(value["name"], str):
        return Content(value["response"], _text(value.get("id")))
    if keys >= {"toolUseId", "content"} and keys <= _STRANDS_RESULT:
        return Content(value["content"], _text(value["toolUseId"]))
    if keys >= {"content", "call_id"} and keys <= _AUTOGEN_RESULT:
        return Content(value["content"], _text(value["call_id"]))
    if keys >= {"tool_name", "raw_output"} and keys <= _LLAMA_INDEX_RESULT:
        return Content(value.get("content") if value["raw_output"] is None else value["raw_output"])
    if keys >= {"tool_output", "tool_id"} and keys <= _AGENT_RESULT:
        return Content(value["tool_output"], _text(value["tool_id"]))
    if value.get("type") == "ToolResult" and keys >= {"name", "result", "is_error"}:
        return Content(value["result"])
    if keys >= {"function", "value"} and keys <= _SEMANTIC_KERNEL_RESULT and isinstance(value["function"], Mapping):
        return Content(value["value"])
    if keys >= {"jsonrpc", "result"} and keys <= {"jsonrpc", "id", "result"}:
        return Content(value["result"])
    if keys == {"output"} and isinstance(value["output"], Mapping) and _langchain(value["output"]) is not None:
        return _typed_result(value["output"])
    if keys == _HAYSTACK_RESULT and isinstance(value["origin"], Mapping) and "tool_name" in value["origin"]:
        return Content(value["result"], _text(value["origin"].get("id")))
    return None


def _command(value: Mapping[str, Any]) -> Content | None:
    """Read a `Command` of LangGraph that does no more than hand its tool's message on (langgraph `types.py`).

    So does the state that a node with one tool alone returns.
    """
    if value.keys() == {"messages"}:
        value = {"update": value}
    if not value.keys() >= {"update"} or not value.keys() <= {"graph", "update", "resume", "goto", "lg_name"}:
        return None
    update = value["update"]
    messages = update.get("messages") if isinstance(update, Mapping) else None
    message = _langchain(messages[0]) if isinstance(messages, list) and len(messages) == 1 and isinstance(
        messages[0], Mapping) else None  # fmt: skip
    if message is None:
        return None
    alone = update.keys() == {"messages"} and not value.get("goto") and not value.get("resume")
    return Content(message["content"], _text(message.get("tool_call_id"))) if alone else Content(
        value, _text(message.get("tool_call_id")))  # fmt: skip


def _is_marked(value: Any, kinds: Mapping[str, Any]) -> bool:
    if not isinstance(value, Mapping):
        return False
    return _kind(value) in kinds or _id_of(value) is not None or len(value) == 1 or "lc" in value


def _only_value(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if len(value) != 1:
        return None
    key, inner = next(iter(value.items()))
    if key in {"tool_calls", "toolCalls"} and isinstance(inner, list) and len(inner) == 1:
        return inner[0] if isinstance(inner[0], Mapping) else None
    return inner if key in _HOLDERS and isinstance(inner, Mapping) else None


def _kind(value: Mapping[str, Any]) -> str:
    for key in ("type", "part_kind"):
        kind = value.get(key)
        if isinstance(kind, str):
            return kind
    return ""


def _id_of(value: Mapping[str, Any]) -> str | None:
    return next((stated for key in _IDS if (stated := _text(value.get(key)))), None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _fields(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
