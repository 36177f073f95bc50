"""What Langfuse 4.16 makes of a span of OpenInference's, to compare what the worker makes of that with the span.

Its rules, of `OtelIngestionProcessor.ts` (langfuse/langfuse, packages/shared/src/server/otel): `input.value` and
`output.value` become input and output where there is either, else the messages do, as nested objects; all of these
are taken out of the metadata. Tools with a name are moved into the input (`normalizeToolMetadataForObservation`).
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

from sync_worker.records import Observation
from tests.spans.made import attributes, row

_MESSAGES = ("llm.input_messages", "llm.output_messages")
_TOOL = re.compile(r"llm\.tools\.\d+\.tool\.json_schema\Z")
#: What the conversion may add to any span.
_TYPES = {"LLM": "GENERATION"}


def ingested(scope: str, written: dict[str, Any], version: str = "1.2.3", **changes: Any) -> Observation:
    """Return the row of a span with these attributes."""
    asked, answered = written.get("input.value"), written.get("output.value")
    if not asked and not answered:
        asked, answered = (_nested(written, prefix) for prefix in _MESSAGES)
    moved = [tool for key, text in written.items() if _TOOL.match(key) and _name(tool := json.loads(text))]
    kept = {
        key: value
        for key, value in written.items()
        if key not in {"input.value", "output.value"}
        and not key.startswith(_MESSAGES)
        and not (_TOOL.match(key) and _name(json.loads(value)))
    }
    kind = str(written["openinference.span.kind"])
    return row(
        **{
            "type": _TYPES.get(kind, kind),
            "input": _with_tools(asked, moved),
            "output": answered,
            "metadata": {
                **{f"attributes.{key}": value for key, value in reversed(kept.items())},
                "scope.version": version,
                "scope.name": scope,
                "resourceAttributes.service.name": "shop",
            },
            **changes,
        }
    )


def recovered(scope: str, written: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what of a span's attributes did not come back, and what came back as another value."""
    made = attributes(ingested(scope, written, **changes))
    missing = {key: value for key, value in written.items() if key not in made}
    wrong = {
        key: made[key] for key, value in written.items() if key in made and _plain(made[key]) != _plain(value)
    }  # fmt: skip
    return missing, wrong


def flat(prefix: str, *messages: dict[str, Any]) -> dict[str, Any]:
    """Return messages under dotted keys; `{"role": "user", "content": "x"}` needs no more than that."""
    return {
        f"{prefix}.{at}.{'' if key.startswith('message') else 'message.'}{key}": value
        for at, message in enumerate(messages)
        for key, value in message.items()
    }


def _name(tool: Any) -> Any:
    return tool.get("function", tool).get("name") if isinstance(tool, dict) else None


def _with_tools(text: str | None, tools: list[Any]) -> str | None:
    if not tools:
        return text
    try:
        value = None if text is None else json.loads(text)
    except ValueError:
        return _compact({"prompt": text, "tools": tools})
    if value is None:
        return _compact({"tools": tools})
    if isinstance(value, list):
        return _compact({"messages": value, "tools": tools})
    own = value.get("tools", [])
    known = {_name(tool) for tool in own if _name(tool)}
    return _compact(value | {"tools": own + [tool for tool in tools if _name(tool) not in known]})


def _nested(written: dict[str, Any], prefix: str) -> str | None:
    """Return messages as Langfuse nests them: lists where a part of the key is a number."""
    found: list[Any] = []
    for key, value in written.items():
        if not key.startswith(prefix + "."):
            continue
        parts: list[Any] = [int(part) if part.isdigit() else part for part in key.removeprefix(prefix + ".").split(".")]
        here: Any = found
        for part, after in pairwise(parts):
            here = _put(here, part, [] if isinstance(after, int) else {})
        _put(here, parts[-1], value)
    return _compact(found) if found else None


def _put(here: Any, part: Any, value: Any) -> Any:
    if isinstance(here, list):
        here.extend([None] * (part + 1 - len(here)))
        here[part] = value if here[part] is None else here[part]
        return here[part]
    return here.setdefault(part, value)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
