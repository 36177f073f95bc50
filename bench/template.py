"""One block of rows: whole traces of agents at work, as Langfuse v4 lists them, with placeholders for block and time.

Sizes are those met in the field: the median is 1.6 KB, the mean 2.7 KB, and a few reach a megabyte.
A fifth of the traces was written by another instrumentation than Langfuse's own SDK.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.shape import HOUR_MS, MARKER, MOMENT, Shape, tail_of
from bench.texts import Texts

Row = dict[str, Any]

_FEWEST, _MOST = 3, 400  # rows of a trace
_MARGIN_MS = 10_000  # what is written after a trace has ended must lie in its block too
_PACE_MS = 700  # of a trace, for each row
_HUGE = {0.17: 1_000_000, 0.33: 380_000, 0.5: 190_000, 0.67: 110_000, 0.83: 60_000}  # characters, by place in a block
_HUGE_FROM = 5_000  # rows of a block; a smaller one has no huge rows

_KINDS = {"SPAN": 40, "CHAIN": 15, "GENERATION": 19, "TOOL": 13, "RETRIEVER": 5, "AGENT": 4, "EMBEDDING": 2, "EVENT": 1,
          "GUARDRAIL": 1}  # fmt: skip
_HOLDERS = frozenset({"AGENT", "CHAIN", "SPAN"})
_MODELS = (("gpt-4o", 2.5e-6, 1e-5), ("claude-sonnet-4-20250514", 3e-6, 1.5e-5), ("gpt-4o-mini", 1.5e-7, 6e-7))
_AGENTS = ("support-agent", "research-agent", "billing-agent", "planner", "coder", "triage")
_TOOLS = ("search_documents", "get_weather", "run_sql", "send_email", "fetch_page", "lookup_customer")


@dataclass(slots=True)
class _Node:
    """A row in the making. Times in milliseconds from the start of its trace."""

    kind: str
    parent: int | None
    depth: int
    start: int
    end: int


@dataclass(slots=True)
class _Trace:
    """What all rows of a trace share."""

    tail: str
    start: int  # milliseconds from the start of the block
    nodes: list[_Node]
    context: Row
    envelope: Row  # metadata that every row has: scope and resource
    system: str
    foreign: bool  # written by another instrumentation than Langfuse's SDK
    first: int  # number of its first row in the block
    made: list[Row] = field(default_factory=list)


def block_rows(shape: Shape) -> list[Row]:
    """Return the rows of a block, newest first, as Langfuse lists them."""
    maker = _Maker(shape)
    rows = [row for trace in maker.traces() for row in trace.made]
    return sorted(rows, key=lambda row: (row["startTime"], row["id"]), reverse=True)


def offset_ms(time: str, period_ms: int) -> int:
    """Return how long after the start of its block a time of a template lies."""
    clock = time[len(MOMENT[period_ms]) :]
    parts = clock[1:-1].replace(".", ":").split(":")
    hours, minutes, seconds, thousandths = map(int, ["0", *parts][-4:])
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths


class _Maker:
    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._rng = random.Random(shape.seed)
        self._texts = Texts(self._rng)
        self._systems = {agent: self._texts.piece(self._rng.randint(250, 900)) for agent in _AGENTS}
        places = _HUGE if shape.block_rows >= _HUGE_FROM else {}
        self._huge = {int(place * shape.block_rows): size for place, size in places.items()}

    def traces(self) -> Iterator[_Trace]:
        first = 0
        while first < self._shape.block_rows:
            count = self._count(self._shape.block_rows - first)
            trace = self._trace(count, first)
            trace.made = [self._row(trace, number, node) for number, node in enumerate(trace.nodes)]
            yield trace
            first += count

    def _count(self, left: int) -> int:
        wanted = _MOST if self._rng.random() < 0.001 else int(self._rng.lognormvariate(2.3, 0.9))
        count = min(_MOST, max(_FEWEST, wanted))
        return left if left < count + _FEWEST else count

    def _trace(self, count: int, first: int) -> _Trace:
        rng = self._rng
        nodes = self._nodes(count)
        latest = self._shape.period_ms - nodes[0].end - _MARGIN_MS
        agent = rng.choice(_AGENTS)
        foreign = rng.random() < 0.2
        seen = rng.random() < 0.7
        context: Row = {
            "environment": rng.choice(("production", "production", "staging")),
            "userId": f"user-{rng.randrange(5_000)}" if seen else "",
            "sessionId": f"session-{rng.getrandbits(48):012x}" if seen else "",
            "traceName": agent,
            "release": f"2026.{rng.randint(1, 11)}.{rng.randint(0, 9)}",
            "version": rng.choice(("", "1.4.2")),
            "tags": rng.sample(("beta", "eu", "priority", "web"), rng.randint(0, 2)),
        }
        return _Trace(
            tail=f"{rng.getrandbits(104):026x}",
            start=rng.randrange(max(1, latest)),
            nodes=nodes,
            context=context,
            envelope=self._envelope(context, foreign=foreign),
            system=self._systems[agent],
            foreign=foreign,
            first=first,
        )

    def _envelope(self, context: Row, *, foreign: bool) -> Row:
        resource = {
            "resourceAttributes.service.name": "assistant-api",
            "resourceAttributes.host.name": f"api-{self._rng.randrange(40)}",
            "resourceAttributes.telemetry.sdk.language": "python",
            "resourceAttributes.telemetry.sdk.name": "opentelemetry",
            "resourceAttributes.telemetry.sdk.version": "1.45.2",
        }
        if foreign:
            return {"scope.name": "pydantic-ai", "scope.version": "1.2.1", **resource}
        return {
            "scope.name": "langfuse-sdk",
            "scope.version": "4.18.0",
            "scope.attributes.public_key": "pk-lf-bench",
            "resourceAttributes.langfuse.environment": context["environment"],
            "resourceAttributes.langfuse.release": context["release"],
            **resource,
        }

    def _nodes(self, count: int) -> list[_Node]:
        """Return a tree: the root, then rows in the order of their start, each below one that can hold others."""
        rng = self._rng
        length = count * _PACE_MS
        nodes = [_Node("AGENT", None, 0, 0, length + 200)]
        holders = [0]
        for number in range(1, count):
            parent = rng.choice(holders[-3:])
            kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
            start = max(nodes[parent].start + 1, number * length // count + rng.randrange(-200, 200))
            node = _Node(kind, parent, nodes[parent].depth + 1, start, start + 5 + int(rng.expovariate(1 / 400)))
            if kind == "EVENT":
                node.end = node.start
            nodes.append(node)
            if kind in _HOLDERS and node.depth < 8:
                holders.append(number)
        for node in reversed(nodes[1:]):
            above = nodes[node.parent or 0]
            above.end = max(above.end, node.end + 1)
        return nodes

    def _row(self, trace: _Trace, number: int, node: _Node) -> Row:
        rng = self._rng
        is_model = node.kind in {"GENERATION", "EMBEDDING"}
        asked, answered = self._content(trace, node)
        size = self._huge.get(trace.first + number)
        if size is not None:
            answered = self._texts.piece(size)
        start, end = trace.start + node.start, trace.start + node.end
        written = end + rng.randint(200, 2_500)
        failed = rng.random() < 0.01
        name, price_in, price_out = rng.choice(_MODELS) if is_model else ("", 0.0, 0.0)
        usage = {} if not is_model else {"input": len(asked or "") // 4 + 1, "output": len(answered or "") // 4 + 1}
        cost = {} if not is_model else {"input": usage["input"] * price_in, "output": usage["output"] * price_out}
        if is_model:
            usage["total"] = usage["input"] + usage["output"]
            cost["total"] = cost["input"] + cost["output"]
        context = trace.context
        return {
            "id": MARKER + tail_of(trace.first + number),
            "traceId": MARKER + trace.tail,
            "startTime": self._time(start),
            "endTime": None if node.kind == "EVENT" else self._time(end),
            "projectId": "bench-project",
            "parentObservationId": None if node.parent is None else MARKER + tail_of(trace.first + node.parent),
            "type": node.kind,
            "name": self._name(trace, node),
            "level": "ERROR" if failed else "DEFAULT",
            "statusMessage": f"TimeoutError: {self._texts.piece(60)}" if failed else "",
            "version": context["version"],
            "environment": context["environment"],
            "completionStartTime": self._time((start + end) // 2) if node.kind == "GENERATION" else None,
            "createdAt": self._time(written),
            "updatedAt": self._time(written),
            "input": asked,
            "output": answered,
            "metadata": self._metadata(trace, node, name, usage),
            "model": name,
            "internalModelId": "cmazmkzlm00000djp1e1qe4k4" if is_model else "",
            "modelParameters": {"temperature": 0.2, "max_tokens": 4096} if node.kind == "GENERATION" else {},
            "usageDetails": usage,
            "inputUsage": usage.get("input", 0),
            "outputUsage": usage.get("output", 0),
            "totalUsage": usage.get("total", 0),
            "costDetails": cost,
            "inputCost": cost.get("input"),
            "outputCost": cost.get("output"),
            "totalCost": cost.get("total", 0),
            "promptId": "",
            "promptName": "answer" if node.kind == "GENERATION" and rng.random() < 0.2 else "",
            "promptVersion": None,
            "usagePricingTierId": "cmazmkzlm00000djp1e1qe4k4_tier_default" if is_model else None,
            "usagePricingTierName": "Standard" if is_model else None,
            "latency": (end - start) / 1000,
            "timeToFirstToken": None,
            "userId": context["userId"],
            "sessionId": context["sessionId"],
            "isRootObservation": node.parent is None,
            "traceName": context["traceName"],
            "release": context["release"],
            "tags": context["tags"],
            "bookmarked": False,
            "public": False,
            "modelId": "cmazmkzlm00000djp1e1qe4k4" if is_model else None,
            "inputPrice": f"{price_in:.8f}" if is_model else None,
            "outputPrice": f"{price_out:.8f}" if is_model else None,
            "totalPrice": None,
        }

    def _time(self, offset: int) -> str:
        seconds, part = divmod(offset, 1000)
        minutes, second = divmod(seconds, 60)
        hour, minute = divmod(minutes, 60)
        moment = MOMENT[self._shape.period_ms]
        clock = f":{minute:02d}:{second:02d}.{part:03d}Z"
        return moment + (clock if self._shape.period_ms == HOUR_MS else f"T{hour:02d}{clock}")

    def _name(self, trace: _Trace, node: _Node) -> str:
        if node.parent is None:
            return str(trace.context["traceName"])
        if node.kind == "TOOL":
            return self._rng.choice(_TOOLS)
        return {"AGENT": "sub-agent", "GENERATION": "chat", "RETRIEVER": "retrieve"}.get(node.kind, node.kind.lower())

    def _content(self, trace: _Trace, node: _Node) -> tuple[str | None, str | None]:
        """Return input and output of a row."""
        texts, rng = self._texts, self._rng
        if node.kind == "GENERATION":
            return texts.chat(trace.system, rng.choice((0, 1, 1, 2, 4, 8)))
        if node.kind == "TOOL":
            return texts.arguments(), texts.result(120)
        if node.kind == "RETRIEVER":
            return texts.piece(60), texts.documents()
        if node.kind == "AGENT":
            return texts.piece(texts.length(120, 0.8, 4_000)), texts.piece(texts.length(300, 0.8, 8_000))
        if node.kind == "EMBEDDING":
            return texts.piece(texts.length(200, 0.8, 4_000)), "[0.0123, -0.0456, 0.789]"
        return (texts.arguments(), texts.piece(40)) if rng.random() < 0.35 else (None, None)

    def _metadata(self, trace: _Trace, node: _Node, model: str, usage: Row) -> Row:
        metadata: Row = {}
        if node.parent is None:
            metadata = {"tenant": f"tenant-{self._rng.randrange(300)}", "channel": "web", "attempt": 1}
        elif self._rng.random() < 0.3:
            metadata = {"step": self._rng.randrange(40), "node": node.kind.lower()}
        if trace.foreign and model:
            metadata |= {
                "attributes.gen_ai.system": "openai",
                "attributes.gen_ai.request.model": model,
                "attributes.gen_ai.usage.input_tokens": usage["input"],
                "attributes.gen_ai.usage.output_tokens": usage["output"],
                "attributes.gen_ai.operation.name": "chat",
            }
        elif trace.foreign:
            metadata |= {"attributes.logfire.msg": f"running {node.kind.lower()}", "attributes.code.lineno": 120}
        return metadata | trace.envelope
