"""Converts observations without sending them: of one trace, read live, or from a saved file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sync_worker.configured import Route
from sync_worker.intervals import Interval
from sync_worker.langfuse.reader import Reader
from sync_worker.pipeline.assemble import Assembly
from sync_worker.pipeline.redact import overridden
from sync_worker.records import Observation
from sync_worker.redaction.protection import NOTHING, Protection, RedactionFailed
from sync_worker.runs.opened import OpenSource
from sync_worker.spans.context import gather
from sync_worker.spans.conversion import convert
from sync_worker.spans.routing import decide
from sync_worker.spans.span_model import Conversion, Span


@dataclass(slots=True)
class Preview:
    """The spans of observations, and of each that cannot be converted its id and the reason."""

    spans: list[Span] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


async def preview_trace(opened: OpenSource, trace_id: str) -> Preview:
    """Return the spans of a trace in Langfuse, as the settings of the source convert it. Raises as the reader does."""
    observations = await observations_of_trace(opened.session.reader, trace_id, opened.clock.now_ms())
    policy = opened.session.policy
    return preview(observations, policy.project, policy.conversion, policy.routes, opened.session.protection)


def preview(
    observations: Iterable[Observation],
    project: str,
    options: Conversion,
    routes: Sequence[Route] = (),
    protection: Protection = NOTHING,
) -> Preview:
    """Convert observations as a run that reads all of them would; each trace for the project of its route."""
    assembly = Assembly()
    assembly.add(list(observations), 0)
    found = Preview()
    for trace_id, members in assembly.take().items():
        shown = []
        for observation in members:
            try:
                shown.append(protection.observation(observation))
            except RedactionFailed as error:
                found.failed.append((observation.id, f"it cannot be redacted: {error}"))
        plain = gather(trace_id, members, overrides=options.overrides)
        destination = decide(plain, routes, project, protection.may_show).project
        context = gather(trace_id, shown, overrides=options.overrides)
        made = convert(shown, overridden(context, plain, options.overrides, protection), destination, options)
        found.spans += [span for _, span in made.spans]
        found.failed += [(observation.id, f"{type(error).__name__}: {error}") for observation, error in made.failed]
    return found


async def observations_of_trace(reader: Reader, trace_id: str, now_ms: int) -> list[Observation]:
    """Return all observations of a trace in Langfuse, with content. Raises as the reader does."""
    assembly = Assembly()
    async for page in reader.traces([trace_id], Interval(0, now_ms + 1)):
        assembly.add_page(page)
    return [await reader.resolve(observation) for observation in assembly.traces.get(trace_id, {}).values()]
