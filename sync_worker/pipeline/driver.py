"""Runs all stages, from reading to commit."""

from __future__ import annotations

from contextlib import aclosing

from sync_worker.pipeline.convert import Converter
from sync_worker.pipeline.dead_lettering import DeadLettering
from sync_worker.pipeline.dedupe import Dedupe
from sync_worker.pipeline.deliver import Deliverer
from sync_worker.pipeline.filter import Filter
from sync_worker.pipeline.notes import Notes
from sync_worker.pipeline.prepare import Preparer
from sync_worker.pipeline.read import read
from sync_worker.pipeline.read_under import ReadUnder
from sync_worker.pipeline.redact import Redaction
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.stage import Stage
from sync_worker.pipeline.trace import Trace
from sync_worker.pipeline.work import Work
from sync_worker.spans.context import TraceContext


class Pipeline:
    """Runs the work of one source through all stages."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.notes = Notes(session)
        self.dead_letters = DeadLettering(session)
        dedupe = Dedupe(session, self.dead_letters)
        self.filter = Filter(session, self.notes, ReadUnder(session))
        self.preparer = Preparer(session, dedupe, self.dead_letters)
        self.stages: list[Stage] = []  # between prepare and convert, in this order
        if session.protection.digest:
            self.stages.append(Redaction(session, self.dead_letters))
        converter = Converter(session, self.dead_letters)
        self.deliverer = Deliverer(session, self.preparer, self.stages, converter, self.notes)

    async def run(self, work: Work, held_bytes: int | None = None) -> None:
        """Do some work. An error does not undo what it committed. Raises as reader and delivery do."""
        holder = next(self.deliverer.holders)
        try:
            async with aclosing(read(self.session, work, held_bytes)) as groups:
                async for group in groups:
                    taken = work.select(group)
                    traces = await self.preparer.prepare(
                        taken, work.sends, again=work.again, redecide=work.redecides, overrule=work.overrules
                    )
                    self.filter.check_done(work, taken, traces, self.preparer.gather_context)
                    for stage in self.stages:
                        stage.process(traces)
                    choice = work.choose(traces, taken)
                    ready = self.filter.select(work, choice)
                    for stage in self.stages:
                        ready = stage.select(ready)
                    left = await self.deliverer.deliver(ready, holder, choice.stay_pending, again=work.again)
                    self.filter.end(left)
                    if group.is_flush:
                        self.session.delivery.finish()
                    work.commit(group, taken, choice, left)
                    if work.is_done:
                        break
        finally:
            self.deliverer.end(holder)

    def context_of(self, trace: Trace) -> TraceContext:
        """Return the context of a trace as it may be stored and sent."""
        for stage in self.stages:
            trace.context = stage.context_of(trace)
        return trace.context
