"""Fields that Langfuse keeps elsewhere because they are over its own limit."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import signal
import time
from dataclasses import replace

import pytest

from sync_worker.demo.serving import Reply, Request, json_reply
from sync_worker.errors import TransientError
from sync_worker.langfuse import object_store as stores
from sync_worker.langfuse.truncated_fields import MAX_TEXT_BYTES
from sync_worker.pipeline.limits import Limits
from tests.support import faults
from tests.support.rows import trace
from tests.sync.conftest import MakeWorld
from tests.sync.world import World

TOKEN = "@@@langfuseMedia:type=text/plain|id={}|source=field_size_limit@@@"
PICTURE = "@@@langfuseMedia:type=image/png|id=picture|source=base64_data_uri@@@"
LONG = "a long question in München " * 40


def _store(made: World, *, code: int = 200) -> list[Request]:
    """Let the server keep one text; return the requests to its store."""
    seen: list[Request] = []

    def script(request: Request) -> Reply | None:
        if request.path == "/api/public/media/long":
            return json_reply(
                200,
                {
                    "mediaId": "long", "contentType": "text/plain", "contentLength": len(LONG.encode()),
                    "uploadedAt": "2026-11-20T12:00:00.000Z", "url": f"{made.langfuse.url}/store/long?signed=yes",
                    "urlExpiry": "2026-11-20T13:00:00.000Z",
                },
            )  # fmt: skip
        if request.path == "/store/long":
            seen.append(request)
            return Reply(code, {"Content-Type": "text/plain"}, LONG.encode())
        return None

    made.langfuse.script = script
    return seen


def test_text_comes_back_whole(make_world: MakeWorld) -> None:
    """Kelet gets a token instead of the question; or the keys go to the store; or the row is sent again each time."""
    root, child = trace(1, start=0.0, seconds=5.0)
    child["input"], child["output"] = TOKEN.format("long"), f"see {PICTURE}"
    made = make_world([root, child])
    seen = _store(made)
    report, code = made.once()
    assert (report.spans_sent, code) == (2, 0)
    (span,) = [span for span in made.kelet.spans if span.span_id == child["id"]]
    assert span.attributes["langfuse.observation.input"] == LONG
    assert span.attributes["langfuse.observation.output"] == f"see {PICTURE}"
    assert all("authorization" not in request.headers for request in seen)
    to_langfuse = [request for request in made.langfuse.requests if not request.path.startswith("/store")]
    assert report.langfuse_requests == len(to_langfuse)
    made.clock.advance(2_000)
    report, _ = made.once()
    assert report.spans_sent == 0


def test_text_that_cannot_be_had_stays_a_token(make_world: MakeWorld) -> None:
    """A text that is gone stops the sync, or takes its row with it."""
    root, child = trace(1, start=0.0, seconds=5.0)
    child["input"], child["output"] = TOKEN.format("gone"), TOKEN.format("long")
    made = make_world([root, child])
    _store(made, code=403)
    report, code = made.once()
    assert (report.error, report.spans_sent, code) == (None, 2, 0)
    (span,) = [span for span in made.kelet.spans if span.span_id == child["id"]]
    assert span.attributes["langfuse.observation.input"] == TOKEN.format("gone")
    assert span.attributes["langfuse.observation.output"] == TOKEN.format("long")


def test_store_that_fails_is_tried_again(make_world: MakeWorld) -> None:
    """A text is given up because its store had a bad moment."""
    root, child = trace(1, start=0.0, seconds=5.0)
    child["input"] = TOKEN.format("long")
    made = make_world([root, child])
    _store(made)
    serve = made.langfuse.script
    assert serve is not None
    made.langfuse.script = faults.first_of(faults.on_path("/store/long", faults.in_turn(faults.status(503))), serve)
    made.once()
    (span,) = [span for span in made.kelet.spans if span.span_id == child["id"]]
    assert span.attributes["langfuse.observation.input"] == LONG


def _media_requests(made: World) -> int:
    return sum(request.path.startswith(("/api/public/media", "/store")) for request in made.langfuse.requests)


def test_tokens_that_a_user_typed_stay(make_world: MakeWorld) -> None:
    """A chat text full of tokens makes a request each, and pulls other rows' content in."""
    root, child = trace(1, start=0.0, seconds=5.0)
    token = TOKEN.format("long")
    child["input"] = f"what is {token}? " * 5_000
    child["output"] = json.dumps([{"role": "user", "content": f" {token}"}, {token: 1}, [f'"{token}"', token + token]])
    made = make_world([root, child])
    _store(made)
    report, code = made.once()
    assert (report.error, report.spans_sent, code, _media_requests(made)) == (None, 2, 0, 0)
    (span,) = [span for span in made.kelet.spans if span.span_id == child["id"]]
    assert span.attributes["langfuse.observation.input"] == child["input"]
    assert LONG not in str(span.attributes)


def test_texts_in_json_come_back_once_each(make_world: MakeWorld) -> None:
    """The same text is fetched for each place it stands at; or more is put into a row than memory has."""
    root, child = trace(1, start=0.0, seconds=5.0)
    token = TOKEN.format("long")
    child["input"] = json.dumps({"a": [token, 1.50, token], "b": {"c": token}}, indent=1)
    child["output"] = json.dumps([TOKEN.format(f"other-{number}") for number in range(50)] + [token])
    made = make_world([root, child])
    _store(made)
    report, code = made.once()
    assert (report.error, code) == (None, 0)
    (span,) = [span for span in made.kelet.spans if span.span_id == child["id"]]
    assert span.attributes["langfuse.observation.input"] == child["input"].replace(token, LONG)
    assert _media_requests(made) == 2 + 3  # the text, and three tokens of nothing: four of a row are tried
    assert report.notes["media tokens that stay"] == 50


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ({}, Reply(302, {"Location": "/elsewhere"}, b"")),
        ({"contentLength": 3}, Reply(200, {}, b"x" * (MAX_TEXT_BYTES + 1))),
        ({}, Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(b"x" * 1_000_000))),
        ({"url": "http://[::ffff:169.254.169.254]/latest"}, Reply(200, {}, b"secret")),
        ({"url": "http://[bad"}, Reply(200, {}, b"secret")),
        ({"mediaId": "another"}, Reply(200, {}, b"secret")),
        ({"contentType": "image/png"}, Reply(200, {}, b"secret")),
        ({"contentLength": 10**12}, Reply(200, {}, b"secret")),
    ],
    ids=["redirect", "longer than told", "compressed", "metadata service", "no address", "other", "picture", "huge"],
)
def test_answers_that_are_no_text_of_the_field(answer: dict[str, object], reply: Reply, make_world: MakeWorld) -> None:
    """What an answer says, or where it leads, is believed whatever it is."""
    root, child = trace(1, start=0.0, seconds=5.0)
    child["input"] = TOKEN.format("long")
    made = make_world([root, child])
    _store(made)
    serve = made.langfuse.script
    assert serve is not None

    def script(request: Request) -> Reply | None:
        if request.path == "/store/long":
            return reply
        reported = serve(request)
        if reported is None or request.path != "/api/public/media/long":
            return reported
        return json_reply(200, json.loads(reported.body) | answer)

    made.langfuse.script = script
    report, code = made.once()
    assert (report.error, report.spans_sent, code) == (None, 2, 0)
    (span,) = [span for span in made.kelet.spans if span.span_id == child["id"]]
    assert span.attributes["langfuse.observation.input"] == child["input"]
    assert report.notes["media tokens that stay"] == 1
    assert all(request.path != "/elsewhere" for request in made.langfuse.requests)


@pytest.mark.parametrize("path", ["/store/long", "/api/public/media/long"])
def test_a_store_that_is_down_for_good_stops_nothing(path: str, make_world: MakeWorld) -> None:
    """A store that this machine cannot reach holds its source up for ever."""
    traces = [trace(1, start=float(number), seconds=5.0) for number in range(5)]
    for number, (_, child) in enumerate(traces):
        child["input"] = TOKEN.format("long" if number % 2 else f"long{number}")
    made = make_world([item for one in traces for item in one])
    _store(made)
    serve = made.langfuse.script
    assert serve is not None
    made.langfuse.script = faults.first_of(faults.on_path(path, faults.always(faults.status(503))), serve)
    report, code = made.once()
    assert (report.error, report.spans_sent, code) == (None, 10, 0)
    assert report.notes["media tokens that stay"] == 5
    assert _media_requests(made) < 60


def test_much_text_goes_out_in_part(make_world: MakeWorld) -> None:
    """The texts of all rows of a trace are held at once, whatever they take."""
    root, *children = trace(7, start=0.0, seconds=9.0)
    for child in children:
        child["input"] = TOKEN.format("long")
    made = make_world([root, *children])
    made.limits = Limits(held_bytes=2 * len(LONG))
    _store(made)
    report, code = made.once()
    assert (report.error, report.spans_sent, report.traces_sent, code) == (None, 8, 1, 0)
    assert len(made.kelet.spans) == 8
    shown = [span for span in made.kelet.spans if span.span_id != root["id"]]
    assert {span.parent_id for span in shown} == {root["id"]}
    assert {span.attributes["langfuse.observation.input"] for span in shown} == {LONG}
    assert _media_requests(made) == 2
    assert made.once()[0].spans_sent == 0


def test_text_is_sent_before_more_of_it_is_read(make_world: MakeWorld) -> None:
    """Inputs and outputs of a whole trace are held at once, whatever they take."""
    root, *children = trace(5, start=0.0, seconds=9.0)
    for number, child in enumerate(children):
        child["input"], child["output"] = TOKEN.format("long"), TOKEN.format(f"long-{number}")
    made = make_world([root, *children], SYNC_MAX_BATCH_SPANS="1")
    made.limits = Limits(held_bytes=3 * len(LONG) // 2)
    _store(made)
    serve, before = made.langfuse.script, list[int]()
    assert serve is not None

    def script(request: Request) -> Reply | None:
        if request.path.startswith("/api/public/media/long-"):
            before.append(len(made.kelet.spans))
            shown = serve(replace(request, target="/api/public/media/long"))
            assert shown is not None
            name = request.path.rpartition("/")[2]
            return json_reply(200, json.loads(shown.body) | {"mediaId": name})
        return serve(request)

    made.langfuse.script = script
    report, code = made.once()
    assert (report.error, report.spans_sent, code) == (None, 6, 0)
    assert before[0] == 0
    assert before[-1] > 0


def test_few_texts_are_kept_for_the_next_observation(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts, or tokens that stand for none, are kept without end, until no memory is left."""
    monkeypatch.setattr("sync_worker.langfuse.truncated_fields._REMEMBERED", 2)
    root, *children = trace(4, start=0.0, seconds=9.0)
    for child, name in zip(children, ("gone-1", "gone-2", "gone-3", "gone-1"), strict=True):
        child["input"] = TOKEN.format(name)
    made = make_world([root, *children])
    _store(made)
    made.once()
    asked = [request.path.rpartition("/")[2] for request in made.langfuse.requests if "/media/" in request.path]
    assert sorted(asked) == ["gone-1", "gone-1", "gone-2", "gone-3"]


def test_a_stop_does_not_wait_for_a_store(make_world: MakeWorld) -> None:
    """A store that hangs holds a run against SIGTERM beyond what a supervisor waits."""
    rows = trace(1, seconds=5.0)
    rows[1]["input"] = TOKEN.format("long")
    made = make_world(rows, SYNC_START="2026-11-20T00:00:00Z")
    seen = _store(made)
    serve = made.langfuse.script
    assert serve is not None

    def hanging(request: Request) -> Reply | None:
        reply = serve(request)
        return faults.slow(60.0) if request.path == "/store/long" else reply

    made.langfuse.script = hanging
    with made.start("once") as process:
        deadline = time.monotonic() + 30
        while not seen and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=45)
    assert process.returncode == 143, err


def test_a_store_that_trickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then holds a source up for minutes, for one text."""
    monkeypatch.setattr(stores, "_SLOW", 0.2)
    served = asyncio.Event()

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for byte in b"x" * 40:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        served.set()

    async def read() -> None:
        async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            try:
                await stores.ObjectStore(f"http://127.0.0.1:{port}").read(f"http://127.0.0.1:{port}/text", 1000)
            finally:
                await served.wait()

    with pytest.raises(TransientError, match="too slow"):
        asyncio.run(read())
