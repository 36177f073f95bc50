"""Read and assemble: the loop over pages. It yields groups of traces, within the memory limit."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from sync_worker.pipeline.assemble import Assembly
from sync_worker.pipeline.session import Session
from sync_worker.pipeline.unmerged import find_unmerged
from sync_worker.pipeline.work import Group, Work


async def read(session: Session, work: Work, held_bytes: int | None = None) -> AsyncGenerator[Group, None]:
    """Yield the traces of some work: complete ones as they are read, all at the memory limit, and the rest.

    Pages come newest first, so a trace whose root was read is complete. The last group may be empty. Raises as the
    reader does.
    """
    most = held_bytes or session.limits.held_bytes
    assembly = Assembly()
    down_to = work.sends.end
    since = 0
    async for page in work.walk():
        session.report.observations_read += len(page.observations)
        taken = work.take(page)
        assembly.add(taken, page.size, page.border)
        since += len(page.observations)
        down_to = min([down_to, *(observation.start_ms + 1 for observation in taken)])
        if assembly.size > most or (work.flush_after is not None and since > work.flush_after):
            if assembly.unchecked:
                work.count_merge_checks(await find_unmerged(session.reader, assembly))
            yield Group(assembly.take(), is_flush=True, is_last=False, down_to=down_to)
            since = 0
        elif work.streams and session.daily_limit is None:  # which goes by age, and a walk from new to old
            complete = assembly.take_complete()
            if complete:
                yield Group(complete, is_flush=False, is_last=False, down_to=down_to)
    if assembly.unchecked:
        work.count_merge_checks(await find_unmerged(session.reader, assembly))
    yield Group(assembly.take(), is_flush=True, is_last=True, down_to=work.sends.start)
