"""How much was accepted, dead-lettered, filtered and redacted, ever: counted in the transaction that stores it.

So they survive a crash and never go back, whichever process counted, as the counters of a monitoring system must.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync_worker.ledger.store import Store

ACCEPTED, DEAD_LETTERED = "accepted", "dead-lettered"  # spans, by Kelet project and by kind
#: Signals that were accepted, by Kelet project: of a score that was not sent before, and of one that was edited since.
SIGNALS, EDITED_SIGNALS = "signals", "edited-signals"
FILTERED = "filtered"  # traces, by the rule that left them out
REPLACED = "replaced"  # in the spans that were accepted, by detector
#: Labels that are counted each by itself; the others are one. A template may make any number of Kelet projects.
MOST_LABELS, OTHER = 50, "other"


def count(store: Store, source_id: int, name: str, label: str, by: int) -> None:
    """Add to the total of a name and a label within the current transaction."""
    scope, key = _scope(source_id), f"{name} {label}"
    known = store.query("SELECT 1 FROM state_keys WHERE scope = ? AND name = ?", [scope, key])
    if not known:
        ((others,),) = store.query(
            "SELECT count(*) FROM state_keys WHERE scope = ? AND name GLOB ?", [scope, f"{name} *"]
        )
        if others >= MOST_LABELS:
            key = f"{name} {OTHER}"
    store.execute(
        "INSERT INTO state_keys (scope, name, value) VALUES (?, ?, ?) ON CONFLICT (scope, name) "
        "DO UPDATE SET value = CAST(value AS INTEGER) + ?",
        [scope, key, str(by), by],
    )


def totals(store: Store, source_id: int) -> dict[tuple[str, str], int]:
    """Return the totals of a source by name and label."""
    rows = store.query("SELECT name, CAST(value AS INTEGER) FROM state_keys WHERE scope = ?", [_scope(source_id)])
    found: dict[tuple[str, str], int] = {}
    for key, value in rows:
        name, _, label = key.partition(" ")
        found[name, label] = value
    return found


def _scope(source_id: int) -> str:
    return f"totals {source_id}"
