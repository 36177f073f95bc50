"""What an operator's pauses mean for one source: nothing of what is paused is read or sent."""

from __future__ import annotations

import shlex
from collections.abc import Collection

from sync_worker.errors import PausedByOperator
from sync_worker.ledger import Ledger
from sync_worker.ledger.pauses import Pause, active_pauses
from sync_worker.times import iso_time


class Pauses:
    """The pauses of one source, as they stand in the state file whenever they are asked for.

    `projects` are the Kelet projects that the settings of the source name. Raises StateError.
    """

    def __init__(self, ledger: Ledger, source: str, projects: Collection[str]) -> None:
        self._ledger = ledger
        self._source = source
        self._projects = frozenset(projects)
        self._last: list[Pause] | None = None  # as they were read last

    def check(self, now_ms: int | None = None) -> None:
        """Raise PausedByOperator where the source is paused, or every Kelet project that its settings name.

        `now_ms` is the time, in Unix ms, where it is not that of the state file's clock.
        """
        found = self._active(now_ms)
        for pause in found:
            if pause.project is None:
                raise PausedByOperator(describe(pause, self._source))
        held = {str(pause.project): describe(pause, self._source) for pause in found}
        if held.keys() >= self._projects:
            raise PausedByOperator(" · ".join(dict.fromkeys(held[project] for project in sorted(self._projects))))

    def by_project(self, *, fresh: bool = True) -> dict[str, PausedByOperator]:
        """Return, by Kelet project, why nothing is sent to it; without `fresh`, as it was at the last look."""
        found = self._active() if fresh or self._last is None else self._last
        return {
            pause.project: PausedByOperator(describe(pause, self._source))
            for pause in found
            if pause.project is not None
        }

    def _active(self, now_ms: int | None = None) -> list[Pause]:
        self._last = [pause for pause in active_pauses(self._ledger, now_ms) if pause.concerns(self._source)]
        return self._last


def describe(pause: Pause, source: str) -> str:
    """Return what is paused, until when, why, and how it ends, in one line."""
    what = source if pause.project is None else f"{source}: the Kelet project {pause.project!r}"
    until = "" if pause.until_ms is None else f" until {iso_time(pause.until_ms)}"
    reason = "" if pause.reason is None else f" ({pause.reason})"
    words = ["sync-worker resume"] if pause.source is None else ["sync-worker resume", shlex.quote(pause.source)]
    if pause.project is not None:
        words.append(f"--project {shlex.quote(pause.project)}")
    return (
        f"{what} is paused since {iso_time(pause.since_ms)}{until}{reason}. Nothing is lost. Try: `{' '.join(words)}`"
    )
