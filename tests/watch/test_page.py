"""The status page as a document: what it says, what it never holds, and how it is read from a state file."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import sqlite3
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from sync_worker.cli.parser import build_parser
from sync_worker.clock import Clock
from sync_worker.intervals import Interval
from sync_worker.ledger import Ledger, claims, lease, open_ledger
from sync_worker.ledger.history import SLOT_MS, SLOTS, Slot
from sync_worker.ledger.lease import BACKFILL, LIVE
from sync_worker.ledger.pauses import Pause
from sync_worker.ledger.reading import open_to_read
from sync_worker.ledger.state_keys import CYCLES, LAST_BACKFILL, last_cycle
from sync_worker.ledger.stored_records import DeadLetterGroup
from sync_worker.measurements import Measurements, Tick
from sync_worker.settings import Settings, load
from sync_worker.sync.keys import keys_of
from sync_worker.watch.http_server import HttpRequest
from sync_worker.watch.page import view as views_of
from sync_worker.watch.page.advice import KINDS, is_behind, of_source, of_worker
from sync_worker.watch.page.document import HEADERS, document, unreadable
from sync_worker.watch.page.html import Markup, element, join, name, prose, text
from sync_worker.watch.page.view import LastCycle
from sync_worker.watch.page.words import duration, rate, size
from sync_worker.watch.pages import Pages
from sync_worker.wording import counted
from tests.docs.pages import anchors
from tests.docs.tables import MONITORING
from tests.ledger.made import note, span
from tests.support.rows import trace
from tests.sync.conftest import MakeWorld
from tests.watch import views
from tests.watch.views import DAY, HOSTILE, HOUR, NOW

DOCUMENTS = {
    "one": document(views.view(views.source())),
    "broken": document(views.view(views.broken())),
    "many": document(views.many()),
    "none": document(views.view()),
    "hostile": document(
        views.view(*(views.source(one, project=one, target=one, langfuse_project=one) for one in HOSTILE))
    ),
    "unreadable": unreadable("<b>the state file</b> is locked"),
}


def printed(body: bytes) -> str:
    """Return the text of a document, as one line."""
    return " ".join("".join(ET.fromstring(body).itertext()).split())


@pytest.mark.parametrize("body", DOCUMENTS.values(), ids=DOCUMENTS)
class TestDocument:
    def test_is_whole_and_loads_nothing(self, body: bytes) -> None:
        """A browser would guess where an element ends, run a script, or ask another server for something."""
        assert body.startswith(b"<!DOCTYPE html>")
        tree = ET.fromstring(body)
        assert {"script", "img", "link", "iframe", "object", "base", "form"}.isdisjoint(one.tag for one in tree.iter())
        for one in tree.iter():
            assert not {key for key in one.attrib if key == "style" or key.startswith("on")}
            for key in ("href", "src", "fill"):
                assert re.match(r"#|(metrics|status|\.)$|url\(#", one.get(key, "#")), one.get(key)
        assert b"http://" not in body
        assert b"https://" not in body

    def test_is_the_same_for_who_does_not_see_it(self, body: bytes) -> None:
        """A screen reader would find a drawing without words, or a document without an order."""
        tree = ET.fromstring(body)
        levels = [int(one.tag[1]) for one in tree.iter() if one.tag in {"h1", "h2", "h3", "h4"}]
        assert levels.count(1) == 1 == len(list(tree.iter("main")))
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert tree.get("lang") == "en"
        for drawing in tree.iter("svg"):
            if drawing.get("aria-hidden") != "true":
                assert drawing.get("role") == "img"
                words = {one.get("id"): one.text for one in drawing if one.tag in {"title", "desc"}}
                assert all(words[key] for key in str(drawing.get("aria-labelledby")).split())
        for table in tree.iter("table"):
            assert table[0].tag == "caption"
            assert all(head.get("scope") for head in table.iter("th"))
        ids = [one.get("id") for one in tree.iter() if one.get("id")]
        assert len(ids) == len(set(ids))
        links = {one.get("href", "")[1:] for one in tree.iter("a") if one.get("href", "").startswith("#")}
        assert links <= set(ids)

    def test_names_commands_and_runbooks_that_there_are(self, body: bytes) -> None:
        """Somebody in a hurry would type what the program does not know, or look for a page that is not there."""
        tree = ET.fromstring(body)
        for code in ("".join(one.itertext()) for one in tree.iter("code")):
            if code.startswith("sync-worker "):
                build_parser().parse_args(shlex.split(code)[1:])
        named = set(re.findall(r"(SyncWorker\w+) in docs/monitoring.md", printed(body)))
        assert {one.lower() for one in named} <= anchors(MONITORING)


def test_the_policy_is_that_of_the_style() -> None:
    """The browser would drop the style, or run another."""
    ((_, policy), _) = HEADERS
    for body in DOCUMENTS.values():
        (style,) = re.findall(rb"<style>(.*?)</style>", body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
        assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")


def test_names_from_outside_are_text() -> None:
    """A name would be markup, leave its place by its direction, hide a part of itself, or fill the page."""
    shown = DOCUMENTS["hostile"]
    headings = ["".join(one.itertext()) for one in ET.fromstring(shown).iter("h3")]
    assert headings[:4] == [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        r"\u202egnol dna desrever\u202c",
        r"two\nlines\tand\x00more",
    ]
    assert len(headings[4]) < 70
    assert headings[5:] == [HOSTILE[5], "&amp;&#60;</title></style>", "(empty)"]
    assert len(shown) < 300_000


def test_the_size_is_bounded() -> None:
    """A page of many sources would take seconds on a phone, or more the longer the worker runs."""
    assert len(DOCUMENTS["one"]) < 40_000
    assert len(DOCUMENTS["many"]) < 500_000
    gaps = [Interval(NOW - at * 10_000, NOW - at * 10_000 + 1_000) for at in range(20_000, 0, -1)]
    groups = [DeadLetterGroup("rejected", status, 1, NOW, NOW) for status in range(400, 900)]
    closed = [f"project-{number}" for number in range(1_000)]
    body = document(views.view(views.broken(gaps=gaps, dead_letters=groups, closed=closed)))
    assert "and 488 more reasons" in printed(body)
    assert "and 19,994 more" in printed(body)
    assert len(body) < 100_000


class TestAnswers:
    def test_all_is_well(self) -> None:
        """Somebody would be kept from sleeping for nothing."""
        for body in (DOCUMENTS["one"], document(views.view(*(views.source(f"s{one}") for one in range(20))))):
            assert "Is it behind?✓ No" in printed(body)
            assert "Is anything missing?✓ No" in printed(body)
            assert "What to do now?✓ Nothing" in printed(body)

    def test_all_is_wrong(self) -> None:
        """What is wrong would not be said first, or not with what to type."""
        shown = printed(DOCUMENTS["broken"])
        assert "▲ Yes, by 3 h 12 min" in shown
        assert "▲ 50,000 dead letters; 9 gaps, 1 h 30 min" in shown
        for line in ("rejected, HTTP 422", "46,679", "and 3 more", "running for 1 h", "the target fails at them"):
            assert line in shown, line

    def test_the_same_of_many_sources_is_reported_once(self) -> None:
        """The same line twenty times would hide the one that matters."""
        down = [views.source(f"s{one}", cycle=LastCycle("credentials", None)) for one in range(20)]
        shown = printed(document(views.view(*down)))
        assert "✕ 1 thing to act on" in shown
        assert "A key was rejected: 20 sources — s0, s1, s2, s3 and 16 more" in shown

    def test_the_worker_itself(self) -> None:
        """A worker that hangs would look like one that is in order."""
        bad = views.view(views.source(), tick_age=180.0, free_bytes=10 * 2**20, offsets={"a": 3.0, "b": -90.0})
        subjects = [one.title for one in of_worker(bad)]
        assert subjects == [
            "The worker hangs: its event loop has not run for 3 min",
            "The disk of the state file is nearly full: 10 MiB left",
            "The clock of this machine is wrong: 90 s behind",
        ]
        assert of_worker(views.view()) == []

    def test_an_outage_under_way(self) -> None:
        """Nobody would see why nothing arrives until the lag is that of a quarter of an hour."""
        (found,) = of_worker(views.view(waits=[("Kelet after an error, try 7", 41.0)]))
        assert (found.title, found.level) == ("Waiting: for Kelet after an error, try 7, 41 s more", "warn")

    @pytest.mark.parametrize(
        ("changes", "title", "level"),
        [
            ({"cycle": LastCycle("credentials", NOW)}, "A key was rejected", "bad"),
            ({"cycle": LastCycle("settings", NOW)}, "Settings or state file cannot be used", "bad"),
            ({"cycle": LastCycle("error", NOW)}, "The last cycle ended with an unexpected error", "bad"),
            (
                {"cycle": LastCycle("paused", NOW), "closed": ["x"]},
                "Paused: Kelet does not know 1 project that traces go to",
                "bad",
            ),
            (
                {"cycle": LastCycle("paused", NOW)},
                "Paused: a server rejects requests for a reason that a retry does not fix",
                "bad",
            ),
            ({"cycle": LastCycle("paused_on_purpose", NOW - 5 * HOUR)}, None, "ok"),
            (
                {
                    "cycle": LastCycle("paused_on_purpose", NOW - 5 * HOUR),
                    "limit_reached": 500,
                    "watermark_ms": NOW - 5 * HOUR,
                },
                "The daily limit is reached: SYNC_MAX_SPANS_PER_DAY=500",
                "warn",
            ),
            ({"cycle": LastCycle("transient", None)}, "No successful cycle: none yet", "warn"),
            ({"cycle": LastCycle("ok", NOW - HOUR)}, "No successful cycle: the last one was 1 h ago", "warn"),
            ({"watermark_ms": NOW - 901_000}, "Behind: by 15 min", "warn"),
            ({"watermark_ms": NOW - 901_000, "interval_ms": HOUR}, None, "ok"),
            ({"watermark_ms": None}, "The first cycle has not ended", "note"),
            ({"gaps": [Interval(0, 60_000)]}, "Gaps in what is synced: 1, together 60 s", "warn"),
        ],
    )
    def test_of_a_source(self, changes: dict[str, Any], title: str | None, level: str) -> None:
        """What is wrong would not be seen, or something be seen that is not wrong."""
        found = of_source(views.source(**changes), NOW)
        assert [(one.title, one.level) for one in found] == ([] if title is None else [(title, level)])

    def test_a_pause_is_reported_instead_of_what_follows_from_it(self) -> None:
        """Somebody would look for an outage where a colleague has paused the source, or forget the pause."""
        behind = LastCycle("paused", NOW - 5 * HOUR)
        pause = Pause("shop", None, NOW - 5 * HOUR, NOW + HOUR, "migration `x` " + "y" * 5_000)
        paused = views.source(cycle=behind, watermark_ms=NOW - 5 * HOUR, pauses=[pause])
        (found,) = of_source(paused, NOW)
        assert found.title == "Paused by an operator: for 5 h, for 1 h more"
        assert found.command == "sync-worker resume shop"
        assert "Reason: migration `x`" in found.text
        assert len(found.text) < 200
        assert [one.subject for one in of_source(views.source(pauses=[Pause(None, "p q", NOW, None)]), NOW)] == [
            "A Kelet project is paused by an operator"
        ]
        commands = [of_source(views.source(pauses=[one]), NOW)[0].command for one in (
            Pause("a/b", "p", NOW), Pause(None, "p", NOW), Pause("$(rm)", None, NOW), Pause("a", "p q", NOW)
        )]  # fmt: skip
        assert commands == [
            "sync-worker resume a/b --project p", "sync-worker resume --project p", "sync-worker status",
            "sync-worker status",
        ]  # fmt: skip

    def test_a_full_dead_letter_box(self) -> None:
        """A source would pause, and the page say that nobody knows why."""
        full = views.broken(cycle=LastCycle("paused", NOW), max_dead_letters=50_000)
        assert of_source(full, NOW)[0].title == "Paused: it has as many dead letters as SYNC_MAX_DEAD_LETTERS allows"

    def test_every_kind_has_its_words(self) -> None:
        """A new kind of dead letter would stand there without what to do."""
        assert set(KINDS) == {"rejected", "partial", "unreadable", "redaction", "score"}


class TestLag:
    def test_it_follows_from_where_the_watermark_stood(self) -> None:
        """The lag would be drawn as it was when somebody last looked, and stand still while the worker does."""
        first = NOW // SLOT_MS - SLOTS + 1
        moved = [Slot(first - 3, first * SLOT_MS, 0, 0, 0), Slot(first + 10, (first + 10) * SLOT_MS, 1, 0, 0)]
        source = views.source(slots=moved, watermark_ms=(first + 10) * SLOT_MS)
        lags = source.lags(NOW)
        assert len(lags) == SLOTS
        assert lags[:3] == [SLOT_MS, 2 * SLOT_MS, 3 * SLOT_MS]
        assert lags[9:12] == [10 * SLOT_MS, SLOT_MS, 2 * SLOT_MS]
        assert lags[-1] == source.lag_ms(NOW) == NOW - (first + 10) * SLOT_MS
        assert is_behind(source, NOW)

    def test_what_is_not_known_is_not_drawn(self) -> None:
        """A source that is new would seem to have been up to date all day."""
        lags = views.source(slots=[Slot(NOW // SLOT_MS - 1, NOW - SLOT_MS, 0, 0, 0)]).lags(NOW)
        assert lags[:-2] == [None] * (SLOTS - 2)
        assert views.source(slots=[], watermark_ms=None).lags(NOW) == [None] * SLOTS
        assert "not known yet" in printed(
            document(views.view(views.source(slots=[Slot(1, None, 1, 0, 0)], watermark_ms=None)))
        )


def test_elements() -> None:
    """Text would be taken for markup, or markup be escaped twice."""
    assert text("<a&\"'\u202e>") == "&lt;a&amp;&quot;&#x27;\\u202e&gt;"
    made = element("p", "<", element("b", "&"), None, class_='a"b', aria_hidden="true", open=True, hidden=False, x=None)
    assert made == '<p class="a&quot;b" aria-hidden="true" open="">&lt;<b>&amp;</b></p>'
    assert isinstance(join(["a", made]), Markup)
    assert element("br") == "<br/>"
    assert prose("type `a <b` now") == "type <code>a &lt;b</code> now"
    assert name("x" * 59) == f"<bdi>{'x' * 59}</bdi>"
    assert name("x" * 60) == f"<bdi>{'x' * 48}…{'x' * 10}</bdi>"


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        (duration(-1), "0 s"), (duration(119.4), "119 s"), (duration(120), "2 min"), (duration(3_599), "59 min"),
        (duration(3_600), "1 h"), (duration(11_520), "3 h 12 min"), (duration(172_799), "47 h 59 min"),
        (duration(187_200), "2 d 4 h"), (counted(1, "gap"), "1 gap"), (counted(1_000, "gap"), "1,000 gaps"),
        (rate(0), "0"), (rate(0.01), "< 0.1"), (rate(9.96), "10.0"), (rate(1_234.5), "1,234"),
        (size(0), "0 B"), (size(1_536), "1.5 KiB"), (size(41 * 2**20), "41 MiB"), (size(2**60), "1,048,576 TiB"),
    ],
)  # fmt: skip
def test_words(shown: str, written: str) -> None:
    """A number would be read as another."""
    assert shown == written


def test_a_refresh_has_to_be_asked_for() -> None:
    """Whoever reads slowly, or is read to, would lose the place each minute; or an address set a wait of no time."""
    one = views.view(views.source())
    assert b'http-equiv="refresh"' not in document(one)
    assert b'<meta http-equiv="refresh" content="60"/>' in document(one, "60")
    for refresh in ("0", "9", "-60", "60;url=x", "99999999", "６０", ""):
        assert b"http-equiv" not in document(one, refresh)


# From a state file


def _settings(folder: Path, environ: dict[str, str], sources: int) -> Settings:
    """Return settings with so many sources, in a file."""
    lines = [
        f'[[sources]]\nname = "team-{at}"\nlangfuse_public_key = "pk-lf-{at}"\nkelet_project = "p-{at}"\n'
        for at in range(sources)
    ]
    (folder / "sync.toml").write_text("\n".join(lines))
    return load(environ=environ, directory=folder)


def _fill(ledger: Ledger, settings: Settings, letters: int) -> None:
    """Give each source an equal part of dead letters, with payloads as reasons, and all else that a page shows."""
    for at, source in enumerate(settings.sources):
        state = ledger.store_source(keys_of(source), source.langfuse_base_url, f"id-{at}", source.target, f"P{at}", "o")
        ledger.set_sync_start(state.id, ledger.clock.now_ms() - 3 * DAY)
        ledger.commit_result(state.id, [span("t", "a")], [])
        ledger.commit_interval(
            state.id,
            LIVE,
            Interval(ledger.clock.now_ms() - 3 * DAY, ledger.clock.now_ms()),
            [note("p", pending=True)],
            [],
        )
        ledger.state(CYCLES).put(
            last_cycle(source.name), {"ended_ms": NOW, "exit_code": 3, "good_ms": ledger.clock.now_ms()}
        )
        with ledger.transaction():
            ledger.execute_many(
                "INSERT INTO dead_letters (source_id, trace_id, observation_id, kind, status, reason, raw, spans, "
                "made_ms) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)",
                (
                    (state.id, f"t{row}", f"o{row}", ("rejected", "unreadable")[row % 2], 422, f"{PAYLOAD} {row}" * 9,
                     PAYLOAD * 20, NOW)
                    for row in range(letters // len(settings.sources))
                ),
            )  # fmt: skip


PAYLOAD = "what a customer wrote"


def _pages(settings: Settings, clock: Clock) -> Pages:
    return Pages(settings, settings.sources, clock, Measurements(), Tick(time.monotonic), dict)


def test_twenty_sources_and_many_dead_letters(make_world: MakeWorld) -> None:
    """The page would take seconds just when it is needed most, or show what a server repeated of an input."""
    made = make_world([])
    settings = _settings(made.folder, made.environ, 20)
    ledger = open_ledger(made.state, made.clock)
    _fill(ledger, settings, 50_000)
    plan = ledger.query(
        "EXPLAIN QUERY PLAN SELECT kind, status, sum(spans), min(made_ms), max(made_ms) FROM dead_letters "
        "WHERE source_id = 1 GROUP BY kind, status"
    )
    ledger.close()
    assert "COVERING INDEX" in str(plan)
    began = time.process_time()
    with open_to_read(made.state, made.clock, time.monotonic() + 60) as reading:
        found = views_of.read(reading, settings, settings.sources, made.clock)
    body = document(found)
    assert time.process_time() - began < 1.5
    assert [one.dead for one in found.sources] == [2_500] * 20
    assert "50,000 dead letters" in printed(body)
    assert "Dead letters: 20 sources — team-0, team-1, team-2, team-3 and 16 more" in printed(body)
    assert PAYLOAD.encode() not in body


def test_a_backfill_shows_how_far_it_is(make_world: MakeWorld) -> None:
    """Nobody would see whether a backfill is done in an hour or in a week, or that one that ended was not complete."""
    made = make_world([])
    settings = made.settings()
    ledger = open_ledger(made.state, made.clock)
    _fill(ledger, settings, 0)
    now = made.clock.now_ms()
    whole = Interval(now - 40 * DAY, now - 20 * DAY)
    held = lease.take(ledger, BACKFILL)
    stored = {"from": whole.start, "to": whole.end, "own": whole.length, "began_ms": now - HOUR, "todo": whole.length}
    ledger.state("source 1").put(LAST_BACKFILL, stored)
    claims.claim(ledger, 1, [whole])
    done = Interval(whole.start, whole.start + 15 * DAY)
    ledger.commit_interval(1, BACKFILL, done, [], [])

    def read() -> str:
        with open_to_read(made.state, made.clock, time.monotonic() + 60) as reading:
            return printed(document(views_of.read(reading, settings, settings.sources, made.clock)))

    shown = read()
    assert "75 %, running for 1 h, about 20 min left" in shown
    lease.release(ledger, held)
    shown = read()
    assert "75 %, not running; the same command resumes it" in shown
    assert "A backfill is not complete: 75%" in shown
    held = lease.take(ledger, BACKFILL)
    claims.claim(ledger, 1, [Interval(done.end, whole.end)])
    ledger.commit_interval(1, BACKFILL, Interval(done.end, whole.end), [], [])
    lease.release(ledger, held)
    ledger.close()
    assert "100 %, complete" in read()


def test_a_real_sync_is_on_it(make_world: MakeWorld) -> None:
    """What the worker does would not be what the page shows."""
    made = make_world(trace(3, start=0.0, seconds=5.0))
    made.cycles(600)
    made.backfill(made.clock.now_ms() - 40 * DAY, made.clock.now_ms() - 39 * DAY)
    settings = made.settings()
    with open_to_read(made.state, made.clock, time.monotonic() + 60) as reading:
        found = views_of.read(reading, settings, settings.sources, made.clock)
    (source,) = found.sources
    assert sum(slot.spans for slot in source.slots) == len(made.kelet.spans) == 4
    assert len([slot for slot in source.slots if slot.watermark_ms]) == 3
    lags = [lag for lag in source.lags(found.now_ms) if lag is not None]
    assert len(lags) == 3
    assert max(lags) < 5 * 60_000
    assert source.backfill is not None
    assert source.backfill.share == 1.0
    assert of_source(source, found.now_ms) == []


def test_a_long_way_is_seen_to_get_shorter(make_world: MakeWorld) -> None:
    """A first sync of hours would look like one that falls further behind, until it ends."""
    made = make_world(trace(1, start=0.0, seconds=5.0), SYNC_START="300d")
    seen: list[Any] = []

    def look(_: object) -> None:
        with open_to_read(made.state, made.clock, time.monotonic() + 60) as reading:
            seen.append(reading.query("SELECT max(watermark_ms) FROM history")[0][0])

    made.langfuse.script = look
    made.once()
    noted = [mark for mark in seen if mark is not None]
    assert len(set(noted)) > 1
    assert noted == sorted(noted)


def test_where_there_is_nothing_to_read(make_world: MakeWorld) -> None:
    """Somebody would get an error of the program, or wait, where the page should say what is wrong."""
    made = make_world([])
    pages = _pages(made.settings(), made.clock)
    answer = pages.page(HttpRequest())
    assert answer.status == "503 Service Unavailable"
    assert f"the state file {made.state} is not there" in printed(answer.body)
    assert answer.headers == HEADERS
    open_ledger(made.state, made.clock).close()
    assert pages.page(HttpRequest(query="refresh=60&x=<script>")).body.count(b'content="60"') == 1
    other = sqlite3.connect(made.state, isolation_level=None)
    other.execute("PRAGMA journal_mode = delete")
    other.execute("BEGIN EXCLUSIVE")
    answer = pages.page(HttpRequest())
    other.close()
    assert (answer.status[:3], "cannot be read in time" in printed(answer.body)) == ("503", True)
    made.state.write_bytes(b"\xff" * 10_000)
    answer = pages.page(HttpRequest())
    assert (answer.status[:3], str(made.state) in printed(answer.body)) == ("503", True)
