"""A stage between prepare and convert; the driver has the list of them."""

from __future__ import annotations

from collections.abc import Sequence

from sync_worker.pipeline.trace import Trace, TracePart
from sync_worker.spans.context import TraceContext


class Stage:
    """Changes the traces of one source before they are converted. What a stage does not define does nothing.

    An observation as it is to be sent goes into `Trace.shown`, by its id. One with truncated fields resolved is made
    from the listed one and sent instead of the shown one, so `process_resolved` changes it in `TracePart.resolved` in
    the same way. The observations of the trace stay as listed: later listings are compared with them.
    """

    def process(self, traces: Sequence[Trace]) -> None:
        """Process traces with their context, before filters decide which of them are ready to be sent."""

    def select(self, traces: Sequence[Trace]) -> Sequence[Trace]:
        """Return which of the traces that filters left are sent; store the others as done, or they are read again."""
        return traces

    def process_resolved(self, part: TracePart) -> None:
        """Process what was read of truncated fields, just before the part is converted."""

    def context_of(self, trace: Trace) -> TraceContext:
        """Return the context of a trace as it may be stored and sent."""
        return trace.context
