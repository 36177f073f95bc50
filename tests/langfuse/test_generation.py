"""Which generation of the API a server is read by, asked for and remembered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

import pytest

from sync_worker.backoff import Backoff
from sync_worker.choices import Api
from sync_worker.demo.serving import Reply, Request, json_reply
from sync_worker.errors import CredentialsRejected, SourcePaused, TransientError
from sync_worker.langfuse.buckets import Buckets
from sync_worker.langfuse.generation import ask
from sync_worker.langfuse.langfuse_client import EndpointMissing, LangfuseClient
from sync_worker.langfuse.rate_limiter import Quota
from sync_worker.langfuse.v1 import V1Reader
from sync_worker.langfuse.v2 import V2Reader
from sync_worker.ledger import Ledger, open_ledger
from sync_worker.ledger.lease import LIVE, Lease, release, take
from sync_worker.sync.stored_generation import Generations
from tests.langfuse.conftest import PUBLIC_KEY, SECRET_KEY, ConnectV1
from tests.support import faults
from tests.support.clock import VirtualClock
from tests.support.langfuse_v1 import NO_V2, LangfuseV1, Mode
from tests.support.state import put

V2 = "/api/public/v2/observations"
V1 = "/api/public/traces"
HTML = Reply(404, {"Content-Type": "text/html"}, b"<!DOCTYPE html><html><title>404</title></html>")
ONLY_CLOUD = "v2 APIs are currently in beta and only available on Langfuse Cloud"

Script = Callable[[Request], Reply | None]


def answers(v2: Reply | None = None, v1: Reply | None = None, health: Reply | None = None) -> Script:
    by_path = {V2: v2, V1: v1, "/api/public/health": health}
    return lambda request: by_path.get(request.path)


MODES: list[tuple[Mode, Api, str, bool]] = [
    ("v3", "v1", "3.225.4", True),
    ("v2", "v1", "2.95.11", True),
    ("dual", "v2", "4.16.0", True),
    ("events_only", "v2", "4.16.0", False),
]


@pytest.mark.parametrize(("mode", "api", "version", "has_v1"), MODES)
async def test_each_kind_of_server(mode: Mode, api: Api, version: str, has_v1: bool, connect_v1: ConnectV1) -> None:
    """A server is read by an API that it does not have, or asked for more than each API once."""
    made = connect_v1(LangfuseV1(mode=mode))
    found = await ask(made.client)
    assert (found.api, found.version, found.v1) == (api, version, has_v1)
    assert sorted(request.path for request in made.server.requests) == ["/api/public/health", V1, V2]


NO_V2_ANSWERS = {
    "to 3.132": HTML,
    "3.133 to 3.158": json_reply(501, {"message": ONLY_CLOUD, "error": "NotImplementedError"}),
    "3.159 to 3.178": json_reply(404, {"message": ONLY_CLOUD, "error": "LangfuseNotFoundError"}),
    "3.179 to 3.225, legacy mode of 4": json_reply(404, NO_V2),
    "405": json_reply(405, {"message": "Method not allowed"}),
    "410": json_reply(410, {"message": "Gone"}),
}


@pytest.mark.parametrize("mode", ["v3", "dual"])
@pytest.mark.parametrize("how", NO_V2_ANSWERS)
async def test_every_way_to_say_that_v2_is_missing(how: str, mode: Mode, connect_v1: ConnectV1) -> None:
    """Some version's word for a missing v2 is taken for a fault, or its version for an answer."""
    made = connect_v1(LangfuseV1(mode=mode))
    made.server.script = answers(v2=NO_V2_ANSWERS[how])
    found = await ask(made.client)
    assert (found.api, found.v2, found.v1) == ("v1", False, True)
    assert str(NO_V2_ANSWERS[how].status) in found.why


async def test_server_with_neither_is_no_langfuse(connect_v1: ConnectV1) -> None:
    """A wrong address is read as a server without data."""
    made = connect_v1(LangfuseV1())
    made.server.script = faults.always(HTML)
    with pytest.raises(EndpointMissing, match="LANGFUSE_BASE_URL"):
        await ask(made.client)


REFUSED = json_reply(401, {"message": "Invalid credentials."})


@pytest.mark.parametrize("script", [answers(v2=REFUSED), answers(v2=HTML, v1=REFUSED)])
async def test_rejected_keys_are_reported_as_such(script: Script, connect_v1: ConnectV1) -> None:
    """Wrong keys look like a missing API."""
    made = connect_v1(LangfuseV1())
    made.server.script = script
    with pytest.raises(CredentialsRejected):
        await ask(made.client)


@pytest.mark.parametrize("fault", [faults.status(500), faults.status(503), faults.rate_limited(), faults.drop()])
async def test_faults_decide_nothing(fault: Reply, connect_v1: ConnectV1) -> None:
    """A v2 server that fails once is read by v1 from then on."""
    for path in (V2, V1):
        made = connect_v1(LangfuseV1(mode="dual"))
        made.server.script = faults.on_path(path, faults.in_turn(fault, fault))
        found = await ask(made.client)
        assert (found.api, found.v1) == ("v2", True)
    down = connect_v1(LangfuseV1(), patience=60.0)
    down.server.script = faults.on_path(V2, faults.status(502))
    with pytest.raises(TransientError, match="gave up after"):
        await ask(down.client)


HEALTHS = [faults.status(503), HTML, json_reply(200, {"status": "OK"}), json_reply(200, []), faults.redirect("/x")]


@pytest.mark.parametrize("health", HEALTHS)
async def test_version_is_no_more_than_a_hint(health: Reply, connect_v1: ConnectV1) -> None:
    """A server whose health page is hidden is not read at all."""
    made = connect_v1(LangfuseV1())
    made.server.script = answers(health=health)
    found = await ask(made.client)
    assert (found.api, found.version) == ("v1", None)


async def test_version_does_not_decide(connect_v1: ConnectV1) -> None:
    """A server is read by what its version promises, and not by what it answers."""
    claims = json_reply(200, {"status": "OK", "version": "4.16.0"})
    made = connect_v1(LangfuseV1())
    made.server.script = answers(health=claims)
    assert (await ask(made.client)).api == "v1"


HOUR = 3600.0
LOOK_BACK = 48 * 3_600_000


class Source:
    """A source with a ledger, and a server that may change under it."""

    def __init__(self, ledger: Ledger, clock: VirtualClock, mode: Mode) -> None:
        self.ledger, self.clock = ledger, clock
        self.server = LangfuseV1(mode=mode)
        self.client = LangfuseClient(
            "http://langfuse.test",
            PUBLIC_KEY,
            SECRET_KEY,
            rate_limits=Buckets(clock, Quota(None, Fraction(4, 5))),
            backoff=Backoff("Langfuse", clock, 60.0),
            clock=clock,
            transport=self.server.transport(clock),
        )

    def generations(self, wanted: Literal["auto", "v2", "v1"] = "auto") -> Generations:
        return Generations(self.ledger.state("source"), wanted, LOOK_BACK, self.clock)

    async def known(self, wanted: Literal["auto", "v2", "v1"] = "auto") -> Api:
        return (await self.generations(wanted).known(self.client)).api

    @property
    def asked(self) -> int:
        return len(self.server.requests)


MakeSource = Callable[[Mode], Source]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[MakeSource]:
    """Make a source with a ledger of its own."""
    made: list[tuple[Source, Lease]] = []

    def make(mode: Mode) -> Source:
        clock = VirtualClock()
        ledger = open_ledger(tmp_path / f"state-{len(made)}.db", clock)
        made.append((Source(ledger, clock, mode), take(ledger, LIVE)))
        return made[-1][0]

    yield make
    for one, lease in made:
        one.server.stop()
        release(one.ledger, lease)
        one.ledger.close()


async def test_nothing_known_is_v2_without_a_request(source: MakeSource) -> None:
    """Every source of Langfuse Cloud pays for questions whose answer is always the same."""
    one = source("dual")
    assert await one.known() == "v2"
    assert await one.known("v2") == "v2"
    assert one.asked == 0
    await one.client.close()


async def test_v1_is_found_and_remembered(source: MakeSource) -> None:
    """A server without v2 is asked for it in every cycle, or never again."""
    one = source("v3")
    assert await one.generations().is_another(one.client, "v2")
    assert one.asked == 3
    for _ in range(5):
        one.clock.advance(4 * HOUR)
        assert await one.known() == "v1"
    assert one.asked == 3
    one.clock.advance(4 * HOUR + 1)
    assert await one.known() == "v1"
    assert one.asked == 6
    found = await one.generations().known(one.client)
    assert found.version == "3.225.4"
    assert "v2 observations do not" in found.why
    assert isinstance(found.reader(one.client, None), V1Reader)
    await one.client.close()


async def test_upgrade_to_dual_stays_on_v1_for_the_lookback(source: MakeSource) -> None:
    """What was written before an upgrade stands under v1 alone, and late rows of that time are missed."""
    one = source("v3")
    await one.generations().find(one.client)
    one.server.become("dual")
    seen = []
    for _ in range(6):
        one.clock.advance(24 * HOUR + 1)
        found = await one.generations().known(one.client)
        seen.append(found.api)
        if found.api == "v1":
            assert "v2 observations are served since" in found.why
    assert seen == ["v1", "v1", "v2", "v2", "v2", "v2"]
    assert isinstance((await one.generations().known(one.client)).reader(one.client, None), V2Reader)
    await one.client.close()


async def test_v1_that_is_gone_is_left_at_once(source: MakeSource) -> None:
    """After an upgrade to a server without v1 the source stands still until the next day."""
    paths: list[list[Mode]] = [[], ["dual"]]
    for path in paths:
        one = source("v3")
        await one.generations().find(one.client)
        for mode in path:
            one.server.become(mode)
            await one.generations().find(one.client)
        one.server.become("events_only")
        assert await one.known() == "v1"
        assert await one.generations().is_another(one.client, "v1")
        assert await one.known() == "v2"
        await one.client.close()


async def test_upgrade_that_is_taken_back_begins_again(source: MakeSource) -> None:
    """A second upgrade counts its look-back from the first one, which was taken back."""
    one = source("v3")
    path: list[Mode] = ["v3", "dual", "v3", "dual"]
    for mode in path:
        one.server.become(mode)
        assert (await one.generations().find(one.client)).api == "v1"
        one.clock.advance(30 * HOUR)
    assert (await one.generations().find(one.client)).api == "v1"
    one.clock.advance(30 * HOUR)
    assert (await one.generations().find(one.client)).api == "v2"
    await one.client.close()


async def test_v2_that_is_gone_is_left_at_once(source: MakeSource) -> None:
    """A downgrade, or a switch of the write mode, stops the source for good."""
    one = source("dual")
    assert (await one.generations().find(one.client)).api == "v2"
    one.server.become("v3")
    assert await one.generations().is_another(one.client, "v2")
    assert await one.known() == "v1"
    await one.client.close()


@pytest.mark.parametrize(("mode", "wanted"), [("dual", "v1"), ("v3", "v2"), ("events_only", "v1")])
async def test_what_was_set_is_kept(mode: Mode, wanted: Literal["v1", "v2"], source: MakeSource) -> None:
    """The operator's choice is overruled by what the server answers."""
    one = source(mode)
    assert await one.known(wanted) == wanted
    assert not await one.generations(wanted).is_another(one.client, wanted)
    assert await one.known(wanted) == wanted
    await one.client.close()


async def test_choice_that_is_taken_back(source: MakeSource) -> None:
    """A choice outlives its setting."""
    one = source("events_only")
    await one.generations().find(one.client)
    assert await one.known("v1") == "v1"
    assert await one.generations().is_another(one.client, "v1")
    assert await one.known() == "v2"
    await one.client.close()


async def test_clock_that_was_set_back_asks_again(source: MakeSource) -> None:
    """A clock that was wrong for a while keeps the answer of then for years."""
    one = source("v3")
    await one.generations().find(one.client)
    one.clock.jump(-1000 * HOUR)
    before = one.asked
    assert await one.known() == "v1"
    assert one.asked == before + 3
    await one.client.close()


async def test_no_answer_leaves_what_is_known(source: MakeSource) -> None:
    """An outage while the daily question is due makes a source forget what it is read by."""
    one = source("v3")
    await one.generations().find(one.client)
    stored = one.ledger.stored_key("source", "api")
    for script, error in ((HTML, SourcePaused), (faults.status(503), TransientError)):
        one.clock.advance(25 * HOUR)
        one.server.script = faults.always(script)
        with pytest.raises(error):
            await one.known()
        assert one.ledger.stored_key("source", "api") == stored
        one.client.backoff.success()
    await one.client.close()


@pytest.mark.parametrize("text", ["{", "[]", '{"api":"v1"}', '{"api":"v1","why":"x","word":"of a later version"}'])
async def test_memory_of_another_version(text: str, source: MakeSource) -> None:
    """A note that another version left behind ends the program."""
    one = source("v3")
    put(one.ledger, "source", "api", text)
    assert await one.known() in {"v1", "v2"}
    assert (await one.generations().find(one.client)).api == "v1"
    assert json.loads(one.ledger.stored_key("source", "api") or "")["api"] == "v1"
    await one.client.close()
