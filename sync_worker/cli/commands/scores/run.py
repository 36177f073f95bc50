"""`scores test`: prints what scores would become as signals, name by name. Sends nothing, stores nothing."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from sync_worker.cli.commands.backfill.run import check_interval, interval_of
from sync_worker.cli.leased_run import for_each_source
from sync_worker.cli.output import print_json, print_line
from sync_worker.sync.source_sync import SourceSync
from sync_worker.wording import counted

if TYPE_CHECKING:
    from sync_worker.runs.score_preview import NamePreview, ScorePreview

_MOST = 1_000  # scores that are read


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    check_interval(arguments.start, arguments.end)
    previews: list[ScorePreview] = []

    async def show(sync: SourceSync) -> None:
        interval = interval_of(arguments.start, arguments.end, sync.clock.now_ms())
        previews.append(await sync.score_jobs().preview(interval, _MOST))

    code, errors = for_each_source(arguments, show, must_exist=False)
    if arguments.json:
        print_json({"exit_code": code, "sources": [one.as_json() for one in previews], "errors": errors})
    else:
        for preview in previews:
            _print(preview)
    return code


def _print(preview: ScorePreview) -> None:
    more = ", the newest of more" if preview.more else ""
    print_line(f"{preview.source}: {counted(preview.scores, 'score')} of {counted(len(preview.names), 'name')}{more}")
    for one in preview.names:
        _print_name(one)


def _print_name(one: NamePreview) -> None:
    print_line(f"  {one.name} ({one.source}, {one.type}): {one.count}" + (", left out" if one.left_out else ""))
    if one.override is not None:
        print_line(f"    override {one.override}")
    if one.unrated:
        print_line(
            f"    {counted(one.unrated, 'number')} without a score: no range is known. "
            "Try: range in [[sources.scores]], or a score config in Langfuse"
        )
    if one.assumed:
        mixed = ", and others of the name do not: they may be of a larger range" if one.unrated else ""
        print_line(
            f"    {counted(one.assumed, 'number')} taken as given: no range is known, and each lies in 0 to 1{mixed}. "
            "Try: range in [[sources.scores]], or a score config in Langfuse"
        )
    if one.unredactable:
        print_line(f"    {one.unredactable:,} not sent: redaction fails")
    for example in one.examples:
        waits = f" ({example['waits']})" if example["waits"] else ""
        print_line(f"    to {example['project']}{waits}: {json.dumps(example['signal'], ensure_ascii=False)}")
