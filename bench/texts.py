"""Made-up prose, documents and chat messages of a wanted length, from a fixed seed."""

from __future__ import annotations

import json
import random
from typing import Any

_SYLLABLES = (
    *("an", "ar", "be", "ca", "co", "da", "de", "di", "el", "en", "er", "es", "fi", "ga", "ge", "ha", "he", "in", "is"),
    *("it", "ka", "ko", "la", "le", "li", "lo", "ma", "me", "mi", "mo", "na", "ne", "ni", "no", "or", "pa", "pe", "po"),
    *(
        "ra",
        "re",
        "ri",
        "ro",
        "sa",
        "se",
        "si",
        "so",
        "st",
        "ta",
        "te",
        "th",
        "ti",
        "to",
        "tra",
        "un",
        "ur",
        "ve",
        "vi",
    ),
    *("wa", "we", "wi", "yo"),
)
_ODD_WORDS = ("Zürich", "naïve", "café", "→", "µs", "😀", "größer", "€", "日本")
_WORDS = 3_000
_CORPUS_WORDS = 250_000


class Texts:
    """A long text of made-up words, frequent ones more often, of which pieces are handed out."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(_WORDS)]
        words += _ODD_WORDS
        weights = [1 / (rank + 3) for rank in range(len(words))]
        parts: list[str] = []
        for word in rng.choices(words, weights, k=_CORPUS_WORDS):
            parts.append(word)
            chance = rng.random()
            parts.append(". " if chance < 0.06 else ",\n" if chance < 0.08 else " ")
        self._corpus = "".join(parts)

    def piece(self, length: int) -> str:
        """Return prose of about this many characters."""
        if length >= len(self._corpus):
            return (self._corpus * (length // len(self._corpus) + 1))[:length]
        start = self._rng.randrange(len(self._corpus) - length)
        return self._corpus[start : start + length].strip()

    def length(self, median: float, spread: float, most: int) -> int:
        """Return a length, by the law that most lengths of texts follow: many short ones, few very long ones."""
        return min(most, max(8, int(median * self._rng.lognormvariate(0.0, spread))))

    def arguments(self) -> str:
        """Return the arguments of a tool, as JSON text."""
        return _json(
            {"query": self.piece(self.length(30, 0.6, 400)), "limit": self._rng.randint(1, 50), "strict": True}
        )

    def result(self, median: float) -> str:
        """Return the result of a tool, as JSON text."""
        items = [
            {"id": self._rng.randrange(10**9), "title": self.piece(24), "score": round(self._rng.random(), 4)}
            for _ in range(self._rng.randint(1, 3))
        ]
        return _json({"ok": True, "items": items, "text": self.piece(self.length(median, 1.0, 60_000))})

    def documents(self) -> str:
        """Return what a retriever found, as JSON text."""
        count = self._rng.randint(2, 6)
        return _json(
            [
                {
                    "page_content": self.piece(self.length(420, 0.5, 4_000)),
                    "metadata": {
                        "source": f"kb/{self._rng.randrange(9_999)}.md",
                        "score": round(self._rng.random(), 3),
                    },
                }
                for _ in range(count)
            ]
        )

    def chat(self, system: str, turns: int) -> tuple[str, str]:
        """Return messages of a chat and the answer to them, as JSON texts in the form of OpenAI's API."""
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": system},
            {"role": "user", "content": self.piece(self.length(220, 1.0, 20_000))},
        ]
        for _ in range(turns):
            call = f"call_{self._rng.getrandbits(64):016x}"
            function = {"name": "search_documents", "arguments": self.arguments()}
            messages += [
                {"role": "assistant", "content": None,
                 "tool_calls": [{"id": call, "type": "function", "function": function}]},
                {"role": "tool", "tool_call_id": call, "content": self.result(260)},
            ]  # fmt: skip
        answer: dict[str, Any] = {"role": "assistant", "content": self.piece(self.length(350, 0.9, 12_000))}
        if self._rng.random() < 0.3:
            function = {"name": "search_documents", "arguments": self.arguments()}
            call = f"call_{self._rng.getrandbits(64):016x}"
            answer = {"role": "assistant", "content": None,
                      "tool_calls": [{"id": call, "type": "function", "function": function}]}  # fmt: skip
        return _json(messages), _json(answer)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
