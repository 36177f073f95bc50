"""Dead letters: observations and spans, with the reason. An observation has at most one: its latest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from sync_worker.errors import DeadLettersFull
from sync_worker.intervals import Interval
from sync_worker.ledger.history import add_to_history
from sync_worker.ledger.store import SENT_COLUMNS, in_lists, storable
from sync_worker.ledger.stored_records import DeadLetter, DeadLetterGroup
from sync_worker.ledger.totals import DEAD_LETTERED, count
from sync_worker.ledger.traces import Traces
from sync_worker.wording import counted

#: Characters that are kept of a reason, and of what there is of an observation.
_MAX_REASON, _MAX_RAW = 2_000, 20_000
_IDS_AT_ONCE = 10_000  # of the 32,766 variables that SQLite takes
#: The kind of an observation that Langfuse did not serve, that could not be parsed, or that broke the conversion.
UNREADABLE = "unreadable"
#: Of an observation that could not be read its trace may be unknown.
_OF_OBSERVATION = "source_id = ? AND observation_id = ? AND (trace_id IS NULL OR trace_id = ?)"


class DeadLetters(Traces):
    """The part of the ledger about dead letters."""

    def dead_letters(
        self,
        source_id: int | None = None,
        ids: Sequence[int] = (),
        *,
        trace_id: str | None = None,
        kind: str | None = None,
        reason: str | None = None,
        made_before_ms: int | None = None,
        source_ids: Sequence[int] | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[DeadLetter]:
        """Return dead letters by their id: those behind `after`, at most `limit`. `reason` is a part of theirs."""
        found: list[DeadLetter] = []
        for start in range(0, max(1, len(ids)), _IDS_AT_ONCE):
            part = ids[start : start + _IDS_AT_ONCE]
            where, values = ["id > ?"], list[Any]([after])
            if source_id is not None:
                where.append("source_id = ?")
                values.append(source_id)
            if trace_id is not None:
                where.append("trace_id = ?")
                values.append(storable(trace_id))
            for condition, value in (("kind = ?", kind), ("made_ms < ?", made_before_ms)):
                if value is not None:
                    where.append(condition)
                    values.append(value)
            if reason is not None:
                where.append("instr(lower(reason), lower(?)) > 0")
                values.append(reason)
            if source_ids is not None:
                where.append(f"source_id IN ({','.join('?' * len(source_ids))})")
                values.extend(source_ids)
            if part:
                where.append(f"id IN ({','.join('?' * len(part))})")
                values.extend(part)
            rows = self.records(
                f"SELECT * FROM dead_letters WHERE {' AND '.join(where)} ORDER BY id LIMIT ?",
                [*values, -1 if limit is None else limit],
            )
            found += [DeadLetter(**row) for row in rows]
        found.sort(key=lambda letter: letter.id or 0)
        return found if limit is None else found[:limit]

    def last_dead_letter(self) -> int:
        """Return the greatest id of a dead letter, 0 where there is none."""
        return int(self.query("SELECT coalesce(max(id), 0) FROM dead_letters")[0][0])

    def unserved_intervals(self, source_id: int) -> list[Interval]:
        """Return where the observations of a source start that were not served and whose ids are not known."""
        rows = self.query(
            "SELECT start_ms, coalesce(until_ms, start_ms + 1) FROM dead_letters "
            "WHERE source_id = ? AND kind = ? AND observation_id IS NULL AND start_ms IS NOT NULL",
            [source_id, UNREADABLE],
        )
        return [Interval(start, end) for start, end in rows]

    def count_dead_letters(self, source_id: int) -> int:
        """Return how many spans the dead letters of a source hold."""
        rows = self.query("SELECT coalesce(sum(spans), 0) FROM dead_letters WHERE source_id = ?", [source_id])
        return int(rows[0][0])

    def dead_letters_by_kind(self, source_id: int) -> dict[str, int]:
        """Return how many spans the dead letters of a source hold, by their kind."""
        return dict(self.query("SELECT kind, sum(spans) FROM dead_letters WHERE source_id = ? GROUP BY 1", [source_id]))

    def dead_letter_groups(self, source_id: int) -> list[DeadLetterGroup]:
        """Return the dead letters of a source by kind and status, the most first."""
        rows = self.query(
            "SELECT kind, status, sum(spans), min(made_ms), max(made_ms) FROM dead_letters WHERE source_id = ? "
            "GROUP BY kind, status ORDER BY 3 DESC, 1, 2",
            [source_id],
        )
        return [DeadLetterGroup(*row) for row in rows]

    def drop_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Remove dead letters; their observations count as completed, so that they are not sent when read again.

        One that is gone, since its observation was accepted after all, is skipped.
        """
        now = self.clock.now_ms()
        with self.transaction():
            for letter in letters:
                row = self.execute(
                    "SELECT source_id, trace_id, observation_id, start_ms, fingerprint, project "
                    "FROM dead_letters WHERE id = ?",
                    [letter.id],
                ).fetchone()
                if row is None or any(value is None for value in row[:5]):
                    continue
                source_id, trace, observation_id, start, fingerprint, project = row
                self.execute(
                    f"INSERT INTO sent ({SENT_COLUMNS}) VALUES (?, ?, ?, ?, 0, ?, ?, NULL) "
                    "ON CONFLICT (source_id, trace_id, observation_id) "
                    "DO UPDATE SET fingerprint = excluded.fingerprint",
                    [source_id, trace, observation_id, start, fingerprint, now],
                )
                self._store_unknown(source_id, [(trace, start, project)])
            self.execute_many("DELETE FROM dead_letters WHERE id = ?", [(item.id,) for item in letters])

    def dead_letters_due(self, source_id: int, now_ms: int, limit: int) -> list[DeadLetter]:
        """Return dead letters whose automatic retry is due, longest due first."""
        rows = self.records(
            "SELECT * FROM dead_letters WHERE source_id = ? AND next_try_ms <= ? ORDER BY next_try_ms, id LIMIT ?",
            [source_id, now_ms, limit],
        )
        return [DeadLetter(**row) for row in rows]

    def store_tries(self, letters: Sequence[DeadLetter]) -> None:
        """Store how often dead letters were retried, and when they are next."""
        with self.transaction():
            self.execute_many(
                "UPDATE dead_letters SET tries = ?, next_try_ms = ? WHERE id = ?",
                [(letter.tries, letter.next_try_ms, letter.id) for letter in letters],
            )

    def delete_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Delete dead letters of observations that were sent as they are."""
        with self.transaction():
            self.execute_many("DELETE FROM dead_letters WHERE id = ?", [(letter.id,) for letter in letters])

    def redact_dead_letters(
        self, source_id: int, redact_reason: Callable[[str], str], redact_raw: Callable[[str], str | None]
    ) -> None:
        """Redact what the dead letters of a source hold of their observations."""
        letters = self.query("SELECT id, reason, raw FROM dead_letters WHERE source_id = ?", [source_id])
        with self.transaction():
            self.execute_many(
                "UPDATE dead_letters SET reason = ?, raw = ? WHERE id = ?",
                [
                    (redact_reason(reason), None if raw is None else redact_raw(raw), key)
                    for key, reason, raw in letters
                ],
            )

    def count_new(self, letters: Sequence[DeadLetter]) -> int:
        """Return how many spans of these dead letters are new, not in an `unreadable` one already."""
        return sum(letter.spans for letter in letters if self._unreadable_before(letter) is None)

    def _unreadable_before(self, letter: DeadLetter) -> int | None:
        """Return the id of the earlier `unreadable` dead letter of the same observation, if this one is too."""
        if letter.kind != UNREADABLE or letter.observation_id is None:
            return None
        trace = None if letter.trace_id is None else storable(letter.trace_id)
        rows = self.query(
            f"SELECT id FROM dead_letters WHERE {_OF_OBSERVATION} AND kind = ?",
            [letter.source_id, storable(letter.observation_id), trace, UNREADABLE],
        )
        return rows[0][0] if rows else None

    def _dead_lettered_states(self, source_id: int, trace_ids: Sequence[str]) -> dict[tuple[str, str], bytes]:
        """Return the fingerprints in which observations of these traces were dead-lettered (b"": unreadable)."""
        found: dict[tuple[str, str], bytes] = {}
        for marks, part in in_lists(trace_ids):
            rows = self.query(
                f"SELECT trace_id, observation_id, fingerprint FROM dead_letters WHERE source_id = ? "
                f"AND trace_id IN ({marks}) AND observation_id IS NOT NULL",
                [source_id, *part],
            )
            found |= {(trace, observation): fingerprint or b"" for trace, observation, fingerprint in rows}
        return found

    def _drop_dead_letters(self, source_id: int, observations: Sequence[tuple[str | None, str]]) -> None:
        if not self.query("SELECT 1 FROM dead_letters WHERE source_id = ? LIMIT 1", [source_id]):
            return
        self.execute_many(
            f"DELETE FROM dead_letters WHERE {_OF_OBSERVATION}",
            [(source_id, observation, trace) for trace, observation in observations],
        )

    def _drop_score_letters(self, source_id: int, score_ids: Sequence[str]) -> None:
        self.execute_many(
            "DELETE FROM dead_letters WHERE source_id = ? AND score_id = ?",
            [(source_id, score_id) for score_id in score_ids],
        )

    def _add_dead_letters(self, letters: Sequence[DeadLetter], *, beyond_the_limit: bool = False) -> None:
        limited = () if beyond_the_limit else {letter.source_id for letter in letters}
        rooms = {source_id: self._room(source_id) for source_id in limited}
        for letter in letters:
            values = {name: getattr(letter, name) for name in DeadLetter.__slots__ if name != "id"}
            values = {name: storable(value) if isinstance(value, str) else value for name, value in values.items()}
            values["reason"] = _beginning(values["reason"], _MAX_REASON)
            values["raw"] = None if values["raw"] is None else values["raw"][:_MAX_RAW]
            before = self._unreadable_before(letter)
            if before is not None:  # the same once more: when it was made, and when it is tried again, stand
                self.execute(
                    "UPDATE dead_letters SET reason = ?, start_ms = coalesce(?, start_ms), "
                    "until_ms = coalesce(?, until_ms), fingerprint = coalesce(?, fingerprint), "
                    "raw = coalesce(?, raw) WHERE id = ?",
                    [
                        *(values[name] for name in ("reason", "start_ms", "until_ms", "fingerprint", "raw")),
                        before,
                    ],
                )
                continue
            if letter.score_id is not None:
                self._drop_score_letters(letter.source_id, [str(values["score_id"])])
            if letter.observation_id is not None:
                self._drop_dead_letters(letter.source_id, [(values["trace_id"], values["observation_id"])])
            self.insert("dead_letters", values)
            count(self, letter.source_id, DEAD_LETTERED, letter.kind, letter.spans)
            add_to_history(self, letter.source_id, self.clock.now_ms(), dead_letters=letter.spans)
        for source_id, room in rooms.items():
            self._check_room(source_id, room)

    def _room(self, source_id: int) -> int:
        """Return how many dead letters of a source there is room for, negative when there are too many."""
        if self.max_dead_letters is None:
            return sys.maxsize
        ((count,),) = self.query("SELECT count(*) FROM dead_letters WHERE source_id = ?", [source_id])
        return self.max_dead_letters - int(count)

    def _check_room(self, source_id: int, before: int) -> None:
        """Raise DeadLettersFull for what was added although there was only room for so many before, or for none."""
        more = min(0, before) - self._room(source_id)
        if more > 0:
            raise DeadLettersFull(
                f"{self.path} has no room for {counted(more, 'more dead letter')} of this source: "
                f"{self.max_dead_letters} are kept (SYNC_MAX_DEAD_LETTERS), so the source waits. "
                "Try: `dead-letters list`; then `dead-letters retry --all`, `dead-letters drop --all`, or a larger "
                "SYNC_MAX_DEAD_LETTERS"
            )


def _beginning(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
