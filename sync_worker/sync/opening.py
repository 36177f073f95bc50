"""Opens a source: its clients, its record in the ledger, and the generation of the API it is read by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx

from sync_worker.backoff import Backoff
from sync_worker.bounded_client import unless_stopped
from sync_worker.corrected import CorrectedClock
from sync_worker.errors import LeaseHeld, StateError
from sync_worker.http import date_hooks
from sync_worker.langfuse.buckets import RateLimiters
from sync_worker.langfuse.concurrency import ServerSlots
from sync_worker.langfuse.langfuse_client import LangfuseClient
from sync_worker.ledger import Ledger, SourceState, source_scope
from sync_worker.ledger.state_keys import DELIVERY, GZIP_REJECTED, PAGE_LIMITS, REJECTED_IN_A_ROW
from sync_worker.measurements import REQUEST_SPANS, Measurements
from sync_worker.otlp.delivery import Delivery
from sync_worker.otlp.target_client import TargetClient
from sync_worker.pipeline.daily_limit import DailyLimit
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.limits import Limits
from sync_worker.pipeline.pause_check import Pauses
from sync_worker.pipeline.readiness import ReadinessLimits
from sync_worker.pipeline.report import SourceReport
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.sink import LedgerSink
from sync_worker.runs.coverage import Coverage
from sync_worker.runs.policy import policy_of
from sync_worker.runs.stored_protection import protection_of, scrub
from sync_worker.settings import Settings, Source, target_of
from sync_worker.spans.span_model import EncodedSpan
from sync_worker.sync.audit import Audit
from sync_worker.sync.identities import Identities, organization_scope
from sync_worker.sync.keys import keys_of
from sync_worker.sync.observed import langfuse_transport, target_transport
from sync_worker.sync.source_sync import SourceSync, receiver_scope
from sync_worker.sync.stored_generation import Generations
from sync_worker.sync.timekeeping import SCOPE as CLOCK_SCOPE
from sync_worker.times import span_ms


@dataclass(frozen=True, slots=True)
class Transports:
    """HTTP transports to use instead of the network, None meaning the network; and what counts their requests.

    `accepted` is called with the spans of each request that the target accepted.
    """

    langfuse: httpx.AsyncBaseTransport | None = None
    kelet: httpx.AsyncBaseTransport | None = None
    measurements: Measurements = field(default_factory=Measurements)
    accepted: Callable[[Sequence[EncodedSpan]], None] = lambda _: None


@asynccontextmanager
async def open_source(
    source: Source,
    settings: Settings,
    ledger: Ledger,
    clock: CorrectedClock,
    report: SourceReport,
    *,
    max_elapsed: float | None,
    rate_limiters: RateLimiters,
    concurrency_limits: ServerSlots,
    transports: Transports,
    identities: Identities,
    limits: Limits,
    pauses: Pauses,
) -> AsyncIterator[SourceSync]:
    """Connect a source. `max_elapsed` is how long an outage is retried, in seconds; None means no limit.

    Raises CredentialsRejected, SourcePaused, ConfigError, StateError or TransientError.
    """
    known = ledger.source_by_key(keys_of(source), source.target)
    client = _client(source, settings, known, clock, max_elapsed, rate_limiters, concurrency_limits, transports, limits)
    protection = protection_of(settings, ledger)
    client.redact = protection.report

    def observe_accepted(spans: Sequence[EncodedSpan]) -> None:
        transports.measurements.observe(REQUEST_SPANS, len(spans), source.name)
        transports.accepted(spans)
        if daily_limit is not None:
            daily_limit.count(spans)
        with suppress(StateError, LeaseHeld):  # the answer itself is yet to be stored, and the line is due again
            audit.log_if_due(at_end=False)

    target = target_of(source)
    sending = Backoff(target.title, clock, max_elapsed)
    receiver = TargetClient(
        target,
        compression=settings.compression,
        gzip_rejected=ledger.state(receiver_scope(target)).get(GZIP_REJECTED) is not None,
        max_bytes=settings.max_response_bytes,
        left=lambda: sending.remaining,
        hooks=date_hooks(clock.monotonic, clock.kelet.report),
        redact=protection.report,
        transport=target_transport(
            transports.kelet, source.name, target, source.kelet_project, transports.measurements
        ),
    )
    try:
        try:
            state = await identities.of(source, client, known)
        finally:
            await _ask_target_time(clock, receiver)  # also if the keys are rejected: the sync start needs the time
        quota = rate_limiters.quota_of(settings.requests_per_minute, settings.budget_share)
        shared = rate_limiters.of(organization_scope(state), quota)
        if known is None:
            shared.adopt(client.rate_limits)
        client.rate_limits = shared
        if clock.needs_langfuse:
            clock.langfuse.note_request()
            await client.ask_time()
            await _ask_target_time(clock, receiver)
        keys = ledger.state(source_scope(state.id))
        ledger.reload(keys.scope, CLOCK_SCOPE)
        scrub(ledger, state.id, protection)
        daily_limit = DailyLimit(ledger, state.id, settings.max_spans_per_day) if settings.max_spans_per_day else None
        audit = Audit(ledger, state.id, source.name, source.target)
        delivery = Delivery(
            receiver,
            LedgerSink(
                ledger,
                state.id,
                report,
                ledger.clock,
                target.title,
                [pauses.check] if daily_limit is None else [pauses.check, daily_limit.check],
                protection.report,
                observe_accepted,
            ),
            sending,
            clock,
            rejected_before=keys.get(REJECTED_IN_A_ROW) or 0,
            projects=projects_of(source),
            pauses=pauses.by_project(fresh=False),
            read_pauses=pauses.by_project,
            stored=keys.get(DELIVERY),
        )
        lookback = span_ms(max(settings.late_horizons)) + span_ms(settings.max_open)
        generations = Generations(keys, settings.langfuse_api, lookback, clock)
        reader = (await generations.known(client)).reader(client, keys.get(PAGE_LIMITS))
        readiness_limits = ReadinessLimits(span_ms(settings.settle), span_ms(settings.max_open))
        session = Session(
            state.id, settings, policy_of(settings, source, target, protection), readiness_limits, limits, ledger,
            reader, delivery, report, clock, daily_limit, protection,
        )  # fmt: skip
        yield SourceSync(
            source, settings, state, client, receiver, pauses, session, Pipeline(session),
            Coverage(session, source.name), [span_ms(window) for window in settings.late_horizons],
            generations=generations, audit=audit,
        )  # fmt: skip
    finally:
        await client.close()
        await receiver.close()


def projects_of(source: Source) -> set[str]:
    """Return the Kelet projects that the settings of a source name; a template is none that exists."""
    return {source.kelet_project, *(route.project for route in source.routes if not route.drop)}


async def _ask_target_time(clock: CorrectedClock, receiver: TargetClient) -> None:
    """Request the target's time if Langfuse reports none, or none that is certain."""
    if clock.needs_kelet:
        clock.kelet.note_request()
        await unless_stopped(clock, receiver.ask_time())


async def ask_time(
    source: Source,
    settings: Settings,
    ledger: Ledger,
    clock: CorrectedClock,
    max_elapsed: float | None,
    rate_limiters: RateLimiters,
    concurrency_limits: ServerSlots,
    transports: Transports,
) -> None:
    """Request the time of a source's Langfuse, before anything else. Raises as requests do."""
    known = ledger.source_by_key(keys_of(source), source.target)
    client = _client(
        source, settings, known, clock, max_elapsed, rate_limiters, concurrency_limits, transports, Limits()
    )
    try:
        await client.ask_time()
    finally:
        await client.close()


def _client(
    source: Source,
    settings: Settings,
    known: SourceState | None,
    clock: CorrectedClock,
    max_elapsed: float | None,
    rate_limiters: RateLimiters,
    concurrency_limits: ServerSlots,
    transports: Transports,
    limits: Limits,
) -> LangfuseClient:
    """Return a client of a source's Langfuse, with the rate limiters that its requests share."""
    quota = rate_limiters.quota_of(settings.requests_per_minute, settings.budget_share)
    return LangfuseClient(
        source.langfuse_base_url,
        source.langfuse_public_key,
        source.langfuse_secret_key.get_secret_value(),
        rate_limits=rate_limiters.of_keys(keys_of(source), quota)
        if known is None
        else rate_limiters.of(organization_scope(known), quota),
        backoff=Backoff("Langfuse", clock, max_elapsed),
        clock=clock,
        concurrency=concurrency_limits.of(source.langfuse_base_url),
        media_hosts=settings.media_hosts,
        max_bytes=settings.max_response_bytes,
        filter_bytes=limits.filter_bytes,
        hooks=date_hooks(clock.monotonic, clock.langfuse.report),
        transport=langfuse_transport(transports.langfuse, source.name, transports.measurements),
    )
