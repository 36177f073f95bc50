"""The recorded observations that ship with the package."""

from __future__ import annotations

import gzip
from importlib.resources import files
from typing import Any

import orjson


def load_rows() -> list[dict[str, Any]]:
    """Return observations of a Langfuse 4.16.0 server with all fields, newest first (see `data/README.md`)."""
    packed = files("sync_worker.demo").joinpath("data/rows.jsonl.gz").read_bytes()
    return [orjson.loads(line) for line in gzip.decompress(packed).splitlines()]
