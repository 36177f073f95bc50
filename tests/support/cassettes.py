"""The recorded requests under `tests/cassettes`: as data, or played to an HTTP client."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
import vcr
import yaml

from tests.support.make_cassettes import CASSETTES, HOST

__all__ = ["CASSETTES", "HOST", "Recorded", "names", "play", "recorded"]


@dataclass(frozen=True)
class Recorded:
    """One recorded request and its answer."""

    method: str
    uri: str
    status: int
    body: str

    @property
    def target(self) -> str:
        """Path and query."""
        parts = urlsplit(self.uri)
        return f"{parts.path}?{parts.query}" if parts.query else parts.path

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return orjson.loads(self.body)


def names() -> list[str]:
    """Return the names of all cassettes."""
    return sorted(path.stem for path in CASSETTES.glob("*.yaml"))


@cache
def recorded(name: str) -> tuple[Recorded, ...]:
    """Return what a cassette holds, in order."""
    content = yaml.load(Path(CASSETTES / f"{name}.yaml").read_bytes(), yaml.CSafeLoader)
    return tuple(
        Recorded(
            one["request"]["method"],
            one["request"]["uri"],
            one["response"]["status"]["code"],
            one["response"]["body"]["string"],
        )
        for one in content["interactions"]
    )


def play(name: str) -> AbstractContextManager[Any]:
    """Answer the HTTP requests of a block from a cassette: each recording once, nothing from the network."""
    player = vcr.VCR(cassette_library_dir=str(CASSETTES), record_mode=vcr.mode.NONE)
    return cast("AbstractContextManager[Any]", player.use_cassette(f"{name}.yaml"))
