"""The state file at its opening: what is ours, what is not, and what is broken."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from sync_worker.errors import StateError
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, file, file_systems, open_ledger
from sync_worker.ledger.file_format import SCHEMA_VERSION
from sync_worker.ledger.merging import merge
from sync_worker.ledger.sources import memory_name
from sync_worker.ledger.sqlite_errors import is_of_the_copy, state_error
from sync_worker.ledger.steps import migrate, step_1, steps
from tests.ledger.made import another_program, letter, note, picture, span
from tests.support.clock import VirtualClock
from tests.support.state import put


def _refused(path: Path, clock: VirtualClock, words: str, **options: bool) -> StateError:
    with pytest.raises(StateError, match=words) as caught:
        open_ledger(path, clock, **options)
    return caught.value


def test_new_file_has_our_mark_and_version(ledger: Ledger, path: Path) -> None:
    """The next program, or another one, would not know whose file it is."""
    ledger.close()
    header = path.read_bytes()[:100]
    assert (header[:16], header[68:72], header[60:64]) == (
        b"SQLite format 3\x00",
        b"LfKl",
        SCHEMA_VERSION.to_bytes(4),
    )


def test_reopening_finds_what_was_kept(ledger: Ledger, path: Path, clock: VirtualClock) -> None:
    """A restart would restart: everything is sent again."""
    ledger.commit_result(1, [span("t", "r", 3)], [letter("t", "bad")])
    ledger.commit_interval(1, "live", Interval(0, 10), [note("t", 3)], [])
    ledger.close()
    again = open_ledger(path, clock, must_exist=True)
    assert set(again.completed_observations(1, ["t"])) == {("t", "r"), ("t", "bad")}
    assert again.completed_intervals(1, "live") == [Interval(0, 10)]
    assert set(again.traces(1, ["t"])) == {"t"}
    again.close()


@pytest.mark.parametrize("is_empty", [False, True])
def test_log_without_its_file_is_kept(ledger: Ledger, path: Path, clock: VirtualClock, *, is_empty: bool) -> None:
    """A new file takes the place of one that was moved away, and SQLite drops the log that holds its last commits."""
    path.rename(path.with_name("away.db"))
    if is_empty:
        path.touch()
    before = path.with_name(path.name + "-wal").stat().st_size
    fault = _refused(path, clock, "the log of its latest commits")
    assert fault.exit_code == 2
    assert path.with_name(path.name + "-wal").stat().st_size == before > 0


def test_write_ahead_log_and_full_sync_are_in_force(ledger: Ledger) -> None:
    """A commit that returned could be lost by a power cut, and what it noted would be sent twice."""
    assert ledger.query("PRAGMA journal_mode") == [("wal",)]
    assert ledger.query("PRAGMA synchronous") == [(2,)]


def test_network_file_system_gets_no_write_ahead_log(
    path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log's shared memory does not work there: the file would be damaged. A file from a local disk changes over."""
    open_ledger(path, clock).close()
    monkeypatch.setattr(file_systems, "file_system", lambda _: "nfs4")
    ledger = open_ledger(path, clock)
    put(ledger, "scope", "name", "value")
    assert ledger.query("PRAGMA journal_mode") == [("truncate",)]
    assert ledger.query("PRAGMA synchronous") == [(2,)]
    ledger.close()


def test_a_name_that_is_no_text(tmp_path: Path, clock: VirtualClock) -> None:
    """A file system may hold names that are no UTF-8: such a file would be called damaged, or could not be merged."""
    made = []
    for name in (b"state-\xff.db", b"other-\xff.db"):
        path = tmp_path / os.fsdecode(name)
        open_ledger(path, clock).close()
        made.append(open_ledger(path, clock))
    own, other = made
    assert (own.in_memory, other.in_memory) == (False, False)
    other.store_source("key", "https://lf.example", "a", "kelet", "A", "org")
    assert merge(own, other).sources == 1
    for ledger in made:
        ledger.close()


def test_empty_file_becomes_a_state_file(path: Path, clock: VirtualClock) -> None:
    """A file made by `touch` or by a volume mount would be refused."""
    path.touch()
    ledger = open_ledger(path, clock, must_exist=True)
    assert ledger.sources() == []
    ledger.close()


def test_step_that_raises_leaves_the_old_version(
    path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-done step would leave a file that no version understands, or would be done twice."""
    before = open_ledger(path, clock)
    put(before, "scope", "name", "value")
    version = before.query("PRAGMA user_version")
    before.close()
    broken = True
    next_steps = Migrations(steps.name)
    for known in steps._migrations:
        next_steps(name=known.name)(known.fn)

    @next_steps(name="step_next")
    def step_next(db: Database) -> None:
        db.table("state_keys").add_column("more", str)
        db.conn.execute("UPDATE state_keys SET value = 'changed'")
        db.conn.execute(f"PRAGMA user_version = {version[0][0] + 1}")
        if broken:
            raise StateError("in the middle")

    monkeypatch.setattr("sync_worker.ledger.steps.steps", next_steps)
    monkeypatch.setattr(file, "SCHEMA_VERSION", version[0][0] + 1)
    _refused(path, clock, "in the middle")

    with closing(sqlite3.connect(path)) as raw, raw:
        assert raw.execute("PRAGMA user_version").fetchall() == version
        assert raw.execute("SELECT * FROM state_keys WHERE scope != 'file'").fetchall() == [("scope", "name", "value")]
    raw.close()
    broken = False
    after = open_ledger(path, clock)
    assert after.query("SELECT DISTINCT value, more FROM state_keys") == [("changed", None)]
    after.close()


@pytest.mark.parametrize(
    ("code", "words", "transient"),
    [
        ("SQLITE_BUSY", "is locked by another program", True),
        ("SQLITE_FULL", "is full or failing", True),
        ("SQLITE_IOERR_WRITE", "is full or failing", True),
        ("SQLITE_READONLY", "cannot be written", False),
        ("SQLITE_NOTADB", "is not a SQLite file", False),
        ("SQLITE_CORRUPT", "is damaged", False),
    ],
)
def test_errors_say_whether_they_pass(path: Path, code: str, words: str, *, transient: bool) -> None:
    """A supervisor would give up for a moment's lock, or start for ever on a file that cannot be written."""
    error = sqlite3.OperationalError("text")
    error.sqlite_errorname = code
    found = state_error(path, error)
    assert words in str(found)
    assert found.exit_code == (1 if transient else 2)


@pytest.mark.parametrize(
    ("code", "of_the_copy"),
    [
        ("SQLITE_FULL", True),
        ("SQLITE_IOERR_WRITE", True),
        ("SQLITE_CANTOPEN", True),
        ("SQLITE_BUSY", False),
        ("SQLITE_CORRUPT", False),
        ("", False),
    ],
)
def test_whose_error_it_is(code: str, *, of_the_copy: bool) -> None:
    """A full disk of a backup would be told as one of the state file, or damage of that as one of the copy."""
    error = sqlite3.OperationalError("text")
    error.sqlite_errorname = code
    assert is_of_the_copy(error) is of_the_copy


def test_first_step_is_as_it_was_released(path: Path) -> None:
    """A step that was released and is changed later makes two kinds of files with one version."""
    db = Database(sqlite3.connect(path))
    step_1(db)
    tables = {name: ",".join(row[1] for row in db.execute(f"PRAGMA table_info({name})")) for name in db.table_names()}
    db.close()
    assert tables == {
        "sources": "id,langfuse_url,project_id,project_name,organization_id,sync_start_ms,created_ms",
        "keys": "hash,source_id,checked_ms",
        "state_keys": "scope,name,value",
        "coverage": "source_id,role,from_ms,to_ms",
        "traces": "source_id,trace_id,pending,earliest_ms,newest_ms,pending_ms,check_ms,project,context",
        "sent": "source_id,trace_id,observation_id,start_ms,updated_ms,fingerprint,sent_ms",
        "dead_letters": "id,source_id,trace_id,observation_id,kind,status,reason,project,start_ms,fingerprint,raw,spans"
        ",made_ms",
        "leases": "role,token,host,boot,pid,taken_ms,heartbeat_ms,from_ms,to_ms",
        "runs": "id,command,started_ms,ended_ms,exit_code,report",
    }


def test_a_new_file_is_what_the_steps_make(path: Path) -> None:
    """A new file would lack a table, an index or a note that a step ran, and the next step would find it otherwise."""
    by_steps, at_once = (sqlite3.connect(path.with_name(name), isolation_level=None) for name in ("steps", "once"))
    steps.apply(Database(by_steps))
    migrate(at_once)
    assert _all_of(at_once) == _all_of(by_steps)
    by_steps.close()
    at_once.close()


def _all_of(connection: sqlite3.Connection) -> list[object]:
    schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    tables = [name for kind, name, _, _ in schema if kind == "table"]
    notes = connection.execute("SELECT migration_set, name FROM _sqlite_migrations").fetchall()
    counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchall() for table in tables]
    pragmas = [connection.execute(f"PRAGMA {name}").fetchall() for name in ("application_id", "user_version")]
    return [schema, notes, counts, pragmas]


def test_file_of_the_first_version_is_brought_up(path: Path, clock: VirtualClock) -> None:
    """An update of the worker would lose what was done, or could not write the old file."""
    old = sqlite3.connect(path, isolation_level=None)
    steps.apply(Database(old), stop_before="step_2")
    old.execute("INSERT INTO sent VALUES (1, 't', 'r', 10, 7, x'00', 20)")
    old.execute("INSERT INTO traces VALUES (1, 't', 0, 10, 11, NULL, 0, 'p', '{}')")
    old.execute("INSERT INTO coverage VALUES (1, 'live', 0, 100)")
    old.execute("INSERT INTO sources VALUES (1, 'https://a', 'p1', 'Name', 'org', 500, 1)")
    old.execute("INSERT INTO keys VALUES ('k', 1, 3)")
    old.execute("INSERT INTO state_keys VALUES ('merged f', 'https://a p1', '{}')")
    letters = [(1, "t", "odd", "unreadable"), (1, "t", "bad", "rejected"), (1, None, None, "unreadable")]
    old.executemany(
        "INSERT INTO dead_letters (source_id, trace_id, observation_id, kind, reason, made_ms) "
        "VALUES (?, ?, ?, ?, 'why', 3)",
        letters,
    )
    assert old.execute("PRAGMA user_version").fetchone() == (1,)
    old.close()
    ledger = open_ledger(path, clock)
    assert path.with_name(f"{path.name}.schema-1").stat().st_size > 0  # a copy from before
    assert ledger.query("PRAGMA user_version") == [(SCHEMA_VERSION,)]
    source = ledger.source_by_key("k", "kelet")
    assert source is not None
    assert (source.id, source.target, source.sync_start_ms, source.checked_ms) == (1, "kelet", 500, 3)
    assert ledger.source_by_key("k", "tempo") is None
    assert ledger.stored_key("merged f", memory_name("https://a", "p1", "kelet")) == "{}"
    assert set(ledger.completed_observations(1, ["t"])) == {("t", "r"), ("t", "odd"), ("t", "bad")}
    assert [one.observation_id for one in ledger.dead_letters_due(1, 3, 10)] == ["odd"]
    ledger.commit_result(1, [span("t", "r2", 12)], [])
    assert (ledger.completed_intervals(1, "live"), ledger.forget(1, 100, [Interval(0, 100)])) == ([Interval(0, 100)], 1)
    ledger.close()


def test_limits_and_waits_of_an_old_file_become_those_of_observations(path: Path, clock: VirtualClock) -> None:
    """After an update the worker would ask beyond Langfuse's limit, or before a wait is over, until told again."""
    old = sqlite3.connect(path, isolation_level=None)
    steps.apply(Database(old), stop_before="step_5")
    names = ("requests_per_minute", "blocked")
    old.executemany("INSERT INTO state_keys VALUES ('organization o', ?, '30')", [(name,) for name in names])
    old.execute("INSERT INTO requests VALUES (1, 'organization o', 5, 1)")
    old.close()
    ledger = open_ledger(path, clock)
    scope = "organization o public-api"
    (limit,) = ledger.query("SELECT value FROM state_keys WHERE scope = ? AND name = 'limit'", [scope])
    count, seconds, reported_ms = limit[0].split()
    assert (count, seconds) == ("30", "60")
    assert abs(int(reported_ms) - time.time() * 1000) < 600_000
    assert ledger.query("SELECT value FROM state_keys WHERE scope = ? AND name = 'blocked'", [scope]) == [("30",)]
    assert ledger.query("SELECT bucket, sent_ms FROM requests") == [(scope, 5)]
    ledger.close()


def test_trace_claims_of_an_old_file_are_dropped(path: Path, clock: VirtualClock) -> None:
    """Claims that do not tell whose they are would keep their traces from being sent, or break the update."""
    old = sqlite3.connect(path, isolation_level=None)
    steps.apply(Database(old), stop_before="step_13")
    old.execute("INSERT INTO trace_claims VALUES (1, 't', 'live')")
    old.close()
    ledger = open_ledger(path, clock)
    assert ledger.query("SELECT * FROM trace_claims") == []
    ledger.close()


def test_newer_version_is_refused_untouched(ledger: Ledger, path: Path, clock: VirtualClock) -> None:
    """An older program, started by mistake, would write what the newer one does not expect."""
    ledger.connection.execute("PRAGMA user_version = 1000")
    ledger.close()
    before = picture(path.parent)
    error = _refused(path, clock, "newer version of the worker")
    assert (picture(path.parent), error.exit_code) == (before, 2)


def test_newer_version_still_in_the_log_is_refused_untouched(path: Path, clock: VirtualClock) -> None:
    """The header tells the old version while a killed newer program's last word stands in the log."""
    writer = open_ledger(path, clock)
    writer.connection.execute("PRAGMA user_version = 1000")
    shutil.copytree(path.parent, path.parent / "killed")
    writer.close()
    killed = path.parent / "killed"
    before = picture(killed)
    _refused(killed / path.name, clock, "newer version of the worker")
    after = picture(killed)
    for name in (path.name, path.name + "-wal"):
        assert after[name] == before[name]


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE notes (x)", "INSERT INTO notes VALUES (1)"),
        ("PRAGMA journal_mode = wal", "CREATE TABLE notes (x)"),
        ("PRAGMA application_id = 77",),
        ("PRAGMA user_version = 1",),
        ("CREATE TABLE leases (x)", "PRAGMA user_version = 1", "PRAGMA application_id = 77"),
    ],
)
def test_file_of_another_program_is_refused_untouched(
    path: Path, clock: VirtualClock, statements: tuple[str, ...]
) -> None:
    """Our tables in somebody's database, or merely two more files beside it, are damage done."""
    another_program(path, *statements)
    before = picture(path.parent)
    error = _refused(path, clock, "another program")
    assert (picture(path.parent), error.exit_code) == (before, 2)


def test_log_of_another_program_is_not_folded_in(path: Path, clock: VirtualClock) -> None:
    """Closing a database folds its log into it: another program's file would change by being looked at."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("CREATE TABLE notes (x)")
    killed = path.parent / "killed"
    shutil.copytree(path.parent, killed)
    connection.close()
    before = picture(killed)
    _refused(killed / path.name, clock, "another program")
    after = picture(killed)
    for name in (path.name, path.name + "-wal"):
        assert after[name] == before[name]


@pytest.mark.parametrize("content", [b"hello", b"SQLite format 2\x00" + bytes(200), bytes(4096), b"S"])
def test_other_files_are_refused_untouched(path: Path, clock: VirtualClock, content: bytes) -> None:
    """SYNC_STATE_PATH=notes.txt would cost the notes."""
    path.write_bytes(content)
    before = picture(path.parent)
    error = _refused(path, clock, "not a SQLite file")
    assert (picture(path.parent), error.exit_code) == (before, 2)


def test_places_that_hold_no_file(tmp_path: Path, clock: VirtualClock) -> None:
    """The operator would read the words of a library, or wait for a pipe for ever."""
    _refused(tmp_path, clock, "is a folder. Try: SYNC_STATE_PATH=.*sync-state.db")
    _refused(tmp_path / "no such" / "state.db", clock, "does not exist: .*Try: mkdir -p '.*no such'")
    _refused(tmp_path / "state.db", clock, "there is no state file", must_exist=True)
    assert picture(tmp_path) == {}
    os.mkfifo(tmp_path / "pipe")
    _refused(tmp_path / "pipe", clock, "not a file")
    (tmp_path / "file").write_text("")
    _refused(tmp_path / "file" / "state.db", clock, "file cannot be the folder of a state file. Try: another")
    _refused(tmp_path / ("x" * 300), clock, "cannot be opened: File name too long")


def test_folder_that_may_not_be_read(path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the operating system would pass as an unexpected one."""

    def refuse(*_: object, **__: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    error = _refused(path, clock, "cannot be opened: Permission denied. Try: ")
    assert error.exit_code == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold root back")
def test_read_only_folder_is_reported(path: Path, clock: VirtualClock) -> None:
    """The operator would not learn that it is a matter of permissions."""
    path.parent.chmod(0o500)
    _refused(path, clock, "write permission")
    path.parent.chmod(0o700)


def test_file_that_cannot_be_written_is_reported(ledger: Ledger) -> None:
    """The operator would not learn that it is a matter of permissions."""
    ledger.connection.execute("PRAGMA query_only = 1")
    with pytest.raises(StateError, match="write permission") as caught:
        put(ledger, "scope", "name", "value")
    assert caught.value.exit_code == 2


def test_damage_is_recognised_at_open(ledger: Ledger, path: Path, clock: VirtualClock) -> None:
    """The worker would go on until it meets the broken page: too late, in the middle of a cycle, for ever."""
    ledger.commit_result(1, [span(f"trace-{n}", f"row-{n}", n) for n in range(2000)], [])
    ledger.close()
    whole = path.read_bytes()
    page = 4096
    chance = random.Random(4)
    for number in chance.sample(range(2, len(whole) // page), 12):
        path.write_bytes(whole[: number * page] + chance.randbytes(page) + whole[(number + 1) * page :])
        before = picture(path.parent)
        error = _refused(path, clock, "is damaged .*Try: restore it from a backup; or `sqlite3 ")
        assert "\n" not in str(error)
        assert (picture(path.parent), error.exit_code) == (before, 2)


@pytest.mark.parametrize("kept", [50, 100, 5000, 9000])
def test_cut_file_is_recognised(ledger: Ledger, path: Path, clock: VirtualClock, kept: int) -> None:
    """A copy that broke off would be used."""
    ledger.commit_result(1, [span(f"trace-{n}", f"row-{n}", n) for n in range(500)], [])
    ledger.close()
    path.write_bytes(path.read_bytes()[:kept])
    _refused(path, clock, "is damaged|not a SQLite file")


def test_read_of_a_damaged_page_is_explained(ledger: Ledger, path: Path, clock: VirtualClock) -> None:
    """A disk that goes bad under a running worker would show as an error of the library."""
    ledger.commit_result(1, [span(f"trace-{n}", f"row-{n}", n) for n in range(2000)], [])
    ledger.close()
    ledger = open_ledger(path, clock)
    ledger.connection.execute("PRAGMA cache_size = 0")
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + bytes(len(whole) - 8192))
    with pytest.raises(StateError, match="is damaged"):
        ledger.completed_observations(1, [f"trace-{n}" for n in range(2000)])
    ledger.close()


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let a test say what is mounted."""
    lines: list[str] = []
    read = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda self, **options: "\n".join(lines) if str(self) == "/proc/self/mounts" else read(self, **options),
    )
    return lines


def test_network_file_systems_are_known(mounts: list[str]) -> None:
    """The deepest mount decides, not a sibling with the same beginning; else the log is used where it breaks."""
    mounts += [
        "/dev/vda / ext4 rw 0 0",
        "server:/x /srv/with\\040space nfs4 rw 0 0",
        "//server/y /srv cifs rw 0 0",
        "tmpfs /srv/local tmpfs rw 0 0",
        "odd",
    ]
    places = ("/x.db", "/srv/x.db", "/srv/local/a/x.db", "/srvx/x.db")
    assert [file_systems.file_system(Path(name)) for name in places] == ["ext4", "cifs", "tmpfs", "ext4"]
    assert file_systems.on_network(Path("/srv/with space/x.db"))
    assert not file_systems.on_network(Path("/srv/local/x.db"))
