"""What the HTTP port of `run` answers: the status page, metrics, whether the worker lives and is ready, its state."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import parse_qs

from sync_worker.clock import Clock
from sync_worker.errors import StateError
from sync_worker.ledger import Ledger
from sync_worker.ledger.lease import LIVE, Lease
from sync_worker.ledger.reading import open_to_read
from sync_worker.measurements import Measurements, Tick
from sync_worker.settings import Settings, Source
from sync_worker.waits import Wait
from sync_worker.watch import ledger_metrics
from sync_worker.watch.exposition import render, with_measurements
from sync_worker.watch.http_server import HttpRequest, Page, Response, text
from sync_worker.watch.metrics import Samples
from sync_worker.watch.page import view
from sync_worker.watch.page.document import CONTENT_TYPE, HEADERS, document, unreadable
from sync_worker.watch.status import daily_limits, describe, lookback_windows_ms, now_ms

#: A loop that has not run for so many seconds hangs.
HANGS_AFTER = 120.0
#: How long reading the state file may take for an answer, in seconds; an answer takes two at most.
_READING = 1.8


class Pages:
    """The pages of one `run`. `lease` is set once it is held, `offsets` returns by source how far clocks are apart.

    `waits` is what the run waits for.
    """

    def __init__(
        self, settings: Settings, sources: Sequence[Source], clock: Clock, made: Measurements, tick: Tick,
        offsets: Callable[[], Mapping[str, float]],
    ) -> None:  # fmt: skip
        self.lease: Lease | None = None
        self.waits: Collection[Wait] = ()
        self.offsets = offsets
        self._settings = settings
        self._sources = sources
        self._clock = clock
        self._made = made
        self._tick = tick
        self._reading = threading.Lock()

    def by_path(self) -> dict[str, Page]:
        """Return the pages by their paths."""
        return {
            "/": self.page, "/metrics": self.metrics, "/healthz": self.healthz, "/readyz": self.readyz,
            "/status": self.status,
        }  # fmt: skip

    def page(self, request: HttpRequest) -> Response:
        """Return the status page, also where there is no state file to read."""
        refresh = parse_qs(request.query).get("refresh", [""])[0]
        try:
            with self._ledger() as ledger:
                found = view.read(ledger, self._settings, self._sources, self._clock)
        except StateError as error:
            return Response("503 Service Unavailable", CONTENT_TYPE, unreadable(str(error)), HEADERS)
        found = replace(found, tick_age=self._tick.age(), offsets=dict(self.offsets()), waits=self._errors_waited_for())
        return Response("200 OK", CONTENT_TYPE, document(found, refresh), HEADERS)

    def metrics(self, request: HttpRequest) -> Response:
        """Return all metrics. Raises StateError."""
        with self._ledger() as ledger:
            samples = ledger_metrics.read(ledger, self._settings, self._sources, self._clock)
        kind, body = render(self._with_own(samples), request.accept, process=True)
        return Response("200 OK", kind, body, (("Vary", "Accept"),))

    def healthz(self, _: HttpRequest) -> Response:
        """Return whether the event loop runs, also while it waits."""
        age = self._tick.age()
        if age < HANGS_AFTER:
            return text("ok")
        return text(f"the event loop has not run for {age:.0f} s. Try: restart the worker; nothing is lost", ok=False)

    def readyz(self, _: HttpRequest) -> Response:
        """Return whether the state file can be read and the lease is held; settings were before. Raises StateError."""
        lease = self.lease
        if lease is None:
            return text("the lease of the live sync is not held yet", ok=False)
        with self._ledger() as ledger:
            held = ledger.leases().get(LIVE)
        if held is None or held["token"] != lease.token:
            return text("the lease of the live sync was taken over by another run", ok=False)
        return text("ok")

    def status(self, _: HttpRequest) -> Response:
        """Return what `status --json` prints. Raises StateError."""
        with self._ledger() as ledger:
            windows, limits = lookback_windows_ms(self._settings, ledger), daily_limits(self._settings, ledger)
            found = describe(ledger, now_ms(ledger, self._clock), windows, limits)
        return Response("200 OK", "application/json", f"{json.dumps(found)}\n".encode())

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        """Open the state file to read it; one request at a time, so that many of them cost no more than one."""
        until = time.monotonic() + _READING
        if not self._reading.acquire(timeout=_READING):
            raise StateError(f"the state file {self._settings.state_path} cannot be read in time", transient=True)
        try:
            with open_to_read(self._settings.state_path, self._clock, until) as ledger:
                yield ledger
        finally:
            self._reading.release()

    def _errors_waited_for(self) -> list[tuple[str, float]]:
        """Return what is waited for after an error, each once, and for how many seconds more."""
        now = time.monotonic()
        found: dict[str, float] = {}
        for wait in list(self.waits):
            if wait.after_error:
                found[wait.reason] = max(found.get(wait.reason, 0.0), wait.until - now)
        return list(found.items())

    def _with_own(self, samples: Samples) -> Samples:
        found = with_measurements(samples, self._made)
        found["clock_offset_seconds"] = {(source,): offset for source, offset in self.offsets().items()}
        found["loop_tick_age_seconds"] = {(): self._tick.age()}
        return found
