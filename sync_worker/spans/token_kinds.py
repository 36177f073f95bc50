"""What a key of Langfuse's free-form `usageDetails` counts, by the words in it.

Providers and frameworks write one thing in many ways: `cacheReadInputTokens` (Bedrock's Converse), `cached_tokens`
(OpenAI), `cachedContentTokenCount` (Gemini), `inputTokenDetails.cacheReadTokens` (Vercel AI SDK 6),
`input_cache_read` (Langfuse's ingestion). Nested objects come with dots.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Side = Literal["input", "output"]
#: plain: the count itself. read, write: the prompt's cache; *_part is one kind of such tokens. tool_use: Gemini's
#: prompts made of tools' results. modality: text, audio and the like. extra: any other detail of Langfuse's own.
Role = Literal[
    "plain", "total", "read", "read_part", "write", "write_part", "reasoning", "tool_use", "modality", "extra"
]

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+[a-z]*")
_INPUT = frozenset({"input", "prompt", "evaluated"})
_OUTPUT = frozenset({"output", "completion", "candidates", "candidate", "generated", "generation", "predicted",
                     "response"})  # fmt: skip
_CACHE = frozenset({"cache", "cached", "caching"})
_WRITE = frozenset({"write", "writes", "written", "creation", "create", "created"})
_DURATIONS = frozenset({"5m", "1h", "ephemeral"})
_UNCACHED = frozenset({"miss", "no", "uncached", "non"})
_REASONING = frozenset({"reasoning", "thoughts", "thought", "thinking"})
MODALITIES = frozenset({"text", "audio", "image", "video", "document"})
_PARTS = frozenset({"accepted", "rejected", "prediction", "citation"})
#: Words that state nothing, beside those of the sides.
_NEUTRAL = frozenset({"token", "tokens", "count", "counts", "num", "number", "n", "of", "usage", "eval", "total",
                      "billed", "units", "meta", "llm"})  # fmt: skip
#: What is counted here is no token.
_OTHER_UNITS = frozenset({"cost", "costs", "price", "usd", "credits", "second", "seconds", "secs", "ms", "time",
                          "duration", "latency", "character", "characters", "chars", "request", "requests", "queries",
                          "searches", "search", "images", "pages", "pixels", "rate", "classifications"})  # fmt: skip
_DETAILS = frozenset({"details", "detail"})
_MAX_KEY = 200  # characters of a key that are looked at, and remembered


@dataclass(frozen=True, slots=True)
class Kind:
    """What a key counts. `words` in lower case; `detail` names a modality, or how long a cache lives."""

    role: Role
    side: Side | None
    words: frozenset[str]
    detail: str = ""

    @property
    def is_nested(self) -> bool:
        """Whether it stands among the details of a count, which holds it."""
        return not self.words.isdisjoint(_DETAILS)


def kind_of(key: str) -> Kind | None:
    """Return what a key counts; None for what is no token, or a part of a count that adds nothing."""
    return _kind_of(key[:_MAX_KEY])


@lru_cache(maxsize=1024)
def _kind_of(key: str) -> Kind | None:
    in_order = [word.lower() for word in _WORDS.findall(key)]
    words = frozenset(in_order)
    if words & _OTHER_UNITS or ("units" in words and "billed" not in words):
        return None
    if words & _CACHE or words & _DURATIONS:
        return _of_cache(words)
    modality = next((word for word in in_order if word in MODALITIES), "")
    if words & _REASONING:
        return Kind("reasoning", "output", words)
    if words >= {"tool", "use"}:
        return None if modality else Kind("tool_use", "input", words)
    side = _side(words)
    if modality:
        return None if side is None else Kind("modality", side, words, modality)
    if words & _PARTS and side != "output":
        return None
    if side is None:
        return Kind("total", None, words) if "total" in words and words <= _NEUTRAL else None
    if words <= _NEUTRAL | _INPUT | _OUTPUT:
        return Kind("plain", side, words)
    return Kind("extra", side, words) if key.startswith(("input_", "output_")) else None


def _of_cache(words: frozenset[str]) -> Kind | None:
    if words & _UNCACHED or words & _OUTPUT:
        return None
    if words & _WRITE or words & _DURATIONS:
        duration = next((word for word in ("5m", "1h", "ephemeral") if word in words), "")
        return Kind("write_part" if duration else "write", "input", words, duration)
    modality = next((word for word in words if word in MODALITIES), "")
    return Kind("read_part" if modality else "read", "input", words, modality)


def _side(words: frozenset[str]) -> Side | None:
    if words & _OUTPUT:
        return "output"
    if words & _INPUT:
        return "input"
    return "output" if "eval" in words else None  # Ollama: prompt_eval_count and eval_count
