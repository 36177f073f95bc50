"""`send TRACE ...`: traces into Kelet now, for a support case."""

from __future__ import annotations

import argparse

from sync_worker.cli.leased_run import for_each_source
from sync_worker.cli.output import print_json, print_line
from sync_worker.errors import ExitCode
from sync_worker.ledger.lease import SEND
from sync_worker.runs.send import SendResult, send
from sync_worker.sync.engine import overall
from sync_worker.sync.source_sync import SourceSync
from sync_worker.wording import counted


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    by_source: dict[str, list[SendResult]] = {}
    traces = list(dict.fromkeys(arguments.traces))

    async def work(sync: SourceSync) -> None:
        results = by_source[sync.name] = []
        await send(sync, traces, results, again=arguments.again)

    code, errors = for_each_source(arguments, work, must_exist=False, role=SEND)
    # One that no source has is shown once; the others only where they are.
    shown = [result for results in by_source.values() for result in results if result.in_langfuse]
    found = {result.trace_id for result in shown}
    left = [trace_id for trace_id in traces if trace_id not in found]
    missing, unknown = ([], left) if errors else (left, [])
    if missing or any(result.forgotten or result.undelivered for result in shown):
        code = overall([code, ExitCode.GAPS])
    if arguments.json:
        print_json(
            {
                "exit_code": code, "traces": [result.as_json() for result in shown], "not_found": missing,
                "errors": errors,
            }
        )  # fmt: skip
    else:
        for result in shown:
            print_line(_line(result))
        for trace_id in missing:
            print_line(f"trace {trace_id}: not in Langfuse. Try: the id from its address in Langfuse, and --source")
        for trace_id in unknown:
            print_line(f"trace {trace_id}: not sent, and not every source could be asked for it: see the error")
    return code


def _line(result: SendResult) -> str:
    start = f"{result.source}: trace {result.trace_id}: {counted(result.in_langfuse, 'observation')} in Langfuse, "
    if result.forgotten:
        return (
            f"{start}nothing sent: {result.forgotten} of them may have been sent before, and the records of that time "
            "were forgotten. Try: --again, which sends all of them under the same ids"
        )
    parts = [f"{result.sent} sent" if not result.undelivered else f"{result.sent} to send, not all delivered"]
    if result.sent_before:
        parts.append(f"{result.sent_before} sent before")
    if result.pending:
        parts.append(f"{result.pending} pending, not ended")
    if result.filter_overruled:
        parts.append(f"although {result.filter_overruled} leaves the trace out")
    return start + ", ".join(parts)
