"""Warns about a `SYNC_START` that was changed after a source's first run: it has an effect only there."""

from __future__ import annotations

from datetime import timedelta

from sync_worker.ledger import Ledger, SourceState, source_scope
from sync_worker.ledger.state_keys import SYNC_START_SETTING
from sync_worker.settings import Settings, format_duration
from sync_worker.times import iso_time, moment_ms


def remember_start(ledger: Ledger, source_id: int, settings: Settings) -> None:
    """Store the setting that decided the sync start of a source."""
    ledger.state(source_scope(source_id)).put(SYNC_START_SETTING, _text(settings))


def start_without_effect(ledger: Ledger, state: SourceState, name: str, settings: Settings) -> str | None:
    """Return a line for a SYNC_START that was set or changed after the first run of a source; None for any other.

    `settings` are those of the source.
    """
    decided = ledger.state(source_scope(state.id)).get(SYNC_START_SETTING)
    first, now = state.sync_start_ms, _text(settings)
    names = {"SYNC_START", f"sources.{name}.sync_start"}
    given = any(row.name in names and row.origin != "default" for row in settings.shown)
    if first is None or decided in {None, now} or not given:
        return None
    return (
        f"{name}: SYNC_START={now} has no effect: the first run, with SYNC_START={decided}, decided that the sync "
        f"begins at {iso_time(first)}. Try: `backfill --from {now} --to {iso_time(first)}` for older traces"
    )


def _text(settings: Settings) -> str:
    start = settings.start
    return format_duration(start) if isinstance(start, timedelta) else iso_time(moment_ms(start))
