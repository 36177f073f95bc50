"""One state file into another: what is known twice stays once, and nobody's live sync is invented or moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from sync_worker.errors import StateError
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, ScoreNote, open_ledger, state_keys
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.ledger.merging import merge
from sync_worker.ledger.steps import step_1, steps
from tests.ledger.made import letter, note, picture, sent_observations, span
from tests.support.clock import VirtualClock
from tests.support.state import put

Make = Callable[..., Ledger]
HOUR = 3_600_000
URL = "https://lf.example"


@pytest.fixture
def make(tmp_path: Path, clock: VirtualClock) -> Iterator[Make]:
    """Make a state file that knows these projects, in this order."""
    with ExitStack() as stack:

        def made(name: str, *projects: str) -> Ledger:
            ledger = open_ledger(tmp_path / f"{name}.db", clock)
            stack.callback(ledger.close)
            for project in projects:
                ledger.store_source(f"key of {project}", URL, project, "kelet", project.upper(), "org")
            return ledger

        yield made


def _all(ledger: Ledger) -> dict[str, list[object]]:
    tables = (
        "sources",
        "keys",
        "state_keys",
        "coverage",
        "traces",
        "sent",
        "deliveries",
        "hourly_counts",
        "dead_letters",
    )
    return {table: ledger.query(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables}


def test_sources_are_matched_by_what_they_are(make: Make) -> None:
    """Rows of one project would count as sent of another, whose number in the other file is the same."""
    own, other = make("own", "a"), make("other", "b", "a")
    other.commit_result(1, [span("t", "of b")], [letter("t", "bad b")])
    other.commit_result(2, [span("t", "of a")], [])
    other.commit_interval(2, BACKFILL, Interval(0, 10), [note("t")], [])
    merge(own, other)
    assert [(source.id, source.project_id, source.project_name) for source in own.sources()] == [
        (1, "a", "A"),
        (2, "b", "B"),
    ]
    assert set(own.completed_observations(1, ["t"])) == {("t", "of a")}
    assert set(own.completed_observations(2, ["t"])) == {("t", "of b"), ("t", "bad b")}
    assert (own.completed_intervals(1, BACKFILL), own.completed_intervals(2, BACKFILL)) == ([Interval(0, 10)], [])
    known = own.source_by_key("key of b", "kelet")
    assert known is not None
    assert known.id == 2


def test_a_live_sync_is_taken_over_where_there_is_none(make: Make) -> None:
    """The live sync would restart at SYNC_START, and what was pending would never be sent."""
    own, other = make("own"), make("other", "a")
    other.set_sync_start(1, 100)
    other.commit_interval(1, LIVE, Interval(100, 500), [note("waits", 200, pending=True, check_ms=7, pending_ms=3)], [])
    put(other, "source 1", "late 7200000", "450")
    put(other, "source 1", "arrival_delay", "[1]")
    merge(own, other)
    assert own.sources()[0].sync_start_ms == 100
    assert (own.completed_intervals(1, LIVE), own.completed_intervals(1, BACKFILL)) == ([Interval(100, 500)], [])
    assert own.traces(1, ["waits"])["waits"].pending
    assert [own.stored_key("source 1", name) for name in ("late 7200000", "arrival_delay")] == ["450", None]
    before = _all(own)
    merge(own, other)
    assert _all(own) == before


def test_another_live_sync_counts_as_backfilled(make: Make) -> None:
    """The edge would move over time that nobody read, or rows that a trace waited for would never be sent."""
    own, other = make("own", "a"), make("other", "a")
    own.set_sync_start(1, 1_000)
    own.commit_interval(1, LIVE, Interval(1_000, 2_000), [], [])
    other.set_sync_start(1, 100)
    other.commit_interval(1, LIVE, Interval(100, 500), [note("waits", 200, 250, pending=True, pending_ms=3)], [])
    put(other, "source 1", "late 7200000", "450")
    merge(own, other)
    assert own.sources()[0].sync_start_ms == 1_000
    assert own.completed_intervals(1, LIVE) == [Interval(1_000, 2_000)]
    assert own.completed_intervals(1, BACKFILL) == [Interval(100, 200), Interval(251, 500)]
    assert own.pending(1).count == 0
    assert own.stored_key("source 1", "late 7200000") is None


def test_a_trace_that_waits_here_waits_on(make: Make) -> None:
    """The live sync would never send the rows that it pending, because a backfill has sent others of the trace."""
    own, other = make("own", "a"), make("other", "a")
    own.set_sync_start(1, 0)
    pending = note("t", 50, 60, pending=True, check_ms=9, pending_ms=8, context={"user_id": "u", "agents": {"x": "X"}})
    own.commit_interval(1, LIVE, Interval(0, 100), [pending], [])
    session = {"session_id": "s", "user_id": "other", "agents": {"y": "Y"}}
    other.store_traces(1, [note("t", 10, 70, project="p", context=session)])
    merge(own, other)
    found = own.traces(1, ["t"])["t"]
    assert (found.pending, found.check_ms, found.pending_ms) == (True, 9, 8)
    assert (found.earliest_ms, found.newest_ms, found.project) == (10, 70, "p")
    assert found.context == {"user_id": "u", "session_id": "s", "agents": {"x": "X", "y": "Y"}}


def test_what_was_learnt(make: Make) -> None:
    """The limit would be run into again, or what is known here be replaced by what another machine saw."""
    own, other = make("own", "a"), make("other", "a")
    put(own, "organization x public-api", "limit", "30 60 5")
    for scope, name, value in (
        ("organization x public-api", "limit", "20 60 6"),
        ("organization y public-api", "limit", "10 60 7"),
        ("organization y", "of this minute", "1"),
        ("target k", "gzip_rejected", "1"),
        ("source 1", "id mapping", "1"),
        ("source 1", "arrival_delay", "[1]"),
        ("source 1", "rejected_in_a_row", "7"),
        ("source 1", "interval_ms", "5"),
        ("source 1", "forgotten before", "900"),
    ):
        put(other, scope, name, value)
    put(own, "source 1", "forgotten before", "1000")
    merge(own, other)
    assert own.query(
        "SELECT scope, name, value FROM state_keys WHERE scope != 'file' AND scope NOT GLOB 'merged*'"
    ) == [
        ("organization x public-api", "limit", "30 60 5"),
        ("source 1", "forgotten before", "1000"),
        ("organization y public-api", "limit", "10 60 7"),
        ("target k", "gzip_rejected", "1"),
        ("source 1", "id mapping", "1"),
    ]


def test_requests_keep_their_rows(make: Make, clock: VirtualClock) -> None:
    """`explain` would tell that a row came by a request that brought another one."""
    own, other = make("own", "a"), make("other", "a")
    own.commit_result(1, [span("t", "first")], [])
    clock.advance(1)
    for name in ("second", "third", "fourth"):
        other.commit_result(1, [span("t", name)], [])
    clock.advance(1)
    other.commit_result(1, [span("t", "fifth"), span("t", "sixth")], [])
    for _ in range(2):
        merge(own, other)
        rows = own.deliveries_of(1, "t")
        assert [rows[name][1] for name in ("first", "second", "third", "fourth", "fifth", "sixth")] == [
            1,
            2,
            3,
            4,
            5,
            5,
        ]
        requests = dict(own.query("SELECT id, sent_ms FROM deliveries"))
        assert all(requests[number] == sent for sent, number in rows.values() if number is not None)
        assert len(requests) == 5


def test_the_later_state_of_a_row_stays(make: Make) -> None:
    """A row that changed would be sent again, though its later state is in Kelet."""
    own, other = make("own", "a"), make("other", "a")
    insert = "INSERT INTO sent VALUES (1, 't', ?, 0, ?, ?, 0, NULL)"
    for ledger, states in ((own, (("old", 1), ("new", 2))), (other, (("old", 2), ("new", 1)))):
        for row, updated in states:
            ledger.connection.execute(insert, [row, updated, str(updated).encode()])
    merge(own, other)
    assert {
        row: (state.updated_ms, state.fingerprint) for (_, row), state in own.completed_observations(1, ["t"]).items()
    } == {
        "old": (2, b"2"),
        "new": (2, b"2"),
    }


def test_what_was_dead_lettered_and_accepted_counts_as_accepted(make: Make, clock: VirtualClock) -> None:
    """A dead letter would come back whose row one of the files knows as accepted, or be lost though it is newer."""
    own, other = make("own", "a"), make("other", "a")
    own.commit_result(1, [], [letter("t", "accepted there", made_ms=1), letter("t", "older here", made_ms=1)])
    own.commit_result(1, [], [letter("t", "newer here", made_ms=3)])
    other.commit_result(1, [], [letter("t", "newer here", made_ms=2)])
    other.commit_result(1, [span("t", "accepted there")], [letter("t", "accepted here", made_ms=1)])
    own.commit_result(1, [span("t", "accepted here"), span("t", "refused later")], [])
    after = clock.now_ms() + 1
    other.commit_result(1, [], [letter("t", "older here", made_ms=2), letter("t", "refused later", made_ms=after)])
    other.commit_result(1, [], [letter(None, None, kind="partial", made_ms=9, spans=4)])
    found = merge(own, other)
    assert [(item.observation_id, item.made_ms) for item in own.dead_letters()] == [
        ("newer here", 3),
        ("older here", 2),
        ("refused later", after),
        (None, 9),
    ]
    assert found.dead_letters == 6
    merge(own, other)
    assert len(own.dead_letters()) == 4


def _refuse(ledger: Ledger, score_id: str, made_ms: int) -> None:
    """Note that Kelet refused a score."""
    ledger.store_scores(1, [ScoreNote(score_id, b"v1", 0, "t", None, "waiting", 0)])
    ledger.reject_score(b"v1", letter("t", None, kind="score", score_id=score_id, made_ms=made_ms, start_ms=None))


def test_scores_that_were_dead_lettered_are_distinguished(make: Make, clock: VirtualClock) -> None:
    """A score's dead letter would be left out for another's of the same moment, stand twice, or stand though sent."""
    own, other = make("own", "a"), make("other", "a")
    _refuse(own, "of this moment here", 5)
    _refuse(other, "of this moment there", 5)
    _refuse(own, "refused by both", 3)
    _refuse(other, "refused by both", 4)
    _refuse(own, "accepted there", 5)
    other.store_scores(1, [ScoreNote("accepted there", b"v1", 0, "t", None, "waiting", 0)])
    other.commit_score(1, "accepted there", b"v1", "p")
    for _ in range(2):
        merge(own, other)
        assert sorted((one.score_id, one.made_ms) for one in own.dead_letters()) == [
            ("of this moment here", 5),
            ("of this moment there", 5),
            ("refused by both", 4),
        ]


def _forget_all(ledger: Ledger) -> None:
    ledger.forget(1, 2**62, [Interval(0, 2**62)])


def test_counts_of_forgotten_rows(make: Make) -> None:
    """Rows of an hour would count twice, however and in whatever order files are joined, and hide missing ones."""
    parts = []
    for name in ("one", "two", "three"):
        part = make(name, "a")
        part.commit_result(1, [span(name, f"{number}", number * HOUR // 2) for number in range(6)], [])
        parts.append(part)
    one, two, three = parts
    _forget_all(two)
    whole = {0: 6, 1: 6, 2: 6}
    joined, more = make("joined"), make("more")
    for part in parts:
        merge(joined, part)
    assert joined.completed_by_hour(1) == whole
    _forget_all(joined)
    for part in (one, two, three):
        merge(joined, part)
        assert joined.completed_by_hour(1) == whole
    _forget_all(one)
    one.commit_result(1, [span("one", "more", 0)], [])
    merge(joined, one)
    assert joined.completed_by_hour(1) == {**whole, 0: 7}
    merge(more, one)
    merge(more, joined)
    merge(more, two)
    assert more.completed_by_hour(1) == {**whole, 0: 7}


def test_what_a_merge_took_is_reported(make: Make) -> None:
    """`state merge` would tell that nothing was new, and a shard be merged again or thrown away."""
    own, other = make("own", "a"), make("other", "a")
    own.add_completed(1, BACKFILL, Interval(0, HOUR), "")
    for number in range(3):
        other.add_completed(1, BACKFILL, Interval(2 * number * HOUR, (2 * number + 1) * HOUR), "")
    other.commit_result(1, [span("t", f"{number}", number) for number in range(5)], [])
    _forget_all(other)
    other.commit_result(1, [span("u", "new", 0)], [letter("u", "bad")])
    found = merge(own, other)
    assert (found.observations, found.observations_forgotten, found.completed_ms) == (1, 5, 2 * HOUR)
    assert found.dead_letters == 1


def test_rows_that_both_have_sent_count_once(make: Make) -> None:
    """An hour in which two machines sent the same row would seem to have one more, and hide one that is missing."""
    own, other = make("own", "a"), make("other", "a")
    own.commit_result(1, [span("t", "both"), span("t", "own")], [])
    other.commit_result(1, [span("t", "both"), span("t", "other")], [])
    for _ in range(2):
        merge(own, other)
        assert own.completed_by_hour(1) == {0: 3}


def test_rows_to_be_read_once_more_come_along(make: Make) -> None:
    """What a shard sent half old would be corrected by nobody once its file was merged."""
    own, other = make("own", "a"), make("other", "a")
    other.commit_result(1, [span("t", "r", 5)._replace(read_again_ms=100)], [])
    merge(own, other)
    (due,) = own.second_reads_due(1, 100, 10)
    assert (due.trace_id, due.observation_id, due.start_ms) == ("t", "r", 5)


def test_a_file_is_in_as_a_whole_or_not_at_all(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the middle would leave rows without the time they cover, or time without its rows."""
    own, other = make("own", "a"), make("other", "a", "b")
    other.commit_result(1, [span("t", "r")], [letter("t", "bad")])
    other.commit_interval(1, BACKFILL, Interval(0, 10), [note("t")], [])
    before = _all(own)

    def fail(*_: object, **__: object) -> int:
        raise StateError("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr("sync_worker.ledger.merging.state_files._take_completed", fail)
        with pytest.raises(StateError, match="in the middle"):
            merge(own, other)
    assert _all(own) == before
    merge(own, other)
    assert sent_observations(own) == {("t", "r")}


def test_another_mapping_of_ids_is_refused(make: Make) -> None:
    """Rows would count as sent that are in Kelet under other ids."""
    own, other = make("own", "a"), make("other", "a")
    put(own, "source 1", "id mapping", "1")
    put(other, "source 1", "id mapping", "0")
    other.commit_result(1, [span("t", "r")], [])
    with pytest.raises(StateError, match=r"other\.db belongs to version 0"):
        merge(own, other)
    assert sent_observations(own) == set()


def test_file_of_an_older_version(make: Make, tmp_path: Path, clock: VirtualClock) -> None:
    """A file that an older version wrote could not be joined, or would be read as what it is not."""
    path = tmp_path / "old.db"
    db = Database(path, execute_plugins=False)
    first = Migrations(steps.name)
    first(name="step_1")(step_1)
    first.apply(db)
    db.conn.execute("INSERT INTO sources VALUES (1, ?, 'a', 'A', 'org', NULL, 0)", [URL])
    db.conn.execute("INSERT INTO sent VALUES (1, 't', 'r', 0, 0, x'00', 0)")
    db.conn.commit()
    db.close()
    own = make("own", "a")
    other = open_ledger(path, clock)
    merge(own, other)
    merge(own, other)
    other.close()
    assert sent_observations(own) == {("t", "r")}
    assert own.completed_by_hour(1) == {0: 1}


def test_the_file_that_is_read_stays_as_it_is(make: Make, tmp_path: Path) -> None:
    """What a shard knows would change with where it is merged to."""
    own, other = make("own", "b"), make("other", "a")
    other.commit_result(1, [span("t", "r")], [letter("t", "bad")])
    before = _all(other)
    merge(own, other)
    assert _all(other) == before
    assert set(picture(tmp_path)) >= {"own.db", "other.db"}


def test_targets_of_a_project_stay_apart(make: Make) -> None:
    """What one target got would count as sent to the other, and never arrive there."""
    own, other = make("own", "a"), make("other", "a")
    beside = other.store_source("key of a", URL, "a", "tempo", "A", "org")
    other.commit_result(1, [span("t", "of kelet")], [])
    other.commit_result(beside.id, [span("t", "of tempo")], [])
    for _ in range(2):
        merge(own, other)
    assert [(source.project_id, source.target) for source in own.sources()] == [("a", "kelet"), ("a", "tempo")]
    assert set(own.completed_observations(1, ["t"])) == {("t", "of kelet")}
    assert set(own.completed_observations(2, ["t"])) == {("t", "of tempo")}
    assert [found.id for target in ("kelet", "tempo") if (found := own.source_by_key("key of a", target))] == [1, 2]


def test_project_at_another_address_is_refused_unless_allowed(path: Path, clock: VirtualClock) -> None:
    """Shards that reach the server by another name become a second project: a backfill sends all of it again."""
    own = open_ledger(path, clock)
    other = open_ledger(path.with_name("other.db"), clock)
    own.store_source("k1", "https://a", "p", "kelet", "Name", "org")
    theirs = other.store_source("k2", "https://b", "p", "kelet", "Name", "org")
    other.commit_result(theirs.id, [span("t", "r", 5)], [])
    with pytest.raises(StateError, match="--by-id") as caught:
        merge(own, other)
    assert caught.value.exit_code == 2
    assert own.query("SELECT count(*) FROM sent") == [(0,)]
    assert merge(own, other, by_id=True).observations == 1
    assert [source.langfuse_url for source in own.sources()] == ["https://a"]
    assert own.source_by_key("k2", "kelet") is None  # at the other address it is to be compared first
    assert merge(own, other, by_id=True).observations == 0
    own.close()
    other.close()


def test_rules_and_what_they_left_out_are_taken_in(make: Make) -> None:
    """A trace would count as sent that a shard left out, or a backfill under other rules pass over it."""
    own, other = make("own", "a"), make("other", "a")
    own.commit_interval(1, BACKFILL, Interval(0, 10), [], [], "mine")
    own.begin_sending(1, [note("sent", 5, project="p")])
    other.store_rules("theirs", "{}")
    other.commit_interval(1, BACKFILL, Interval(5, 20), [], [], "theirs")
    for trace in ("out", "sent"):
        other.leave_out_traces(1, [note(trace, 5, left_out_by="x", rules="theirs")], {trace: []})
    other.bring_back(1, [note("back", 5)])
    merge(own, other)
    assert sorted((part, rules) for part, _, rules, _ in own.completed_with_rules(1)) == [
        (Interval(0, 5), "mine"),
        (Interval(5, 10), "mine+theirs"),
        (Interval(10, 20), "theirs"),
    ]
    texts = {one.rules_text for one in own.completed_with_rules(1)}
    assert texts == {"", '{"any": [{}, {}]}', "{}"}  # that of "mine" was never stored
    merge(own, other)
    assert len(own.completed_with_rules(1)) == 3
    assert {trace: one.left_out_by for trace, one in own.traces(1, ["out", "sent"]).items()} == {
        "out": "x",
        "sent": None,
    }
    assert own.whole_traces(1, 9) == ["back"]


def test_merge_knows_every_key_of_a_source() -> None:
    """A key that is declared below those of a source is forgotten by a merge, whatever it says of one."""
    of_others = {"PSEUDONYM_KEY", "FIRST_NOTED", "LAST_CERTAIN", "UNCONFIRMED", "GZIP_REJECTED"}
    declared = {name: key for name, key in vars(state_keys).items() if isinstance(key, state_keys.StateKey)}
    known = {name for merge in state_keys.Merge for name in state_keys.names_by(merge)}
    misplaced = {name for name, key in declared.items() if key.name not in known} - of_others
    assert not misplaced, "declare keys of a source above _OF_SOURCE; name those of another scope in this test"
