"""The schema, as steps from one version to the next. A step that has been released is never changed.

Each step runs in a transaction together with the note that it ran, so a kill in the middle leaves the file as it was.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from sync_worker.ledger.file_format import APPLICATION_ID

#: What `iterdump` puts around the statements.
_TRANSACTION = frozenset({"BEGIN TRANSACTION;", "COMMIT;"})

steps = Migrations("sync_worker")


@steps()
def step_1(db: Database) -> None:
    """Make the tables of version 1. Times are Unix milliseconds."""
    db.table("sources").create(
        {
            "id": int,
            "langfuse_url": str,
            "project_id": str,
            "project_name": str,
            "organization_id": str,
            "sync_start_ms": int,  # nothing that starts before is sent by the live sync; set once
            "created_ms": int,
        },
        pk="id",
        not_null={"langfuse_url", "project_id", "created_ms"},
    )
    db.table("sources").create_index(["langfuse_url", "project_id"], unique=True)
    # Which source a pair of keys opened, so that an idle run need not ask: a hash of address and public key.
    db.table("keys").create({"hash": str, "source_id": int, "checked_ms": int}, pk="hash")
    db.table("state_keys").create({"scope": str, "name": str, "value": str}, pk=("scope", "name"))
    # Intervals of start times proven done, by role ("live", "backfill"); merged when they touch.
    db.table("coverage").create(
        {"source_id": int, "role": str, "from_ms": int, "to_ms": int}, pk=("source_id", "role", "from_ms")
    )
    db.conn.execute(
        """CREATE TABLE traces (
             source_id INTEGER NOT NULL, trace_id TEXT NOT NULL,
             pending INTEGER NOT NULL,       -- 1: some of its observations still wait
             earliest_ms INTEGER NOT NULL,  -- start of the first observation that waits, or was seen
             newest_ms INTEGER NOT NULL,    -- latest start, end or update of any observation seen
             pending_ms INTEGER,             -- when it was first pending
             check_ms INTEGER NOT NULL,     -- not looked at again before
             project TEXT,                  -- the Kelet project it was routed to, decided once
             context TEXT NOT NULL,         -- what its observations state about the whole trace, JSON
             PRIMARY KEY (source_id, trace_id)) WITHOUT ROWID"""
    )
    db.conn.execute("CREATE INDEX traces_pending ON traces (source_id, check_ms) WHERE pending = 1")
    db.conn.execute("CREATE INDEX traces_newest ON traces (source_id, newest_ms)")
    db.conn.execute(
        """CREATE TABLE sent (
             source_id INTEGER NOT NULL, trace_id TEXT NOT NULL, observation_id TEXT NOT NULL,
             start_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, fingerprint BLOB NOT NULL,
             sent_ms INTEGER NOT NULL,
             PRIMARY KEY (source_id, trace_id, observation_id)) WITHOUT ROWID"""
    )
    db.table("dead_letters").create(
        {
            "id": int,
            "source_id": int,
            "trace_id": str,
            "observation_id": str,
            "kind": str,  # rejected, unreadable, partial
            "status": int,  # Kelet's answer, where one was given
            "reason": str,
            "project": str,
            "start_ms": int,
            "fingerprint": bytes,
            "raw": str,  # only of an observation that cannot be fetched again
            "spans": int,  # more than 1 only for a partial success
            "made_ms": int,
        },
        pk="id",
        not_null={"source_id", "kind", "reason", "made_ms"},
    )
    db.table("dead_letters").create_index(["source_id", "trace_id", "observation_id"])
    db.table("leases").create(
        {
            "role": str,
            "token": str,
            "host": str,
            "boot": str,
            "pid": int,
            "taken_ms": int,
            "heartbeat_ms": int,
            "from_ms": int,  # the interval a backfill works on
            "to_ms": int,
        },
        pk="role",
    )
    db.table("runs").create(
        {
            "id": int,
            "command": str,
            "started_ms": int,
            "ended_ms": int,
            "exit_code": int,
            "report": str,  # JSON
        },
        pk="id",
    )
    db.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.conn.execute("PRAGMA user_version = 1")


@steps()
def step_2(db: Database) -> None:
    """Keep which request sent an observation, and hourly counts of those forgotten."""
    db.table("deliveries").create({"id": int, "source_id": int, "sent_ms": int, "spans": int, "project": str}, pk="id")
    db.table("sent").add_column("delivery", int)
    db.table("hourly_counts").create({"source_id": int, "hour": int, "rows": int}, pk=("source_id", "hour"))
    db.conn.execute("PRAGMA user_version = 2")


@steps()
def step_3(db: Database) -> None:
    """Keep which requests went to Langfuse lately, so that all processes keep to one limit together."""
    db.conn.execute(
        """CREATE TABLE requests (
             id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: who read up to one reads on behind it
             organization TEXT NOT NULL, sent_ms INTEGER NOT NULL,
             live INTEGER NOT NULL)                 -- 1: of the live sync"""
    )
    db.conn.execute("PRAGMA user_version = 3")


@steps()
def step_4(db: Database) -> None:
    """Keep which intervals each run is at work on, by source, and which traces went before their root had ended."""
    db.table("claims").create(
        {"source_id": int, "role": str, "from_ms": int, "to_ms": int}, pk=("source_id", "role", "from_ms")
    )
    db.conn.execute("ALTER TABLE leases DROP COLUMN from_ms")
    db.conn.execute("ALTER TABLE leases DROP COLUMN to_ms")
    # Since when a trace's root is looked for, its observations sent; null: it is not.
    db.conn.execute("ALTER TABLE traces ADD COLUMN open_ms INTEGER")
    db.conn.execute("CREATE INDEX traces_open ON traces (source_id, check_ms) WHERE open_ms IS NOT NULL")
    db.conn.execute("PRAGMA user_version = 4")


@steps()
def step_5(db: Database) -> None:
    """Keep requests, limits and waits by Langfuse's bucket; what was stored before belongs to that of observations.

    A limit has a window of its own and the time at which it was reported.
    """
    db.conn.execute("ALTER TABLE requests RENAME COLUMN organization TO bucket")
    db.conn.execute("UPDATE requests SET bucket = bucket || ' public-api'")
    now_ms = "(CAST(strftime('%s', 'now') AS INTEGER) * 1000)"
    db.conn.execute(
        f"""UPDATE state_keys SET scope = scope || ' public-api', name = 'limit', value = value || ' 60 ' || {now_ms}
            WHERE name = 'requests_per_minute' AND scope LIKE 'organization %'"""
    )
    db.conn.execute(
        "UPDATE state_keys SET scope = scope || ' public-api' WHERE name = 'blocked' AND scope LIKE 'organization %'"
    )
    db.conn.execute("PRAGMA user_version = 5")


@steps()
def step_6(db: Database) -> None:
    """Keep what is to be read once more, and when a dead letter is tried again by itself."""
    db.conn.execute(
        """CREATE TABLE second_reads (
             source_id INTEGER NOT NULL, trace_id TEXT NOT NULL, observation_id TEXT NOT NULL, start_ms INTEGER NOT
             NULL, due_ms INTEGER NOT NULL,  -- not read again before
             tries INTEGER NOT NULL,   -- how often it was read again without a result
             PRIMARY KEY (source_id, trace_id, observation_id)) WITHOUT ROWID"""
    )
    db.conn.execute("CREATE INDEX second_reads_due ON second_reads (source_id, due_ms)")
    db.conn.execute("ALTER TABLE dead_letters ADD COLUMN tries INTEGER NOT NULL DEFAULT 0")
    db.conn.execute("ALTER TABLE dead_letters ADD COLUMN next_try_ms INTEGER")  # NULL: never by itself
    db.conn.execute("ALTER TABLE dead_letters ADD COLUMN until_ms INTEGER")  # its start lies before; NULL: is known
    db.conn.execute(
        "UPDATE dead_letters SET next_try_ms = made_ms WHERE kind = 'unreadable' AND observation_id IS NOT NULL"
    )
    db.conn.execute("PRAGMA user_version = 6")


@steps()
def step_7(db: Database) -> None:
    """Keep which setting decided the Kelet project of a trace, so that it follows the setting."""
    db.conn.execute("ALTER TABLE traces ADD COLUMN origin TEXT")  # NULL: not known
    db.conn.execute("PRAGMA user_version = 7")


@steps()
def step_8(db: Database) -> None:
    """Make a source a pair of a Langfuse project and a target, so that one project can be synced to several targets."""
    db.conn.execute("ALTER TABLE sources ADD COLUMN target TEXT NOT NULL DEFAULT 'kelet'")
    db.conn.execute("DROP INDEX idx_sources_langfuse_url_project_id")
    db.table("sources").create_index(["langfuse_url", "project_id", "target"], unique=True)
    db.table("keys_of_targets").create(
        {"hash": str, "target": str, "source_id": int, "checked_ms": int}, pk=("hash", "target")
    )
    db.conn.execute("INSERT INTO keys_of_targets SELECT hash, 'kelet', source_id, checked_ms FROM keys")
    db.conn.execute("DROP TABLE keys")
    db.conn.execute("ALTER TABLE keys_of_targets RENAME TO keys")
    db.conn.execute("UPDATE state_keys SET name = name || ' kelet' WHERE scope GLOB 'merged *'")
    db.conn.execute("PRAGMA user_version = 8")


@steps()
def step_9(db: Database) -> None:
    """Keep which traces a run is sending."""
    db.conn.execute(
        """CREATE TABLE trace_claims (
             source_id INTEGER NOT NULL, trace_id TEXT NOT NULL, role TEXT NOT NULL,
             PRIMARY KEY (source_id, trace_id)) WITHOUT ROWID"""
    )
    db.conn.execute("PRAGMA user_version = 9")


@steps()
def step_10(db: Database) -> None:
    """Keep which rules left a trace out, which rules an interval was read under, and what is to be sent whole."""
    db.conn.execute("ALTER TABLE traces ADD COLUMN left_out_by TEXT")  # NULL: by none
    db.conn.execute("ALTER TABLE traces ADD COLUMN rules TEXT")  # the digest of the rules that left it out
    db.conn.execute("CREATE INDEX traces_left_out ON traces (source_id, left_out_by) WHERE left_out_by IS NOT NULL")
    db.conn.execute("ALTER TABLE coverage ADD COLUMN rules TEXT NOT NULL DEFAULT ''")  # '': left nothing out
    db.table("rules").create({"digest": str, "text": str}, pk="digest", not_null={"text"})
    db.conn.execute(
        """CREATE TABLE whole_traces (
             source_id INTEGER NOT NULL, trace_id TEXT NOT NULL,
             PRIMARY KEY (source_id, trace_id)) WITHOUT ROWID"""
    )
    db.conn.execute("PRAGMA user_version = 10")


@steps()
def step_11(db: Database) -> None:
    """Keep what became of scores, which intervals of them backfills have completed, and their dead letters."""
    db.conn.execute(
        """CREATE TABLE scores (
             source_id INTEGER NOT NULL, score_id TEXT NOT NULL,
             content BLOB NOT NULL,         -- of the state seen last
             timestamp_ms INTEGER NOT NULL,
             trace_id TEXT, session_id TEXT,
             state TEXT NOT NULL,           -- waiting, sent, filtered, ...: see ScoreNote
             reason TEXT,                   -- why it waits, or which rule filtered it
             seen_ms INTEGER NOT NULL,      -- when this content was first seen
             check_ms INTEGER NOT NULL,     -- of one that waits: not looked at again before
             tries INTEGER NOT NULL,        -- of one that waits: runs in which Kelet failed at it, or lookups
             sent_ms INTEGER, sent_content BLOB, project TEXT,  -- of what Kelet accepted last
             owner TEXT,                    -- the lease under which it is being sent
             PRIMARY KEY (source_id, score_id)) WITHOUT ROWID"""
    )
    db.conn.execute("CREATE INDEX scores_time ON scores (source_id, timestamp_ms)")
    db.conn.execute("CREATE INDEX scores_waiting ON scores (source_id, check_ms) WHERE state = 'waiting'")
    db.conn.execute("CREATE INDEX scores_trace ON scores (source_id, trace_id)")
    db.conn.execute(
        """CREATE TABLE score_coverage (
             source_id INTEGER NOT NULL,
             selection TEXT NOT NULL,      -- of names: see `signals.names.Selection`
             window_ms INTEGER NOT NULL,   -- 0: read by a backfill; else see ReadScores
             from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL,
             PRIMARY KEY (source_id, selection, window_ms, from_ms)) WITHOUT ROWID"""
    )
    db.conn.execute("ALTER TABLE dead_letters ADD COLUMN score_id TEXT")
    db.conn.execute("PRAGMA user_version = 11")


@steps()
def step_12(db: Database) -> None:
    """Keep what happened in the last day, in slots of five minutes, and have dead letters counted by an index."""
    db.conn.execute(
        """CREATE TABLE history (
             source_id INTEGER NOT NULL, slot INTEGER NOT NULL,  -- counted from 1970
             watermark_ms INTEGER,           -- at the end of the slot; NULL: where it was before
             spans INTEGER NOT NULL, signals INTEGER NOT NULL,  -- accepted
             dead_letters INTEGER NOT NULL,  -- spans and scores that became some
             PRIMARY KEY (source_id, slot)) WITHOUT ROWID"""
    )
    db.conn.execute("CREATE INDEX dead_letters_kinds ON dead_letters (source_id, kind, status, made_ms, spans)")
    db.conn.execute("PRAGMA user_version = 12")


@steps()
def step_13(db: Database) -> None:
    """Keep for which of its processes, and for what of its work, a run claims a trace."""
    db.conn.execute("DROP TABLE trace_claims")
    db.conn.execute(
        """CREATE TABLE trace_claims (
             source_id INTEGER NOT NULL, trace_id TEXT NOT NULL, role TEXT NOT NULL,
             job INTEGER NOT NULL,     -- the number of a job's process; 0: the run's own
             holder INTEGER NOT NULL,  -- what of the process works on it
             PRIMARY KEY (source_id, trace_id, role, job, holder)) WITHOUT ROWID"""
    )
    db.conn.execute("PRAGMA user_version = 13")


@steps()
def step_14(db: Database) -> None:
    """Keep which traces were decided on otherwise than by the rules under which their time was read."""
    db.conn.execute("ALTER TABLE traces ADD COLUMN exceptional INTEGER NOT NULL DEFAULT 0")  # 1: it is not forgotten
    db.conn.execute("CREATE INDEX traces_exceptional ON traces (source_id) WHERE exceptional = 1")
    db.conn.execute("PRAGMA user_version = 14")


def migrate(connection: sqlite3.Connection) -> None:
    """Run the steps that a file has not had, within the caller's transaction; a new file gets what they make."""
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None:
        for statement in _of_a_new_file(steps):
            connection.execute(statement)
    else:
        steps.apply(Database(connection, execute_plugins=False))


@functools.cache
def _of_a_new_file(steps: Migrations) -> Sequence[str]:
    """Return the statements that make a file with all steps; the steps run once, in memory."""
    memory = sqlite3.connect(":memory:", isolation_level=None)
    try:
        steps.apply(Database(memory, execute_plugins=False))
        made = [statement for statement in memory.iterdump() if statement not in _TRANSACTION]
        pragmas = ("application_id", "user_version")
        return made + [f"PRAGMA {name} = {memory.execute(f'PRAGMA {name}').fetchone()[0]}" for name in pragmas]
    finally:
        memory.close()
