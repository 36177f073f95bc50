"""A Langfuse, a Kelet and a state file, and the program between them: in this process, or as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_worker.cli.lazy_crew import LazyCrew
from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.receiver import OtlpReceiver, ReceivedSpan
from sync_worker.intervals import Interval
from sync_worker.ledger import open_ledger
from sync_worker.ledger.lease import BACKFILL, LIVE, SEND, release, take
from sync_worker.pipeline.limits import Limits
from sync_worker.pipeline.report import SourceReport
from sync_worker.runs.send import SendResult, send
from sync_worker.settings import Settings, Source, load
from sync_worker.spans.ids import otlp_span_id, otlp_trace_id, source_trace_id
from sync_worker.sync.engine import Engine
from sync_worker.sync.opening import Transports
from sync_worker.sync.shards import Shard
from sync_worker.sync.source_sync import SourceSync
from tests.support.clock import VirtualClock
from tests.support.direct import Network
from tests.support.programs import Program, start_program

ROOT = Path(__file__).parents[2]
KEY = "kelet-secret-key-of-the-test"


@dataclass
class World:
    """Both servers and the settings between them; `environ` may be changed before a run."""

    langfuse: RecordedLangfuse
    kelet: OtlpReceiver
    folder: Path
    clock: VirtualClock
    environ: dict[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    crew: LazyCrew | None = None  # the jobs of a run in this process
    small: int = 0  # observations of an interval of the program as a process; 0: as many as usual
    _loaded: tuple[dict[str, str], Settings] | None = None

    def settings(self) -> Settings:
        """Load the settings as the program does; again only where they may be others."""
        from_files = (self.folder / "sync.toml").exists() or any(name.endswith("_FILE") for name in self.environ)
        if self._loaded is None or from_files or self._loaded[0] != self.environ:
            self._loaded = dict(self.environ), load(environ=self.environ, directory=self.folder)
        return self._loaded[1]

    @property
    def state(self) -> Path:
        """Where the state file is."""
        return Path(self.environ["SYNC_STATE_PATH"])

    def await_spans(self, spans: int) -> None:
        """Wait until so many spans have arrived."""
        deadline = time.monotonic() + 60
        while len(self.kelet.spans) < spans:
            assert time.monotonic() < deadline, "nothing arrived"
            time.sleep(0.01)

    def await_requests(self, requests: int) -> None:
        """Wait until so many requests with spans have arrived, whether they are answered or not."""
        deadline = time.monotonic() + 60
        while len(self.kelet.trace_requests) < requests:
            assert time.monotonic() < deadline, "nothing arrived"
            time.sleep(0.01)

    def configure_route(self) -> None:
        """Write settings of one source, `one`, which routes the environment `shop` to `shop`, the rest to `main`."""
        for name in ("LANGFUSE_BASE_URL", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"):
            self.environ.pop(name, None)
        server = self.langfuse
        (self.folder / "sync.toml").write_text(
            f'[[sources]]\nname = "one"\nlangfuse_base_url = "{server.url}"\nkelet_project = "main"\n'
            f'langfuse_public_key = "{server.public_key}"\nlangfuse_secret_key = "{server.secret_key}"\n'
            '[[sources.routes]]\nproject = "shop"\nenvironment = "shop"\n'
        )

    def once(self, patience: float | None = 60.0) -> tuple[SourceReport, int]:
        """Do one live cycle in this process, by the virtual clock; without `patience`, as `run` does."""
        return self._run(lambda engine, source: engine.live(source), patience, LIVE)

    def live(self, work: Callable[[Engine, Source], Awaitable[tuple[SourceReport, int]]]) -> tuple[SourceReport, int]:
        """Do work with the engine of a live sync in this process, as `run` does, by the virtual clock."""
        return self._run(work, None, LIVE)

    def cycles(self, seconds: float, every: float = 60.0) -> int:
        """Do live cycles for so long, each without an error; return how many spans they sent."""
        sent = 0
        for _ in range(int(seconds / every)):
            self.clock.advance(every)
            report, code = self.once()
            assert (report.error, code) == (None, 0)
            sent += report.spans_sent
        return sent

    def backfill(self, start_ms: int, end_ms: int) -> tuple[SourceReport, int]:
        """Do a backfill in this process, by the virtual clock."""
        return self._run(lambda engine, source: engine.backfill(source, Interval(start_ms, end_ms)), 60.0, BACKFILL)

    def backfill_scores(self, interval: Interval) -> tuple[SourceReport, int]:
        """Do a backfill of scores alone in this process, by the virtual clock."""
        return self._run(lambda engine, source: engine.backfill(source, interval, scores="only"), 60.0, BACKFILL)

    def send(self, *trace_ids: str, again: bool = False) -> list[SendResult]:
        """Send traces by id in this process, without an error."""
        results: list[SendResult] = []

        async def work(sync: SourceSync) -> None:
            await send(sync, trace_ids, results, again=again)

        report, code = self._run(lambda engine, source: engine.work(source, work), 60.0, SEND)
        assert (report.error, code) == (None, 0)
        return results

    def shard(self, shard: Shard, start_ms: int, end_ms: int) -> tuple[SourceReport, int]:
        """Do one machine's share of a backfill in this process, with a state file of its own."""
        whole = Interval(start_ms, end_ms)
        interval = Interval(start_ms, min(end_ms, self.clock.now_ms()))
        return self._run(
            lambda engine, source: engine.backfill(source, interval, None, shard.partitions(whole)),
            60.0, BACKFILL, self.shard_state(shard), shard.of,
        )  # fmt: skip

    def shard_state(self, shard: Shard) -> Path:
        """Return where the state file of a shard is."""
        return self.folder / f"shard-{shard.index}-{shard.of}.db"

    def _run(
        self,
        work: Any,
        patience: float | None,
        role: str,
        state: Path | None = None,
        parts: int = 1,
    ) -> tuple[SourceReport, int]:
        settings = self.settings()
        ledger = open_ledger(state or settings.state_path, self.clock)
        try:
            lease = take(ledger, role)
            try:
                near = [server for server in (self.langfuse, self.kelet) if server.script is None]
                ways = Transports(Network(*near), Network(*near))
                engine = Engine(settings, ledger, self.clock, patience, ways, parts=parts, limits=self.limits)
                if self.crew is not None:
                    self.crew.lead(engine)
                result: tuple[SourceReport, int] = asyncio.run(work(engine, settings.sources[0]))
                return result
            finally:
                release(ledger, lease)
        finally:
            ledger.close()

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None, stdin: str = os.devnull) -> Program:
        """Start the program as a process of its own, by the clock of this machine."""
        self.langfuse.now = time.time
        variables = self._process_environ(environ or {})
        return start_program(arguments, self.folder, variables, stdin, self.small)

    def program(
        self, *arguments: str, environ: Mapping[str, str] | None = None, stdin: str = os.devnull
    ) -> tuple[int, str, str]:
        """Run the program as a process of its own; returns exit code, stdout and stderr."""
        with self.start(*arguments, environ=environ, stdin=stdin) as process:
            try:
                out, err = process.communicate(timeout=60)
            except BaseException:
                process.kill()  # or leaving it waits for its end
                raise
        return process.wait(), out, err

    def program_json(self, *arguments: str) -> tuple[int, Any]:
        """Run the program with `--json`; returns exit code and the object printed."""
        code, out, err = self.program(*arguments, "--json")
        assert out, err
        return code, json.loads(out)

    def _process_environ(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {**kept, **self.environ, **more}

    def arrived(self) -> Counter[tuple[str, str]]:
        """Return how often each span (trace id, span id) was accepted."""
        return Counter((span.trace_id, span.span_id) for span in self.kelet.spans)

    def span(self, name: str) -> ReceivedSpan:
        """Return the one span of that name."""
        (found,) = [span for span in self.kelet.spans if span.name == name]
        return found

    def langfuse_requests(self) -> int:
        """Return how many requests Langfuse was asked."""
        return len(self.langfuse.requests)


def identity(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the ids a row's span must have."""
    trace = source_trace_id(row["traceId"], row["id"])
    return otlp_trace_id(row["projectId"], trace), otlp_span_id(row["projectId"], trace, row["id"])


def identities(rows: Iterable[Mapping[str, Any]]) -> Counter[tuple[str, str]]:
    """Return the ids that rows must arrive with, once each."""
    return Counter({identity(row): 1 for row in rows})


def now_of(server: RecordedLangfuse) -> float:
    """Return what time it is for a server, as a test has set it by then."""
    return server.now()


@contextmanager
def world(folder: Path, rows: Iterable[dict[str, Any]] | RecordedLangfuse, now: int, **environ: str) -> Iterator[World]:
    """Start both servers, `rows` or another Langfuse; the virtual clock stands at `now`, Unix milliseconds."""
    server = rows if isinstance(rows, RecordedLangfuse) else RecordedLangfuse(rows)
    with server as langfuse, OtlpReceiver(api_key=KEY) as kelet:
        clock = VirtualClock(now)
        langfuse.now = lambda: clock.now_ms() / 1000
        kelet.now = lambda: now_of(langfuse)
        yield World(
            langfuse,
            kelet,
            folder,
            clock,
            {
                "LANGFUSE_BASE_URL": langfuse.url,
                "LANGFUSE_PUBLIC_KEY": langfuse.public_key,
                "LANGFUSE_SECRET_KEY": langfuse.secret_key,
                "KELET_API_URL": kelet.url,
                "KELET_API_KEY": KEY,
                "KELET_PROJECT": "support_test",
                "SYNC_STATE_PATH": str(folder / "state.db"),
                **environ,
            },
        )
