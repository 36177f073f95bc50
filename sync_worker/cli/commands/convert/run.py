"""`convert FILE`: prints the spans of saved observations, or of one trace, as OTLP/JSON. Sends nothing."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import orjson

from sync_worker.cli.common import select_sources, settings_for
from sync_worker.cli.leased_run import for_each_source
from sync_worker.cli.output import print_json, say
from sync_worker.errors import ConfigError, ExitCode, RecordRejected
from sync_worker.langfuse.saved import read_saved
from sync_worker.otlp.json_encoding import spans_as_json
from sync_worker.runs.policy import conversion_of
from sync_worker.runs.preview import Preview, preview, preview_trace
from sync_worker.runs.stored_protection import protection_of
from sync_worker.settings import target_of
from sync_worker.spans.span_model import Conversion
from sync_worker.sync.source_sync import SourceSync

#: `kelet.project` of spans that are converted without settings.
_PROJECT = "example"


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if (arguments.file is None) == (arguments.trace is None):
        raise ConfigError(
            "convert needs a FILE, - for stdin, or --trace ID. Try: sync-worker convert observations.json"
        )
    if arguments.trace is None:
        return _print(_of_file(arguments), ExitCode.OK)
    found = Preview()

    async def work(sync: SourceSync) -> None:
        one = await preview_trace(sync, arguments.trace)
        found.spans += one.spans
        found.failed += one.failed

    code, errors = for_each_source(arguments, work, must_exist=False)
    for source, error in errors.items():
        say(f"sync-worker: {source}: {error}")
    if not found.spans and errors:
        return code
    if not found.spans:
        raise ConfigError(
            f"Langfuse has no observations of the trace {arguments.trace}. Try: the trace id as Langfuse shows it"
        )
    return _print(found, code)


def _of_file(arguments: argparse.Namespace) -> Preview:
    """Convert a file as it is; with `--source`, as that source would be sent, redacted and routed."""
    name = "stdin" if arguments.file == "-" else arguments.file
    try:
        rows = read_saved(_content(arguments.file), arguments.api)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read ({error.strerror or error}). Try: another file") from None
    except RecordRejected as error:
        raise ConfigError(
            f"{name}: {error}. Try: a response of GET /api/public/v2/observations, its data, or one observation a line"
        ) from None
    if not arguments.source:
        return preview(rows, _PROJECT, Conversion(attributes=arguments.attributes or "both"))
    settings = settings_for(arguments, need_sources=False)
    source = select_sources(settings, arguments)[0]
    settings = settings.of(source)
    protection = protection_of(settings, None)
    conversion = conversion_of(settings, source, target_of(source), protection)
    if arguments.attributes:
        conversion = replace(conversion, attributes=arguments.attributes)
    return preview(rows, source.kelet_project or _PROJECT, conversion, source.routes, protection)


def _content(file: str) -> bytes:
    if file != "-":
        return Path(file).read_bytes()
    if sys.stdin is None:
        raise OSError("it is closed")
    return sys.stdin.buffer.read()


def _print(found: Preview, code: int) -> int:
    print_json(orjson.loads(spans_as_json(found.spans)))
    for observation_id, error in found.failed:
        say(f"sync-worker: the observation {observation_id} cannot be converted ({error}); the others are printed")
    return code or (ExitCode.USAGE if found.failed else ExitCode.OK)
