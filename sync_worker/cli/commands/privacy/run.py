"""`privacy test`: what the rules of redaction find in real observations, or in a file. Sends nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from sync_worker.cli.common import select_sources, settings_for
from sync_worker.cli.leased_run import for_each_source
from sync_worker.cli.output import print_json, print_line, print_table, say
from sync_worker.cli.terminal import is_terminal
from sync_worker.errors import ConfigError, ExitCode, RecordRejected
from sync_worker.langfuse.saved import read_saved
from sync_worker.runs.privacy_test import PrivacyTest, try_rules
from sync_worker.runs.stored_protection import protection_of
from sync_worker.sync.source_sync import SourceSync
from sync_worker.wording import counted

_LARGEST = 100_000  # observations


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if not 1 <= arguments.observations <= _LARGEST:
        raise ConfigError(f"--observations {arguments.observations}: expected a number from 1 to {_LARGEST}")
    if arguments.file is not None and arguments.trace:
        raise ConfigError("privacy test takes a FILE or --trace ID, not both. Try: one of them")
    found: list[PrivacyTest] = []
    code, errors = int(ExitCode.OK), dict[str, str]()
    if arguments.file is not None:
        found.append(_of_file(arguments))
    else:

        async def test(sync: SourceSync) -> None:
            found.append(await try_rules(sync, arguments.trace, arguments.observations))

        code, errors = for_each_source(arguments, test, must_exist=False)
        if arguments.trace and not errors and not any(one.observations for one in found):
            raise ConfigError("Langfuse has no observations of these traces. Try: the trace id as Langfuse shows it")
    is_shown = arguments.samples or (not arguments.json and is_terminal(sys.stdout))
    if arguments.json:
        sources = [_as_json(one, with_samples=is_shown) for one in found]
        print_json({"exit_code": code, "sources": sources, "errors": errors})
        return code
    for source, error in errors.items():
        say(f"sync-worker: {source}: {error}")
    for one in found:
        _print(one, with_samples=is_shown)
    return code


def _of_file(arguments: argparse.Namespace) -> PrivacyTest:
    """Try the rules of a source, or without `--source` those of all, on a file."""
    settings = settings_for(arguments, need_sources=False)
    name = "stdin" if arguments.file == "-" else arguments.file
    if arguments.source:
        settings = settings.of(select_sources(settings, arguments)[0])
    found = PrivacyTest(arguments.source or name)
    found.by(protection_of(settings, None, found.watch), settings.rules)
    try:
        content = sys.stdin.buffer.read() if arguments.file == "-" else Path(arguments.file).read_bytes()
        found.check(read_saved(content))
    except OSError as error:
        raise ConfigError(f"{name} cannot be read ({error.strerror or error}). Try: another file") from None
    except RecordRejected as error:
        raise ConfigError(f"{name}: {found.report(str(error))}. Try: a response of Langfuse's API") from None
    return found


def _as_json(one: PrivacyTest, *, with_samples: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "source": one.source,
        "detectors": [*one.rules.detectors, *(name for name, _ in one.rules.patterns)],
        "observations": one.observations,
        "redacted": one.redacted,
        "found": [
            {"field": name, "detector": detector, "count": count}
            for (name, detector), count in sorted(one.counts.items())
        ],
        "left_out": dict(sorted(one.left_out.items())),
        "failed": [{"observation_id": name, "reason": reason} for name, reason in one.failed],
    }
    if with_samples:
        made["samples"] = [
            {"field": sample.field, "detector": sample.detector, "before": sample.before, "after": sample.after}
            for sample in one.samples
        ]
    return made


def _print(one: PrivacyTest, *, with_samples: bool) -> None:
    names = [*one.rules.detectors, *(name for name, _ in one.rules.patterns)]
    read = counted(one.observations, "observation")
    print_line(f"{one.source}: {read}, {one.redacted:,} with something replaced; nothing was sent")
    print_line(f"  detectors: {', '.join(names) or 'none: everything is sent unchanged. Try: SYNC_REDACT=all'}")
    if one.counts:
        rows = [(name, detector, str(count)) for (name, detector), count in sorted(one.counts.items())]
        print_table(("field", "detector", "count"), rows)
    for name, count in sorted(one.left_out.items()):
        print_line(f"  left out, or named by a pseudonym: {name}, {counted(count, 'time')}")
    for name, reason in one.failed:
        print_line(f"  observation {name} would be dead-lettered: {reason}")
    for sample in one.samples if with_samples else ():
        print_line(f"  {sample.field}, {sample.detector}")
        print_line(f"    before: {sample.before}")
        print_line(f"    after:  {sample.after}")
