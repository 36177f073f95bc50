"""What a start imports: the libraries that take long to import are imported where they are used."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest
from langfuse import LangfuseOtelSpanAttributes
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from sync_worker.cli.parser import build_parser
from sync_worker.clock import SystemClock
from sync_worker.ledger import open_ledger
from sync_worker.otlp import batches
from sync_worker.settings import load
from sync_worker.spans.langfuse_sdk import attribute_names as names
from sync_worker.sync.keys import keys_of

ROOT = Path(__file__).parents[2]

#: Runs the program, and prints what is imported at its end, or at the first request of its HTTP client.
_PROGRAM = """
import os, sys

def tell():
    print(*sorted(sys.modules), flush=True)
    os._exit(0)

class AtFirstRequest:
    def find_spec(self, name, path, target=None):
        if name == "httpx":
            sys.meta_path.remove(self)
            import httpx

            async def send(*_, **__):
                tell()

            httpx.AsyncClient.send = send
        return None

sys.meta_path.insert(0, AtFirstRequest())
from sync_worker.__main__ import main

main()
tell()
"""

_OFFLINE = {
    "langfuse", "httpx", "sqlite_utils", "re2", "google.protobuf", "opentelemetry", "apscheduler", "msgspec",
    "sync_worker.langfuse", "sync_worker.otlp", "sync_worker.spans.conversion", "sync_worker.demo",
}  # fmt: skip
_UNUSED: Mapping[str, set[str]] = {
    "--version": _OFFLINE | {"pydantic", "pydantic_settings", "sqlite3", "asyncio", "sync_worker.settings"},
    "--help": _OFFLINE | {"pydantic", "pydantic_settings", "sqlite3", "asyncio", "sync_worker.settings"},
    "status": _OFFLINE,
    "once": {
        "langfuse", "sqlite_utils", "re2", "google.protobuf", "opentelemetry", "apscheduler", "sync_worker.demo",
        "sync_worker.spans.conversion", "sync_worker.spans.encode", "sync_worker.redaction.detectors",
        "sync_worker.runs.estimate",
    },
}  # fmt: skip


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Settings of a source whose project the state file knows, as it does at each start of `once` but the first."""
    environ = {
        "LANGFUSE_BASE_URL": "http://127.0.0.1:9",
        "LANGFUSE_PUBLIC_KEY": "pk-lf-1234567890",
        "LANGFUSE_SECRET_KEY": "sk-lf-1234567890",
        "KELET_API_KEY": "kelet_sk_1234567890",
        "KELET_PROJECT": "shop",
        "SYNC_STATE_PATH": str(tmp_path / "state.db"),
    }
    (source,) = load(environ=environ, directory=tmp_path).sources
    ledger = open_ledger(tmp_path / "state.db", SystemClock())
    ledger.store_source(keys_of(source), source.langfuse_base_url, "project", source.target, "Project", "organisation")
    ledger.close()
    return environ


@pytest.mark.process
@pytest.mark.parametrize("command", _UNUSED)
def test_a_start_imports_no_library_that_it_does_not_use(tmp_path: Path, environ: dict[str, str], command: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM, command],
        cwd=tmp_path, env=environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = set(ended.stdout.splitlines()[-1].split())
    assert "sync_worker.cli.parser" in imported, ended.stderr
    assert ("httpx" in imported) == (command == "once")
    assert not _UNUSED[command] & imported


def test_each_command_has_its_function() -> None:
    found = list(_commands(build_parser()))
    assert len(set(found)) >= 16
    for module, function in found:
        assert callable(getattr(import_module(f"sync_worker.cli.commands.{module}.run"), function))


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    command = parser.get_default("command")
    if command is not None:
        yield command
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from _commands(one)


def test_attributes_have_the_names_of_the_sdk() -> None:
    ours = {name: value for name, value in vars(names).items() if name.isupper()}
    assert ours
    assert {name: getattr(LangfuseOtelSpanAttributes, name) for name in ours} == ours


def test_tags_have_the_numbers_of_otlp() -> None:
    def tag(message: type[ExportTraceServiceRequest | ResourceSpans | ScopeSpans], name: str) -> bytes:
        return bytes([message.DESCRIPTOR.fields_by_name[name].number << 3 | 2])  # and that its length follows

    assert tag(ExportTraceServiceRequest, "resource_spans") == batches._RESOURCE_SPANS
    assert tag(ResourceSpans, "resource") == batches._RESOURCE
    assert tag(ResourceSpans, "scope_spans") == batches._SCOPE_SPANS
    assert tag(ScopeSpans, "scope") == batches._SCOPE
    assert tag(ScopeSpans, "spans") == batches._SPANS
