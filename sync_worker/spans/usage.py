"""Token counts: Langfuse's free-form `usageDetails` as GenAI counts, each token once.

GenAI's `input_tokens` includes cached tokens and its `output_tokens` includes reasoning. Others have such details
inside a count or beside it: Langfuse's own ingestion splits them (`input` + `input_cached_tokens`), OpenAI and the
Vercel AI SDK hold them in it, Anthropic and Bedrock's Converse write them beside it, Gemini holds the cache in it and
has thoughts beside it, LiteLLM's callback takes reads of the cache out and leaves writes in. Where a total was given it
shows; else the way of the names. Langfuse's server adds a total of everything that it was given, which shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product

from sync_worker.records import Number
from sync_worker.spans.span_model import AttributeValue
from sync_worker.spans.token_kinds import Kind, Side, kind_of

IN, OUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
READ = "gen_ai.usage.cache_read.input_tokens"
#: Two names of one count: the conventions' since 0.1.0, and the one before.
WRITE, CREATION = "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.cache_creation.input_tokens"
REASONING = "gen_ai.usage.reasoning.output_tokens"
#: Modalities that the conventions have an attribute for, by side.
_MODALITIES: dict[Side, frozenset[str]] = {
    "input": frozenset({"text", "image", "audio", "video"}),
    "output": frozenset({"text", "image", "audio"}),
}

#: Plain counts by the names met most; of several copies of a count the first is taken.
_PLAIN: dict[Side, tuple[str, ...]] = {
    "input": ("input", "prompt_tokens", "input_tokens", "promptTokens", "prompt", "inputTokens", "promptTokenCount"),
    "output": ("output", "completion_tokens", "output_tokens", "completionTokens", "completion", "outputTokens",
               "candidatesTokenCount"),
}  # fmt: skip
#: Other names that instrumentations have for the conventions' attributes (OpenLLMetry, the Vercel AI SDK before 5, the
#: conventions before 1.27, and before 0.1.0).
_ALIASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (IN, ("gen_ai.usage.prompt_tokens", "ai.usage.tokens")),
    (OUT, ("gen_ai.usage.completion_tokens",)),
    (READ, ("gen_ai.usage.cache_read_input_tokens",)),
    (CREATION, (WRITE, "gen_ai.usage.cache_creation_input_tokens")),
    (WRITE, (CREATION, "gen_ai.usage.cache_creation_input_tokens")),
)
_OWN = frozenset({IN, OUT, "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"})
#: What stands in the names of an instrumentation's own counts (`llm.usage.reasoning_tokens` of OpenLLMetry up to 0.47,
#: `gen_ai.usage.details.cache_read_tokens` of Pydantic AI, `ai.usage.cachedInputTokens` of the Vercel AI SDK).
_USAGE = ".usage."
_WHOLE, _PARTS = frozenset({"read", "write", "reasoning"}), frozenset({"read_part", "write_part"})
_DETAILS = (("read", READ), ("write", CREATION), ("write", WRITE), ("reasoning", REASONING))
_SERVERS_TOTAL = "total"
#: The conventions' names, without what Langfuse takes off.
_OF_CONVENTIONS = ("cache_read.input_tokens", "cache_creation.input_tokens", "cache_write.input_tokens")
#: What most usages are, and need no reading.
_PLAINEST = (("input", IN), ("output", OUT))
_BARE = frozenset({"input", "output", _SERVERS_TOTAL})
_INT64 = 2**63
_MAX_KEYS = 64  # of one usage that are looked at; a record of thousands is none of tokens


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """`gen_ai.usage.*` of one usage, and the keys among them that may be wrong; what nobody counted is absent."""

    attributes: dict[str, int] = field(default_factory=dict)
    guessed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Detail:
    """Tokens of one kind, and whether they stand beside the plain count or are in it, as far as their name shows."""

    count: Number
    is_beside: bool
    is_sure: bool


@dataclass(frozen=True, slots=True)
class _Option:
    """A reading of one side: its whole count, and how many details are read otherwise than their names state."""

    count: Number
    changes: int


@dataclass(slots=True)
class _Bucket:
    """What is stated of one side."""

    plain: Number | None = None
    plain_key: str = ""
    plain_words: frozenset[str] = frozenset()
    details: list[_Detail] = field(default_factory=list)
    modalities: dict[str, Number] = field(default_factory=dict)

    def options(self) -> list[_Option]:
        """Return the readings that are possible: a count cannot be less than what it holds."""
        plain = self.plain or 0
        if not self.details:
            return [_Option(plain, 0)]
        found = []
        for beside in product(*((detail.is_beside, not detail.is_beside) for detail in self.details)):
            pairs = list(zip(self.details, beside, strict=True))
            if sum(detail.count for detail, is_beside in pairs if not is_beside) <= plain:
                changes = sum(detail.is_beside != is_beside for detail, is_beside in pairs)
                count = plain + sum(detail.count for detail, is_beside in pairs if is_beside)
                found.append(_Option(count, changes))
        return sorted(found, key=lambda option: option.changes)

    @property
    def most(self) -> Number:
        """What the count is if nothing is in the plain one."""
        return (self.plain or 0) + sum(detail.count for detail in self.details)

    @property
    def least(self) -> Number:
        """What the count is at least: it holds its details, wherever they are read."""
        return max(self.plain or 0, sum(detail.count for detail in self.details))

    @property
    def is_known(self) -> bool:
        """Whether anything shows the whole count: a plain one, or details beside it."""
        return self.plain is not None or any(detail.is_beside for detail in self.details)


def usage_attributes(
    usage: Mapping[str, Number], originals: Mapping[str, AttributeValue], *, is_embedding: bool = False
) -> TokenCounts:
    """Return the counts that an observation lacks: of its usage, or its own by their other names.

    Where an instrumentation wrote input or output itself the usage, which Langfuse made of these, adds details alone:
    they mean the same wherever they are counted. A vector is no token, so the total of an embedding is its input.
    """
    is_own = not originals.keys().isdisjoint(_OWN)
    counts = TokenCounts() if is_own else count_tokens(usage)
    if is_own and not usage.keys() <= _BARE:
        counts.attributes.update(_ints(_details(usage, _kinds(usage))))
    elif is_embedding and not (counts.attributes.get(IN) or counts.attributes.get(OUT)):
        counts.attributes.update(_ints({IN: _total(usage, _kinds(usage))[0]}))
    own = {key: value for key, value in originals.items() if _USAGE in key and isinstance(value, int | float)}
    if own:
        counts.attributes.update(_ints(_details(own, _kinds(own))))
    for key, others in _ALIASES:
        if key not in originals:
            reported = next((originals[other] for other in others if other in originals), None)
            if isinstance(reported, int):
                counts.attributes[key] = reported
    return counts


def count_tokens(usage: Mapping[str, Number]) -> TokenCounts:
    """Return the counts of a usage: numbers of tokens, or other things, by keys of any instrumentation."""
    if usage.keys() <= _BARE:
        return TokenCounts({key: int(usage[name]) for name, key in _PLAINEST if 0 <= usage.get(name, -1) < _INT64})
    kinds = _kinds(usage)
    if not kinds:
        return TokenCounts()
    sides: dict[Side, _Bucket] = {"input": _bucket("input", usage, kinds), "output": _bucket("output", usage, kinds)}
    details = _details(usage, kinds)
    asked, answered = sides["input"], sides["output"]
    _add_cache(asked, usage, kinds, details.get(READ), details.get(WRITE))
    _add_reasoning(answered, kinds, details.get(REASONING))
    whole_in, whole_out, guessed = _decided(asked, answered, usage, kinds)
    modalities = {
        f"gen_ai.usage.{modality}.{side}_tokens": count
        for side, bucket in sides.items()
        for modality, count in bucket.modalities.items()
        if modality in _MODALITIES[side]
    }
    found = _ints({IN: whole_in, OUT: whole_out} | details | modalities)
    return TokenCounts(found, [key for key in guessed if key in found])


def _details(usage: Mapping[str, Number], kinds: Mapping[str, Kind]) -> dict[str, Number]:
    """Return the counts that mean the same whether they are in a plain count or beside it.

    One may be reported under several names, some of them zero where the instrumentation has none, and by its parts:
    what was read by modalities, which count where nothing else does; what was written by how long it is kept.
    """
    reported: dict[str, Number] = {}
    parts: dict[str, dict[str, Number]] = {}
    for key, kind in kinds.items():
        if kind.role in _WHOLE:
            reported[kind.role] = max(usage[key], reported.get(kind.role, 0))
        elif kind.role in _PARTS:
            same = parts.setdefault(kind.role, {})
            same[kind.detail] = max(usage[key], same.get(kind.detail, 0))
    if parts:
        if "read_part" in parts:
            reported.setdefault("read", sum(parts["read_part"].values()))
        if "write_part" in parts:
            known, written = reported.get("write", 0), sum(parts["write_part"].values())
            reported["write"] = known if known >= written else known + written
    return {key: reported[role] for role, key in _DETAILS if role in reported}


def _ints(counts: Mapping[str, Number | None]) -> dict[str, int]:
    return {key: int(value) for key, value in counts.items() if value is not None and value < _INT64}


def _kinds(usage: Mapping[str, Number]) -> Mapping[str, Kind]:
    """Return what the keys count whose number can be a count: no negative one, no infinity."""
    keys = tuple(usage)[:_MAX_KEYS]
    if all(0 <= usage[key] < _INT64 for key in keys):
        return _kinds_of(keys)
    return _kinds_of(tuple(key for key in keys if 0 <= usage[key] < _INT64))


@lru_cache(maxsize=256)
def _kinds_of(keys: tuple[str, ...]) -> Mapping[str, Kind]:
    """Return what keys count that stand together.

    Cohere shows its counts twice, as used and as billed, and the conventions ask for those that are billed
    (docs/gen-ai/gen-ai-metrics.md, `gen_ai.client.token.usage`).
    """
    found = {key: kind for key in keys if (kind := kind_of(key)) is not None}
    if any("billed" in kind.words for kind in found.values()):
        found = {key: kind for key, kind in found.items() if kind.role != "plain" or "billed" in kind.words}
    return found


def _bucket(side: Side, usage: Mapping[str, Number], kinds: Mapping[str, Kind]) -> _Bucket:
    """Return the plain count of a side with all its details but cache and reasoning."""
    bucket = _Bucket()
    key = next((name for name in _PLAIN[side] if name in kinds), None)
    if key is None:
        key = next((name for name, kind in kinds.items() if kind.role == "plain" and kind.side == side), None)
    if key is not None:
        bucket.plain, bucket.plain_key, bucket.plain_words = usage[key], key, kinds[key].words
    split = extra = 0.0
    inside = 0.0
    for name, kind in kinds.items():
        if kind.side != side:
            continue
        is_split = key in {None, side} and name.startswith(side + "_")
        if kind.role == "modality":
            bucket.modalities[kind.detail] = max(usage[name], bucket.modalities.get(kind.detail, 0))
            if is_split:
                split += usage[name]
            else:
                inside += usage[name]
        elif kind.role == "extra" and is_split:
            extra += usage[name]
        elif kind.role == "tool_use":
            bucket.details.append(_Detail(usage[name], not kind.is_nested, is_sure=True))
    if split and split == bucket.plain and "text" in bucket.modalities:  # all of them, so that nothing is left beside
        split = 0
    bucket.details += [_Detail(count, is_beside=True, is_sure=True) for count in (split, extra) if count]
    if bucket.plain is None and inside and not bucket.details:
        bucket.plain = inside
    return bucket


def _add_cache(
    bucket: _Bucket, usage: Mapping[str, Number], kinds: Mapping[str, Kind], read: Number | None, write: Number | None
) -> None:
    for count, role in ((read, "read"), (write, "write")):
        reported = [(key, kind) for key, kind in kinds.items() if kind.role.startswith(role) and usage[key]]
        if count and reported:
            bucket.details.append(_Detail(count, *_cache_is_beside(bucket, reported)))


def _cache_is_beside(bucket: _Bucket, reported: Sequence[tuple[str, Kind]]) -> tuple[bool, bool]:
    """Return whether cached tokens stand beside the plain count, and whether the names are sure of it."""
    if "total" in bucket.plain_words or any(kind.is_nested or key.endswith(_OF_CONVENTIONS) for key, kind in reported):
        return False, True
    if bucket.plain_key in {"", "input"}:  # Langfuse's names, or none to be in
        return True, bucket.plain_key == "" or any(key.startswith("input_") for key, _ in reported)
    if "prompt" in bucket.plain_words:  # OpenAI, DeepSeek, Gemini, LiteLLM
        return False, True
    # Anthropic and Bedrock state of what: cache_read_input_tokens, cacheWriteInputTokens; OpenAI's agents and Vercel 5
    # state cached_input_tokens of tokens that are in the count, and Vercel's is not sure for Anthropic's models
    names_input = any("input" in kind.words and "cached" not in kind.words for _, kind in reported)
    return names_input, names_input


def _add_reasoning(bucket: _Bucket, kinds: Mapping[str, Kind], reasoning: Number | None) -> None:
    if not reasoning:
        return
    reported = [(key, kind) for key, kind in kinds.items() if kind.role == "reasoning"]
    is_nested = any(kind.is_nested for _, kind in reported) or "total" in bucket.plain_words
    is_split = bucket.plain_key in {"", "output"} and any(key.startswith("output_") for key, _ in reported)
    is_thought = any(not kind.words.isdisjoint({"thoughts", "thought"}) for _, kind in reported)  # Gemini
    is_beside = not is_nested and (is_split or is_thought)
    bucket.details.append(_Detail(reasoning, is_beside, is_sure=is_nested or is_beside))


def _decided(
    asked: _Bucket, answered: _Bucket, usage: Mapping[str, Number], kinds: Mapping[str, Kind]
) -> tuple[Number | None, Number | None, list[str]]:
    """Return the whole counts of both sides, and which of them are guesses."""
    if not (asked.details or answered.details) and None not in (asked.plain, answered.plain):
        return asked.plain, answered.plain, []
    ins, outs = asked.options(), answered.options()
    whole_in = ins[0].count if ins and asked.is_known else None
    whole_out = outs[0].count if outs and answered.is_known else None
    total, is_given = _total(usage, kinds)
    if total is not None and is_given:
        agreed = _agreeing(ins, outs, total)
        if agreed is not None:
            return (agreed[0] if asked.is_known else None), (agreed[1] if answered.is_known else None), []
        if whole_in is not None and whole_out is not None:
            rest_in, rest_out = total - whole_out, total - whole_in
            if asked.least <= rest_in <= asked.most:  # a part of a detail is in it
                return rest_in, whole_out, []
            if answered.least <= rest_out <= answered.most:
                return whole_in, rest_out, []
    guessed = [key for key, bucket, options in ((IN, asked, ins), (OUT, answered, outs)) if _is_guess(bucket, options)]
    if asked.plain is None and total is not None and whole_out is not None and _has_negative_input(usage):
        rest = total - whole_out
        return (rest if rest >= 0 else whole_in), whole_out, [*guessed, IN]
    return whole_in, whole_out, guessed


def _is_guess(bucket: _Bucket, options: Sequence[_Option]) -> bool:
    """Whether another reading is possible, and the names are not sure."""
    return len(options) > 1 and any(not detail.is_sure for detail in bucket.details)


def _total(usage: Mapping[str, Number], kinds: Mapping[str, Kind]) -> tuple[Number | None, bool]:
    """Return the total, and whether the instrumentation gave it; the server's is the sum of whatever else there is."""
    totals = [key for key, kind in kinds.items() if kind.role == "total"]
    given = next((key for key in totals if key != _SERVERS_TOTAL), None)
    if given is not None:
        return usage[given], True
    if not totals:
        return None, False
    everything = sum(count for key, count in usage.items() if key != _SERVERS_TOTAL)
    return usage[_SERVERS_TOTAL], usage[_SERVERS_TOTAL] != everything


def _agreeing(ins: Iterable[_Option], outs: Sequence[_Option], total: Number) -> tuple[Number, Number] | None:
    """Return the counts that make up a total, of several those that the names favour."""
    found = [
        (asked.changes + answered.changes, asked.count, answered.count)
        for asked in ins
        for answered in outs
        if asked.count + answered.count == total
    ]
    return min(found)[1:] if found else None


def _has_negative_input(usage: Mapping[str, Number]) -> bool:
    """Whether the plain input is negative: somebody took more out of it than was in it."""
    return any(usage.get(name, 0) < 0 for name in _PLAIN["input"])
