"""Servers for the tests of the demo."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.receiver import OtlpReceiver
from tests.support.rows import recorded_rows

AUTH = ("pk-lf-demo", "sk-lf-demo")


@pytest.fixture(scope="session")
def recorded_langfuse() -> Iterator[RecordedLangfuse]:
    """A server with all recorded rows; tests leave it as it is."""
    with RecordedLangfuse(recorded_rows()) as server:
        yield server


@pytest.fixture
def langfuse() -> Iterator[RecordedLangfuse]:
    """An empty server of the test's own."""
    with RecordedLangfuse() as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    """A receiver of the test's own."""
    with OtlpReceiver() as server:
        yield server


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """A client with the demo's key, and patience for slow machines."""
    with httpx.Client(auth=AUTH, timeout=30) as client:
        yield client
