"""Fields that Langfuse keeps elsewhere because they are over its own limit."""

from __future__ import annotations

from sync_worker.demo.serving import Reply, Request, json_reply
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
