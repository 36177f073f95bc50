"""State keys as text, for tests that need some write, or one that the program would not make."""

from __future__ import annotations

from sync_worker.ledger import Ledger
from sync_worker.ledger.state_keys import StateKey


def put(ledger: Ledger, scope: str, name: str, value: str) -> None:
    """Write a state key at once."""
    state = ledger.state(scope)
    state.put(StateKey(name, str, str), value)
    state.save()
