"""All state keys: what a state file remembers beside what was sent. Each has a type, and says what a merge does.

A key belongs to a scope: a source, a Kelet, the clock, the file. `State` reads a scope once. What is put is written
with the next transaction, so an idle cycle does not write each key for itself; `save` writes it at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from sync_worker.ledger.store import Store

T = TypeVar("T")


class Merge(Enum):
    """What `state merge` does with a key of the other file's."""

    NEVER = "never"  # it describes that file's own past
    ALWAYS = "always"  # it holds wherever the source is read from
    WITH_LIVE = "with live"  # it belongs to the live sync: taken with that
    LARGER = "larger"  # the larger value of both holds


@dataclass(frozen=True, slots=True)
class StateKey(Generic[T]):
    """A key: its name, how a value is read and written, and what a merge does with it."""

    name: str
    load: Callable[[str], T]
    dump: Callable[[T], str]
    merge: Merge = Merge.WITH_LIVE


def _number(name: str, merge: Merge = Merge.WITH_LIVE) -> StateKey[int]:
    return StateKey(name, int, str, merge)


def _object(name: str, merge: Merge = Merge.WITH_LIVE) -> StateKey[Any]:
    return StateKey(name, json.loads, lambda value: json.dumps(value, separators=(",", ":")), merge)


def _text(name: str, merge: Merge = Merge.WITH_LIVE) -> StateKey[str]:
    return StateKey(name, str, str, merge)


# Of a source. Times in Unix milliseconds, lengths in milliseconds.

#: How long an interval was that held the observations that one should hold.
INTERVAL_LENGTH = _number("interval_ms")
#: How late observations arrived: counts of a histogram.
ARRIVAL_DELAY = _object("arrival_delay", Merge.NEVER)
#: Observations a page, by kind of list.
PAGE_LIMITS = _object("page limits", Merge.ALWAYS)
#: Single spans that Kelet rejected since it accepted one.
REJECTED_IN_A_ROW = _number("rejected_in_a_row", Merge.NEVER)
#: What was found of request sizes, and of spans that Kelet fails at.
DELIVERY = _text("delivery")
#: Records of what starts before it may be forgotten.
FORGOTTEN_BEFORE = _number("forgotten before", Merge.LARGER)
#: When the last scan for what ended lately began.
LAST_ENDED_SCAN = _number("late ended")
#: By start of five minutes: how many observations v1 counted there, and when.
BUCKET_COUNTS = _object("counts")
#: When observations were read again last.
LAST_SECOND_READ = _number("second read")
#: Kelet projects that were unknown at the end of the last cycle.
PAUSED_PROJECTS = _object("paused projects")
#: By which generation of the API it is read, and why.
GENERATION = _object("api", Merge.ALWAYS)
#: SYNC_START as it stood when the sync start was stored.
SYNC_START_SETTING = _text("sync start")
#: Ids of sources of which it is not decided whether they are the same project.
UNDECIDED = _object("undecided")
#: The last backfill: its interval, when it began, and how much of it was to be read then.
LAST_BACKFILL = _object("last backfill", Merge.NEVER)
#: What the last audit line was of: until when, and the totals then.
AUDITED = _object("audited", Merge.NEVER)
#: The day, counted from 1970, on which SYNC_MAX_SPANS_PER_DAY was reached, and the limit.
DAILY_LIMIT = _object("daily limit", Merge.NEVER)
#: The version of the mapping of ids that its spans went out under.
ID_MAPPING = _number("id mapping", Merge.ALWAYS)
#: The digest of the rules under which its traces and dead letters are stored.
RULES_DIGEST = _text("rules", Merge.NEVER)
#: Signals that Kelet rejected since it accepted one.
SIGNALS_REJECTED_IN_A_ROW = _number("signals_rejected_in_a_row", Merge.NEVER)
#: When the last listing of the newest scores began.
LAST_SCORE_SCAN = _number("scores")
#: Notes of scores that are dated before it may be forgotten.
SCORES_FORGOTTEN_BEFORE = _number("scores forgotten before", Merge.LARGER)
#: From which date on the live sync lists scores, of which selection of names, and its longest lookback window.
SCORES_LISTED = _object("scores listed")
#: By id, the range and categories of score configs, and when they were asked for.
SCORE_CONFIGS = _object("score configs", Merge.ALWAYS)

#: Every key above: those of a source whose names are constant.
_OF_SOURCE: tuple[StateKey[Any], ...] = tuple(key for key in globals().values() if isinstance(key, StateKey))


def last_score_scan(interval_ms: int) -> StateKey[int]:
    """Return the key for when the last completed scan of a lookback window of scores began."""
    return _number(f"scores {interval_ms}")


def running_score_scan(interval_ms: int) -> StateKey[Any]:
    """Return the key of a scan of a lookback window of scores that is under way."""
    return _object(f"score scan {interval_ms}")


@cache
def last_scan(interval_ms: int) -> StateKey[int]:
    """Return the key for when the last completed scan of a lookback window began."""
    return _number(f"late {interval_ms}")


@cache
def running_scan(interval_ms: int) -> StateKey[Any]:
    """Return the key of a scan of a lookback window that is under way."""
    return _object(f"lookback scan {interval_ms}")


@cache
def last_cycle(source_name: str) -> StateKey[Any]:
    """Return the key, in the scope `CYCLES`, of how a source's last cycle ended."""
    return _object(source_name, Merge.NEVER)


#: The scope of `last_cycle`.
CYCLES = "cycles"


def measured(command: str) -> StateKey[Any]:
    """Return the key, in the scope `MEASURED`, of what the runs of a command that write a metrics file have counted."""
    return _object(command, Merge.NEVER)


#: The scope of `measured`.
MEASURED = "measured"

# Of the redaction.

#: The secret of pseudonyms, where no setting gives one.
PSEUDONYM_KEY = _text("pseudonym key", Merge.NEVER)

# Of the name of a source whose project is not known yet, of the clock, and of a target's server.

#: When it was first to be synced, and whether more than this machine says so.
FIRST_NOTED = _object("noted")
#: The last time that was certain, and a machine's time that nothing confirmed.
LAST_CERTAIN = _number("last certain")
UNCONFIRMED = _number("unconfirmed")
#: Set where a target takes no gzip.
GZIP_REJECTED = _number("gzip_rejected", Merge.ALWAYS)


def names_by(merge: Merge) -> tuple[str, ...]:
    """Return the names of a source's keys with which a merge does this; keys of lookback windows are `WITH_LIVE`."""
    return tuple(key.name for key in _OF_SOURCE if key.merge is merge)


def number_names() -> frozenset[str]:
    """Return the names of a source's keys that hold one number."""
    return frozenset(key.name for key in _OF_SOURCE if key.load is int)


class State:
    """The keys of one scope. Made and loaded by `Store.state`. Raises StateError as the store does."""

    def __init__(self, store: Store, scope: str) -> None:
        self._store = store
        self.scope = scope
        self._values: dict[str, str] = {}
        self.unsaved: dict[str, str] = {}

    def get(self, key: StateKey[T], *, fresh: bool = False) -> T | None:
        """Return the value of a key, None where there is none; `fresh`: as it stands now, whoever wrote it.

        Raises ValueError for a value that another version of the program wrote.
        """
        if fresh and key.name not in self.unsaved:
            rows = self._store.query(
                "SELECT value FROM state_keys WHERE scope = ? AND name = ?", [self.scope, key.name]
            )
            text = rows[0][0] if rows else None
        else:
            text = self._values.get(key.name)
        return None if text is None or text == "" else key.load(text)

    def put(self, key: StateKey[T], value: T) -> None:
        """Set a key; it is written with the next transaction."""
        text = key.dump(value)
        if self._values.get(key.name) != text:
            self._values[key.name] = self.unsaved[key.name] = text

    def drop(self, key: StateKey[Any]) -> None:
        """Take a key away, with the next transaction."""
        if self._values.get(key.name):
            self._values[key.name] = self.unsaved[key.name] = ""

    def save(self) -> None:
        """Write what was put."""
        if self.unsaved:
            with self._store.transaction():
                pass

    def load(self, values: dict[str, str]) -> None:
        """Take these for the stored values; what is not written yet stays."""
        self._values = values | self.unsaved
