"""Single spans at which a target fails again and again, and the proof that it is the span and not the target. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from sync_worker.spans.span_model import EncodedSpan, ObservationKey

#: So many are remembered for the next run; the proof of an older one is restarted.
_MAX_STORED = 100


class _Proof(IntEnum):
    """How far the proof against a span is."""

    FAILED = 0  # the target failed at it
    PASSED = 1  # ... and took another span after that
    AGAIN = 2  # ... and failed at it once more
    PROVEN = 3  # ... and took another span again


class Suspects:
    """The spans under suspicion. One is to blame when other spans were accepted before it failed again, and after."""

    def __init__(self, stored: Any = None) -> None:
        self._proofs: dict[ObservationKey, _Proof] = {}
        self._spans: dict[ObservationKey, tuple[EncodedSpan, str, int | None]] = {}  # those that failed in this run
        for item in stored if isinstance(stored, list) else ():
            trace, observation, proof = item
            self._proofs[ObservationKey(trace, observation)] = _Proof(proof)

    @property
    def stored(self) -> list[list[str | int]]:
        """The state to store for the next run."""
        return [[key.trace, key.observation, int(proof)] for key, proof in list(self._proofs.items())[-_MAX_STORED:]]

    def record_failure(self, span: EncodedSpan, reason: str, status: int | None, *, passed_since: bool) -> bool:
        """Record that the target failed at a span alone; return whether the span is to blame.

        `passed_since` says that another span was taken since the first request with this one failed.
        """
        before = self._proofs.pop(span.key, _Proof.PASSED if passed_since else None)
        if before is _Proof.PROVEN:
            self._spans.pop(span.key, None)
            return True
        self._proofs[span.key] = _Proof.FAILED if before in {None, _Proof.FAILED} else _Proof.AGAIN
        self._spans[span.key] = (span, reason, status)
        return False

    def record_success(self) -> list[tuple[EncodedSpan, str, int | None]]:
        """Record that the target accepted another span; return those to blame by that, with reason and status."""
        guilty = []
        for key, proof in list(self._proofs.items()):
            if proof is _Proof.AGAIN and key in self._spans:
                guilty.append(self._spans.pop(key))
                del self._proofs[key]
            elif proof in {_Proof.FAILED, _Proof.AGAIN}:
                self._proofs[key] = _Proof(proof + 1)
        return guilty

    def clear(self, key: ObservationKey) -> None:
        """Clear a span that got a response of its own after all."""
        self._proofs.pop(key, None)
        self._spans.pop(key, None)
