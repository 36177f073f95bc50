"""What was sent, what was dead-lettered, and what may be forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_worker.errors import DeadLettersFull, StateError
from sync_worker.intervals import Interval
from sync_worker.ledger import DeadLetter, Ledger, open_ledger
from sync_worker.ledger.lease import BACKFILL, LIVE, release, take
from sync_worker.ledger.sources import memory_name, same_address
from tests.ledger.made import letter, note, sent_observations, span
from tests.support.state import put


def _send(ledger: Ledger, trace: str, *starts: int, newest_ms: int | None = None, pending: bool = False) -> None:
    newest = max(starts) if newest_ms is None else newest_ms
    ledger.store_traces(1, [note(trace, min(starts), newest, pending=pending)])
    ledger.commit_result(1, [span(trace, f"r{start}", start) for start in starts], [])


def _remembered(ledger: Ledger) -> set[str]:
    found = {trace for (trace,) in ledger.query("SELECT trace_id FROM traces")}
    assert {trace for trace, _ in sent_observations(ledger)} <= found
    return found


def test_done_rows_of_many_traces(ledger: Ledger) -> None:
    """SQLite takes only so many values in one statement: a large interval would end in an error."""
    for number in range(0, 2500, 500):
        ledger.commit_result(1, [span(f"t{n}", "r", n, n.to_bytes(2)) for n in range(number, number + 500)], [])
    done = ledger.completed_observations(1, (f"t{number}" for number in range(40_000)))
    assert len(done) == 2500
    assert (done["t0", "r"].fingerprint, done["t2499", "r"].fingerprint) == (b"\x00\x00", b"\x09\xc3")
    assert done["t7", "r"].updated_ms == 7
    assert ledger.completed_observations(2, ["t0"]) == {}
    assert ledger.completed_observations(1, []) == {}


def test_answer_is_committed_whole_or_not_at_all(ledger: Ledger) -> None:
    """Accepted spans without their dead letters, or the other way round, would be sent again or lost."""
    ledger.connection.execute(
        "CREATE TEMP TRIGGER fail BEFORE INSERT ON dead_letters BEGIN SELECT RAISE(ABORT, 'no more'); END"
    )
    with pytest.raises(StateError, match="no more"):
        ledger.commit_result(1, [span("t", "r")], [letter("t", "bad")])
    assert (sent_observations(ledger), ledger.traces(1, ["t"]), ledger.dead_letters()) == (set(), {}, [])


def test_latest_state_of_a_row_counts(ledger: Ledger) -> None:
    """A row that was sent, changed and was then refused would be refused again at every reading."""
    ledger.commit_result(1, [span("t", "r", fingerprint=b"first")], [])
    ledger.commit_result(1, [], [letter("t", "r", fingerprint=b"second")])
    assert ledger.completed_observations(1, ["t"])["t", "r"].fingerprint == b"second"
    assert ledger.completed_observations(1, ["t"])["t", "r"].updated_ms == 7

    ledger.drop_dead_letters(ledger.dead_letters())
    assert ledger.completed_observations(1, ["t"])["t", "r"].fingerprint == b"second"

    ledger.commit_result(1, [span("t", "r", fingerprint=b"third")], [])
    assert ledger.completed_observations(1, ["t"])["t", "r"].fingerprint == b"third"


def test_dead_letters_have_a_limit(ledger: Ledger) -> None:
    """They grow without end; or at their limit one is dropped, or what was accepted beside it is sent again."""
    ledger.max_dead_letters = 2
    ledger.commit_result(1, [], [letter("t", "a"), letter("t", "b")])
    ledger.commit_result(2, [], [letter("t", "a", source_id=2)])
    ledger.commit_result(1, [], [letter("t", "b", reason="later")])
    with pytest.raises(DeadLettersFull, match="dead-letters drop --all"):
        ledger.commit_interval(1, "live", Interval(0, 1), [], [letter("t", "c")])
    assert ledger.completed_intervals(1, "live") == []
    with pytest.raises(DeadLettersFull):
        ledger.commit_result(
            1, [span("t", "sent")], [letter("t", "c"), letter(None, None, kind="partial", reason="some", spans=1)]
        )
    assert sent_observations(ledger) == {("t", "sent")}
    assert [item.reason for item in ledger.dead_letters(1)][1:] == ["later", "some"]


def test_dead_letters_up_to_the_limit_are_stored(ledger: Ledger) -> None:
    """How many there are when the source pauses hangs on how many came with one response."""
    ledger.max_dead_letters = 3
    ledger.commit_result(1, [], [letter("t", "a")])
    four = [letter("t", name) for name in "bcde"]
    with pytest.raises(DeadLettersFull, match=r"no room for 2 more dead letters .* 3 are kept") as full:
        ledger.commit_result(1, [], four)
    assert full.value.stored == 2
    assert [item.observation_id for item in ledger.dead_letters(1)] == ["a", "b", "c"]
    with pytest.raises(DeadLettersFull) as full:
        ledger.commit_result(1, [], four[2:])
    assert full.value.stored == 0
    assert len(ledger.dead_letters(1)) == 3


def test_dead_letters_beyond_the_limit_leave_room_for_the_same_ones(ledger: Ledger) -> None:
    """A partial rejection may be one too many: what fails once more takes no room, and is not counted as more."""
    ledger.max_dead_letters = 1
    ledger.commit_result(1, [], [letter("t", "a")])
    with pytest.raises(DeadLettersFull):
        ledger.commit_result(1, [span("t", "sent")], [letter(None, None, kind="partial")])
    ledger.commit_result(1, [], [letter("t", "a", reason="later")])
    assert "later" in {item.reason for item in ledger.dead_letters(1)}
    with pytest.raises(DeadLettersFull, match="no room for 1 more dead letter of"):
        ledger.commit_result(1, [], [letter("t", "b")])


def test_what_is_kept_of_a_dead_letter_is_bounded(ledger: Ledger) -> None:
    """One row of many megabytes, or a server that talks much, fills the state file."""
    ledger.commit_result(1, [], [letter(reason="x" * 100_000, raw="y" * 100_000)])
    (kept,) = ledger.dead_letters()
    assert (len(kept.reason), len(kept.raw or "")) == (2_000, 20_000)


def test_dead_letters_by_page_and_trace(ledger: Ledger) -> None:
    """Ten thousand of them are read to show ten, or a page repeats or leaves out some."""
    ledger.commit_result(1, [], [letter(f"t{number % 3}", f"r{number}") for number in range(10)])
    pages, after = [], 0
    while page := ledger.dead_letters(after=after, limit=4):
        after = page[-1].id or 0
        pages.append([item.observation_id for item in page])
    assert [len(page) for page in pages] == [4, 4, 2]
    assert [observation_id for page in pages for observation_id in page] == [f"r{number}" for number in range(10)]
    assert [item.observation_id for item in ledger.dead_letters(1, trace_id="t1")] == ["r1", "r4", "r7"]
    assert len(ledger.dead_letters(ids=range(1, 40_000))) == 10


def test_dead_letters_by_what_is_wrong_with_them(ledger: Ledger) -> None:
    """`dead-letters retry --reason` would send or drop others than those that were listed."""
    ledger.commit_result(1, [], [letter("t", "a", reason="Too Large"), letter("t", "b", kind="unreadable", made_ms=9)])
    ledger.commit_result(2, [], [letter("t", "c", source_id=2)])

    def found(**chosen: Any) -> list[str | None]:
        return [item.observation_id for item in ledger.dead_letters(**chosen)]

    assert found() == ["a", "b", "c"]
    assert found(reason="too l") == ["a"]
    assert found(reason="%") == []
    assert found(kind="unreadable") == ["b"]
    assert found(made_before_ms=9) == ["a", "c"]
    assert found(source_ids=[2]) == ["c"]
    assert found(source_ids=[1], reason="why") == ["b"]
    assert ledger.dead_letters_by_kind(1) == {"rejected": 1, "unreadable": 1}


@pytest.mark.parametrize("trace", ["t", None])
def test_row_has_one_dead_letter(ledger: Ledger, trace: str | None) -> None:
    """Each reading of an interval would add one more for the same row."""
    for reason in ("one", "two", "three"):
        ledger.commit_interval(1, "live", Interval(0, 1), [], [letter(trace, "r", reason=reason)])
    (kept,) = ledger.dead_letters()
    assert (kept.reason, kept.trace_id, kept.observation_id) == ("three", trace, "r")
    assert ledger.count_dead_letters(1) == 1


@pytest.mark.parametrize("trace", ["t", None])
def test_row_that_is_accepted_leaves_the_dead_letters(ledger: Ledger, trace: str | None) -> None:
    """A retry that succeeded would stand there as refused for ever."""
    ledger.commit_result(
        1, [], [letter(trace, "r"), letter("t", "other"), letter("u", "r"), letter("t", "r", source_id=2)]
    )
    ledger.commit_result(1, [span("t", "r")], [])
    assert [(kept.source_id, kept.trace_id, kept.observation_id) for kept in ledger.dead_letters()] == [
        (1, "t", "other"), (1, "u", "r"), (2, "t", "r"),
    ]  # fmt: skip


def test_dead_letter_comes_back_as_it_went_in(ledger: Ledger) -> None:
    """`dead-letters list` would tell something else than what happened."""
    whole = DeadLetter(1, "unreadable", "why\nso", 11, "t", "r", 400, "p", 12, b"\x00\xff", '{"a": "\\u0000é"}', 1)
    note_of_answer = DeadLetter(1, "partial", "3 of 9", 12, spans=3)
    ledger.commit_result(1, [], [whole, note_of_answer, note_of_answer])
    kept = ledger.dead_letters(1)
    assert [item.id for item in kept] == [1, 2, 3]
    assert [tuple(getattr(item, name) for name in DeadLetter.__slots__ if name != "id") for item in kept] == [
        tuple(getattr(item, name) for name in DeadLetter.__slots__ if name != "id")
        for item in (whole, note_of_answer, note_of_answer)
    ]
    assert (ledger.count_dead_letters(1), ledger.count_dead_letters(2)) == (7, 0)
    assert [item.id for item in ledger.dead_letters(ids=[3, 1, 9])] == [1, 3]


def test_half_characters_do_not_stop_a_interval(ledger: Ledger) -> None:
    """A row with half of a surrogate pair in its ids or its error would keep its interval open for ever."""
    bad = "\ud800x"
    ledger.commit_interval(1, "live", Interval(0, 1), [note(bad)], [letter(bad, bad, reason=bad, raw=bad)])
    (kept,) = ledger.dead_letters()
    assert (kept.trace_id, kept.observation_id, kept.reason, kept.raw) == ("?x", "?x", "?x", "?x")
    assert (ledger.completed_observations(1, [bad]), ledger.traces(1, [bad])) == ({}, {})
    assert ledger.completed_intervals(1, "live") == [Interval(0, 1)]


def test_dropped_rows_count_as_done(ledger: Ledger) -> None:
    """What the operator gave up would be sent, and refused, again."""
    ledger.commit_result(1, [], [letter("t", "r"), letter("t", "kept"), letter(None, None, fingerprint=None, spans=3)])
    first, kept, partial = ledger.dead_letters()
    ledger.drop_dead_letters([first, partial])
    assert ledger.dead_letters() == [kept]
    done = ledger.completed_observations(1, ["t"])
    assert {key: state.fingerprint for key, state in done.items()} == {("t", "r"): b"bad", ("t", "kept"): b"bad"}
    assert not done["t", "r"].dead_lettered
    assert ledger.forget(1, 100, [Interval(0, 100)]) == 1  # what was dropped does not stay for ever
    assert sent_observations(ledger) == set()


def test_drop_of_a_row_that_was_accepted_since(ledger: Ledger) -> None:
    """The older state would be noted over the newer one, and the row sent once more."""
    ledger.commit_result(1, [], [letter("t", "r", fingerprint=b"old")])
    letters = ledger.dead_letters()
    ledger.commit_result(1, [span("t", "r", fingerprint=b"new")], [])
    ledger.drop_dead_letters(letters)
    assert ledger.completed_observations(1, ["t"])["t", "r"].fingerprint == b"new"


def test_forget_takes_what_is_old_and_completed(ledger: Ledger) -> None:
    """The file would grow without end."""
    _send(ledger, "old", 10, 20)
    _send(ledger, "other source", 10)
    ledger.connection.execute("UPDATE traces SET source_id = 2 WHERE trace_id = 'other source'")
    ledger.connection.execute("UPDATE sent SET source_id = 2 WHERE trace_id = 'other source'")
    assert ledger.forget(1, 100, [Interval(0, 50)]) == 1
    assert _remembered(ledger) == {"other source"}
    assert ledger.completed_by_hour(1) == {0: 2}


@pytest.mark.parametrize(
    ("name", "starts", "newest_ms", "pending"),
    [
        ("written lately", (10, 20), 100, False),
        ("pending", (10, 20), 20, True),
        ("sent beyond the coverage", (10, 60), 60, False),
        ("sent where coverage ends", (10, 50), 50, False),
        ("sent before the coverage", (-1, 10), 10, False),
        ("on both sides of a gap", (10, 75), 75, False),
    ],
)
def test_forget_leaves(ledger: Ledger, name: str, starts: tuple[int, ...], newest_ms: int, pending: bool) -> None:
    """A row that is read again would be sent again."""
    _send(ledger, name, *starts, newest_ms=newest_ms, pending=pending)
    assert ledger.forget(1, 100, [Interval(0, 50), Interval(70, 80)]) == 0
    assert _remembered(ledger) == {name}


def test_forget_of_a_trace_that_began_before_all_coverage(ledger: Ledger) -> None:
    """Every trace that stood open at the sync start would be remembered for ever."""
    ledger.store_traces(1, [note("t", -500, 20)])
    ledger.commit_result(1, [span("t", "r", 10)], [])
    assert ledger.forget(1, 100, [Interval(0, 50)]) == 1


def test_forget_is_bounded_and_gets_past_what_must_stay(ledger: Ledger) -> None:
    """Traces of a backfill that was broken off are older than all others: nothing would ever be forgotten again."""
    for number in range(30):
        _send(ledger, f"stays {number}", 1000 + number, newest_ms=1)
        _send(ledger, f"goes {number}", 10, newest_ms=2 + number)
    completed = [Interval(0, 50)]
    assert ledger.forget(1, 100, completed, limit=20) == 20
    assert {f"goes {number}" for number in range(20, 30)} <= _remembered(ledger)
    assert ledger.forget(1, 100, completed, limit=20) == 10
    assert ledger.forget(1, 100, completed, limit=20) == 0
    assert _remembered(ledger) == {f"stays {number}" for number in range(30)}
    assert len(sent_observations(ledger)) == 30


_TRACES = st.lists(
    st.tuples(st.lists(st.integers(0, 60), min_size=1, max_size=3), st.integers(0, 120), st.booleans()), max_size=8
)
_COMPLETED = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 30)).map(lambda pair: Interval(pair[0], sum(pair))), max_size=3
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[*HealthCheck])
@given(traces=_TRACES, completed=_COMPLETED, before=st.integers(0, 120))
def test_forget_never_takes_the_young_or_uncovered(
    ledger: Ledger, traces: list[tuple[list[int], int, bool]], completed: list[Interval], before: int
) -> None:
    """A row that is forgotten while its time may be read again is sent twice."""
    ledger.connection.execute("PRAGMA synchronous = OFF")
    ledger.connection.execute("DELETE FROM sent")
    ledger.connection.execute("DELETE FROM traces")
    for number, (starts, late, pending) in enumerate(traces):
        _send(ledger, f"t{number}", *set(starts), newest_ms=max(*starts, late), pending=pending)
    done = {moment for interval in completed for moment in range(interval.start, interval.end)}
    ledger.forget(1, before, completed)
    for number, (starts, late, pending) in enumerate(traces):
        newest = max(*starts, late)  # what is known of a trace to lie behind a gap keeps the rest of it
        gone = set(range(min(starts), newest + 1)) <= done and newest < before and not pending
        assert (f"t{number}" in _remembered(ledger)) is not gone


def test_forget_beside_a_backfill_that_sends(ledger: Ledger) -> None:
    """Rows accepted while their trace was forgotten would stay in the file for ever."""
    _send(ledger, "t", 10)
    beside = open_ledger(ledger.path, ledger.clock)
    lease = take(beside, BACKFILL)
    assert ledger.forget(1, 100, [Interval(0, 50)]) == 1
    beside.commit_result(1, [span("t", "r60", 60, project="chosen")], [])
    beside.commit_interval(1, BACKFILL, Interval(50, 100), [], [])
    assert beside.traces(1, ["t"])["t"].project == "chosen"
    assert ledger.forget(1, 100, [Interval(0, 100)]) == 1
    assert sent_observations(ledger) == set()
    release(beside, lease)
    beside.close()


def test_source_of_a_pair_of_keys(ledger: Ledger) -> None:
    """New keys of a project would begin it anew, or a project of the same name on another server go on in its place."""
    one = ledger.store_source("k1", "https://a", "p1", "kelet", "Name", "org")
    ledger.set_sync_start(one.id, 500)
    again = ledger.store_source("k2", "https://a", "p1", "kelet", "New name", "org 2")
    other = ledger.store_source("k3", "https://b", "p1", "kelet", "Name", "org")
    assert (again.id, again.project_name, again.organization_id, again.sync_start_ms) == (
        one.id,
        "New name",
        "org 2",
        500,
    )
    assert (other.id != one.id, other.sync_start_ms) == (True, None)
    found = ledger.source_by_key("k1", "kelet")
    assert found is not None
    assert found.id == one.id
    assert ledger.source_by_key("unknown", "kelet") is None
    assert [state.id for state in ledger.sources()] == [one.id, other.id]
    assert ledger.source_by_key("k1", "tempo") is None
    beside = ledger.store_source("k1", "https://a", "p1", "tempo", "Name", "org")
    assert (beside.target, beside.sync_start_ms, beside.id in {one.id, other.id}) == ("tempo", None, False)
    assert ledger.source_by_key("k1", "kelet") == ledger.store_source(
        "k1", "https://a", "p1", "kelet", "New name", "org 2"
    )
    moved = ledger.store_source("k1", "https://b", "p1", "kelet", "Name", "org")
    assert moved.id == other.id


def test_sync_start_is_set_once(ledger: Ledger) -> None:
    """A restart with another SYNC_START would leave a hole, or send what lies before."""
    source = ledger.store_source("k", "https://a", "p", "kelet", "Name", "org")
    assert [ledger.set_sync_start(source.id, edge) for edge in (500, 400, 600)] == [500, 500, 500]


def test_facts(ledger: Ledger) -> None:
    """What a server once told would be asked, or learnt the hard way, at each run."""
    assert ledger.stored_key("scope", "name") is None
    put(ledger, "scope", "name", "1")
    put(ledger, "scope", "name", "2")
    put(ledger, "scope", "other", "")
    put(ledger, "scope 2", "name", "3")
    assert [ledger.stored_key(*key) for key in (("scope", "name"), ("scope", "other"), ("scope 2", "name"))] == [
        "2",
        "",
        "3",
    ]
    before = ledger.query("PRAGMA data_version"), ledger.connection.total_changes
    put(ledger, "scope", "name", "2")
    assert (
        ledger.query("PRAGMA data_version"),
        ledger.connection.total_changes,
    ) == before  # an idle cycle writes nothing


def test_notes_of_runs_are_bounded(ledger: Ledger) -> None:
    """A note a minute would be half a million a year."""
    ledger.store_run("backfill", 1, 0, {"sources": ["ü"]})
    for number in range(250):
        ledger.store_run("once", number, number % 4, {"sources": []})
    assert ledger.query("SELECT count(*), min(started_ms), max(started_ms) FROM runs") == [(200, 50, 249)]
    last = ledger.last_run()
    assert last is not None
    assert (last["command"], last["started_ms"], last["exit_code"]) == ("once", 249, 1)


def test_size_counts_the_log(ledger: Ledger) -> None:
    """A log that grows would not be seen."""
    put(ledger, "scope", "name", "x" * 100_000)
    assert ledger.size_bytes() > 100_000


def test_source_that_moved_is_found_at_its_new_address(ledger: Ledger) -> None:
    """It would begin anew at its new address, its old keys be sent there, or what was merged be counted again."""
    source = ledger.store_source("k1", "https://a", "p1", "kelet", "Name", "org")
    put(ledger, "merged f", memory_name("https://a", "p1", "kelet"), "{}")
    ledger.commit_interval(source.id, "live", Interval(0, 10), [], [])
    ledger.commit_result(source.id, [span("t", "r")], [])
    ledger.move_source(source.id, "https://b")
    assert [(one.id, one.langfuse_url) for one in ledger.sources()] == [(source.id, "https://b")]
    assert ledger.source_by_key("k1", "kelet") is None
    assert ledger.stored_key("merged f", memory_name("https://b", "p1", "kelet")) == "{}"
    assert ledger.completed_intervals(source.id, "live") == [Interval(0, 10)]


def test_source_that_moved_and_never_sent_is_read_from_the_beginning(ledger: Ledger) -> None:
    """What another project of the same id holds at the new address would be taken for synced."""
    source = ledger.store_source("k1", "https://a", "p1", "kelet", "Name", "org")
    ledger.commit_interval(source.id, "live", Interval(0, 10), [], [])
    ledger.move_source(source.id, "https://b")
    assert ledger.completed_intervals(source.id, "live") == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a", "https://a:443/", True),
        ("http://a", "http://A.:80", True),
        ("https://a", "https://a:444", False),
        ("https://a", "http://a:443", False),
        ("https://a/x", "https://a/x/", True),
        ("https://a/x", "https://a/y", False),
    ],
)
def test_spellings_of_an_address(one: str, other: str, *, same: bool) -> None:
    """A source would be synced twice under two spellings of its address, or two servers count as one."""
    assert same_address(one, other) is same


def test_second_read_stands_until_it_is_ended(ledger: Ledger) -> None:
    """A row that was sent half old is forgotten before it was read again, or is read again for ever."""
    ledger.commit_result(1, [span("t", "r", 5)._replace(read_again_ms=100), span("t", "old", 6)], [])
    assert ledger.second_reads_due(1, 99, 10) == []
    (due,) = ledger.second_reads_due(1, 100, 10)
    assert (due.trace_id, due.observation_id, due.start_ms, due.tries) == ("t", "r", 5, 0)
    assert ledger.second_reads_due(1, 100, 10, [Interval(5, 6)]) == []
    ledger.touch(1, [], [replace(due, due_ms=200)])
    ledger.delete_second_reads(1, [due])
    assert ledger.count_second_reads(1) == 1
    ledger.delete_second_reads(1, [replace(due, due_ms=200)])
    assert ledger.count_second_reads(1) == 0


def test_what_is_to_be_read_again_is_not_forgotten_before(ledger: Ledger) -> None:
    """A row that was sent half old is never corrected where horizons are short, or looks new then and is sent twice."""
    ledger.commit_result(1, [span("t", "r", 5)._replace(read_again_ms=100), span("t", "other", 6)], [])
    ledger.commit_interval(1, "live", Interval(0, 10), [note("t", 5)], [])
    assert ledger.forget(1, 50, [Interval(0, 10)]) == 0
    ledger.delete_second_reads(1, ledger.second_reads_due(1, 100, 10))
    assert ledger.forget(1, 50, [Interval(0, 10)]) == 1


def test_row_that_fails_again_keeps_its_dead_letter(ledger: Ledger) -> None:
    """Each failure of the same row counts as a new dead letter, and begins its back-off anew."""
    first = letter("t", "r", kind="unreadable", reason="one", made_ms=1, tries=2, next_try_ms=9)
    ledger.commit_result(1, [], [first])
    again = letter("t", "r", kind="unreadable", reason="two", made_ms=5, next_try_ms=6)
    assert ledger.count_new([again, letter("t", "other", kind="unreadable"), letter("t", "r")]) == 2
    ledger.commit_result(1, [], [again])
    (kept,) = ledger.dead_letters()
    assert (kept.id, kept.reason, kept.made_ms, kept.tries, kept.next_try_ms) == (1, "two", 1, 2, 9)
    assert ledger.dead_letters_due(1, 8, 10) == []
    assert ledger.dead_letters_due(1, 9, 10) == [kept]
    ledger.commit_result(1, [], [letter("t", "r", reason="refused now")])
    assert [(one.kind, one.next_try_ms) for one in ledger.dead_letters()] == [("rejected", None)]


def test_raw_text_of_a_dead_letter_is_bounded(ledger: Ledger) -> None:
    """One row of many megabytes would be kept in the state file."""
    ledger.commit_result(1, [], [letter("t", "r", raw="x" * 100_000)])
    (stored,) = ledger.dead_letters()
    assert stored.raw == "x" * 20_000


def test_completed_among_a_page_is_what_is_completed_of_it(ledger: Ledger) -> None:
    """A lookback scan would send again what was sent, or take for sent what is not, where a trace spans pages."""
    for trace in ("t", "u"):
        ledger.commit_result(1, [span(trace, f"r{number}") for number in range(1_200)], [])
    ledger.commit_result(2, [span("t", "of another source")], [])
    ledger.commit_interval(1, LIVE, Interval(0, 1), [], [letter("t", "bad"), letter("u", "r0", fingerprint=b"later")])
    asked = [("t", "r1"), ("u", "r0"), ("t", "bad"), ("t", "of another source"), ("v", "r1"), ("t", "new")]
    whole = ledger.completed_observations(1, ["t", "u", "v"])
    found = ledger.completed_among(1, [*asked, ("t", "\ud800"), *asked])
    assert found == {key: whole[key] for key in asked[:3]}
    assert (found["t", "bad"].dead_lettered, found["u", "r0"].fingerprint) == (True, b"later")
    many = [(trace, f"r{number}") for number in range(1_200) for trace in ("t", "u")]
    assert ledger.completed_among(1, many) == {key: whole[key] for key in many}
    assert ledger.completed_among(1, []) == {}


def test_a_page_of_many_traces_costs_what_it_holds(ledger: Ledger) -> None:
    """A scan would read all observations of each trace once for every page that has one of them."""
    for trace in range(20):
        ledger.commit_result(1, [span(f"t{trace}", f"r{number}") for number in range(400)], [])
    asked = [(f"t{trace}", "r7") for trace in range(20)]
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    ledger.connection.set_progress_handler(count, 10)
    ledger.completed_among(1, asked)
    among, steps = steps, 0
    ledger.completed_observations(1, [trace for trace, _ in asked])
    ledger.connection.set_progress_handler(None, 10)
    assert 0 < among * 10 < steps
