"""What happened in the last day, in slots of five minutes: bounded, whatever is synced. All commands add to it.

A slot has the watermark as it was at its end, and only where it moved: between two slots it stood still, so the lag at
any moment follows from it, also while no process ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync_worker.ledger.store import Store

SLOT_MS = 300_000
#: Slots that are kept: a day. One older one with a watermark is kept too, from which the lag of the first follows.
SLOTS = 288

#: Also deletes slots of the future: a clock was wrong.
_DELETE_OLD = (
    "DELETE FROM history WHERE source_id = :source AND (slot > :now OR (slot <= :now - :kept AND slot IS NOT "
    "(SELECT max(slot) FROM history WHERE source_id = :source AND slot <= :now - :kept AND watermark_ms IS NOT NULL)))"
)
_ADD = (
    "INSERT INTO history (source_id, slot, watermark_ms, spans, signals, dead_letters) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (source_id, slot) DO UPDATE SET watermark_ms = coalesce(excluded.watermark_ms, watermark_ms), "
    "spans = spans + excluded.spans, signals = signals + excluded.signals, "
    "dead_letters = dead_letters + excluded.dead_letters"
)


@dataclass(frozen=True, slots=True)
class Slot:
    """Five minutes of a source, from `number * SLOT_MS`; `watermark_ms` is None where it did not move."""

    number: int
    watermark_ms: int | None
    spans: int
    signals: int
    dead_letters: int


def add_to_history(
    store: Store, source_id: int, now_ms: int, *, spans: int = 0, signals: int = 0, dead_letters: int = 0
) -> None:
    """Add to the slot of now within the current transaction."""
    slot = now_ms // SLOT_MS
    store.execute(_ADD, [source_id, slot, None, spans, signals, dead_letters])
    store.execute(_DELETE_OLD, _old(source_id, slot))


def note_watermark(store: Store, source_id: int, now_ms: int, watermark_ms: int) -> None:
    """Note where the watermark is now, with the next transaction."""
    slot = now_ms // SLOT_MS
    store.execute_later(_ADD, [source_id, slot, watermark_ms, 0, 0, 0])
    store.execute_later(_DELETE_OLD, _old(source_id, slot))


def _old(source_id: int, slot: int) -> dict[str, int]:
    return {"source": source_id, "now": slot, "kept": SLOTS}


def history(store: Store, source_id: int) -> list[Slot]:
    """Return the slots in which something happened, oldest first."""
    rows = store.query(
        "SELECT slot, watermark_ms, spans, signals, dead_letters FROM history WHERE source_id = ? ORDER BY slot",
        [source_id],
    )
    return [Slot(*row) for row in rows]
