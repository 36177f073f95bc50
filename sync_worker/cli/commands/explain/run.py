"""`explain TRACE`: why a trace is, or is not, in Kelet."""

from __future__ import annotations

import argparse
from typing import Any

from sync_worker.cli.leased_run import for_each_source
from sync_worker.cli.output import print_json, print_line, print_table
from sync_worker.errors import ExitCode
from sync_worker.runs.explain import explain
from sync_worker.sync.engine import overall
from sync_worker.sync.source_sync import SourceSync


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    found: list[dict[str, Any]] = []

    async def work(sync: SourceSync) -> None:
        found.append(await explain(sync, arguments.trace))

    code, errors = for_each_source(arguments, work, must_exist=True, only_reads=True)
    known = [one for one in found if any(one[fact] for fact in ("known", "in_langfuse", "deleted_in_langfuse"))]
    if found and not known:
        known, code = found, overall([code, ExitCode.GAPS])
    if arguments.json:
        print_json({"exit_code": code, "sources": known, "errors": errors})
    else:
        for one in known:
            _print(one)
    return code


def _print(one: dict[str, Any]) -> None:
    print_line(f"trace {one['trace_id']} (OTLP {one['otlp_trace_id']}) in {one['source']}")
    print_line(f"  {one['why']}" + (f", since {one['pending_since']}" if one["pending_since"] else ""))
    if one["project"]:
        print_line(f"  Kelet project {one['project']}")
    if one["observations"]:
        head = ("observation", "name", "start", "state", "sent", "request")
        print_table(
            head,
            [
                (
                    observation["observation_id"], observation["name"] or "", observation["start"],
                    observation["state"] + (f": {observation['reason']}" if observation["reason"] else ""),
                    observation["sent"] or "",
                    "" if observation["request"] is None else str(observation["request"]),
                )
                for observation in one["observations"]
            ],
        )  # fmt: skip
    if one["scores"]:
        print_table(
            ("score", "name", "time", "state", "sent"),
            [
                (
                    score["score_id"], score["name"] or "", score["time"],
                    score["state"] + (f": {score['reason']}" if score["reason"] else ""), score["sent"] or "",
                )
                for score in one["scores"]
            ],
        )  # fmt: skip
    for observation_id in one["sent_but_gone_from_langfuse"]:
        print_line(f"  observation {observation_id} was sent and is no longer in Langfuse")
