"""Worlds for the tests of the whole way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.times import moment_ms
from tests.support.rows import NOON
from tests.sync.world import World, world

MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    """Make a world of rows, or around a Langfuse; its clock stands so many seconds after noon; settings as keywords."""
    with ExitStack() as stack:

        def make(rows: list[dict[str, Any]] | RecordedLangfuse, after_noon: float = 3600.0, **environ: str) -> World:
            now = moment_ms(NOON) + round(after_noon * 1000)
            return stack.enter_context(world(tmp_path, rows, now, **environ))

        yield make
