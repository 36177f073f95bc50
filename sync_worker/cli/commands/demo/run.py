"""`demo`: a complete sync of recorded observations to a local receiver, without an account."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from sync_worker.cli.commands.demo import SHOWN_TRACES
from sync_worker.cli.commands.once.run import ONE_CYCLE
from sync_worker.cli.common import run_async, state_file
from sync_worker.cli.leased_run import run_leased
from sync_worker.cli.output import print_line, summarise
from sync_worker.cli.terminal import has_colors
from sync_worker.clock import SystemClock
from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.receiver import OtlpReceiver, ReceivedSignal
from sync_worker.demo.rows import load_rows
from sync_worker.demo.score_server import load_scores
from sync_worker.demo.trace_tree import render
from sync_worker.settings import load
from sync_worker.watch import logs
from sync_worker.wording import counted

_SHOWN_CHARACTERS = 60  # of what a signal says


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    rows, scores = load_rows(), load_scores()
    os.environ["no_proxy"] = "*"  # both servers are in this process; no proxy could reach them
    with (
        tempfile.TemporaryDirectory(prefix="sync-worker-demo-") as folder,
        RecordedLangfuse(rows, scores=scores) as langfuse,
        OtlpReceiver(api_key="demo-key") as receiver,
    ):
        settings = load(
            environ={
                "LANGFUSE_BASE_URL": langfuse.url,
                "LANGFUSE_PUBLIC_KEY": langfuse.public_key,
                "LANGFUSE_SECRET_KEY": langfuse.secret_key,
                "KELET_API_URL": receiver.url,
                "KELET_API_KEY": "demo-key",
                "KELET_PROJECT": "demo",
                "SYNC_STATE_PATH": str(Path(folder) / "state.db"),
                "SYNC_START": min(row["startTime"] for row in rows),
                "SYNC_SCORES": "true",
                "SYNC_SCORE_HORIZONS": "2h,3650d",
            },
            directory=Path(folder),
        )
        logs.set_up(
            "debug" if arguments.verbose else "error" if arguments.quiet else "info",
            "text",
            colors=has_colors(sys.stderr),
        )
        summarise(
            f"{len(rows)} observations and {len(scores)} scores of a recorded Langfuse are served at {langfuse.url},"
        )
        summarise(f"an OTLP receiver listens at {receiver.url}; the sync between them runs as with your accounts:")
        clock = SystemClock()
        with state_file(settings, clock) as ledger:
            code = run_async(
                lambda: run_leased(ONE_CYCLE, settings, settings.sources, ledger, clock, as_json=arguments.json), clock
            )
        if not arguments.json:
            limit = None if arguments.all else SHOWN_TRACES
            color = has_colors(sys.stdout)
            for line in render(receiver.spans, limit_traces=limit, color=color).split("\n"):
                print_line(line, styled=color)
            for signal in receiver.signals:
                print_line(_shown(signal))
            traces = len({span.trace_id for span in receiver.spans})
            spans, signals = counted(len(receiver.spans), "span"), counted(len(receiver.signals), "signal")
            summarise(
                f"{spans} of {counted(traces, 'trace')} and {signals} arrived. With your own keys: scripts/sync init, "
                "then scripts/sync once"
            )
    return code


def _shown(signal: ReceivedSignal) -> str:
    """Return a signal as one line: its kind and trigger, how good, what it says, and of which session or trace."""
    content = signal.content
    score = "" if content.get("score") is None else f" {content['score']:.2f}"
    text = " ".join(str(content.get("value", "")).split())[:_SHOWN_CHARACTERS]
    about = content.get("session_id") or f"trace {content['trace_id']}"
    return f"signal {content['kind']} {content['trigger_name']}{score}{f' {text!r}' if text else ''} on {about}"
