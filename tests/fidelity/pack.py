"""Packs pairs for `tests/data/fidelity`: `python -m tests.fidelity.pack FOLDER ...`. Not run by tests.

A FOLDER, whose name becomes the pair's, holds `direct.json` (OTLP/JSON with ids in hex, as exported), `v4.json` and
`v3.json` (lists of `{request, status, response}`: pages of `GET /api/public/v2/observations` of a Langfuse 4, and of
`GET /api/public/traces/{id}` and `/observations` of a Langfuse 3, for the very same spans), and a `README.md`
that begins with `NAME: PACKAGES; program …`.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "data" / "fidelity"

_SPAN_KEYS = ("traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano",
              "attributes", "events", "links", "status")  # fmt: skip
#: Stack traces are long, name the paths of the machine, and do not reach Langfuse.
_LEFT_OUT = frozenset({"exception.stacktrace"})

Json = dict[str, Any]


def pack(folder: Path) -> bytes:
    """Return a folder's pair as it is kept: what the comparison and the readers of rows need, each thing once."""
    pair = {
        "made_with": _made_with((folder / "README.md").read_text(encoding="utf-8")),
        "direct": [_resource_spans(group) for group in _read(folder / "direct.json")["resourceSpans"]],
        "v2": list(_rows(_read(folder / "v4.json"), "/api/public/v2/observations")),
        "v1": {
            "traces": list(_traces(_read(folder / "v3.json"))),
            "observations": list(_rows(_read(folder / "v3.json"), "/api/public/observations")),
        },
    }
    text = json.dumps(pair, ensure_ascii=False, separators=(",", ":"))
    return gzip.compress(text.encode(), 9, mtime=0)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _made_with(readme: str) -> str:
    """Return packages with their versions: what stands between the pair's name and the program's."""
    match = re.search(r"^[\w.-]+: (.*?); program ", readme, re.MULTILINE)
    if match is None:
        raise ValueError("README.md has no line `name: packages; program …`")
    return match[1]


def _resource_spans(group: Json) -> Json:
    return {
        "resource": {"attributes": group["resource"].get("attributes", [])},
        "scopeSpans": [
            {"scope": scoped.get("scope", {}), "spans": [_span(span) for span in scoped["spans"]]}
            for scoped in group["scopeSpans"]
        ],
    }


def _span(span: Json) -> Json:
    kept = {key: span[key] for key in _SPAN_KEYS if span.get(key)}
    if "events" in kept:
        kept["events"] = [_event(event) for event in kept["events"]]
    return kept


def _event(event: Json) -> Json:
    attributes = [item for item in event.get("attributes", []) if item["key"] not in _LEFT_OUT]
    return {"name": event["name"], "attributes": attributes}


def _rows(pages: Iterable[Json], path: str) -> Iterable[Json]:
    """Yield the rows of one endpoint, each once."""
    seen: set[tuple[str, str]] = set()
    for page in pages:
        for row in page["response"]["data"] if page["request"]["path"] == path else ():
            if (row["traceId"], row["id"]) not in seen:
                seen.add((row["traceId"], row["id"]))
                yield row


def _traces(pages: Iterable[Json]) -> Iterable[Json]:
    """Yield traces as their list shows them: with the ids of their observations, which are kept beside them."""
    ids: dict[str, list[str]] = {}
    for row in _rows(pages, "/api/public/observations"):
        ids.setdefault(row["traceId"], []).append(row["id"])
    for page in pages:
        if page["request"]["path"].startswith("/api/public/traces/"):
            trace = page["response"]
            yield trace | {"observations": ids.get(trace["id"], [])}


def main(folders: list[str]) -> int:
    """Write a file for each folder."""
    for folder in map(Path, folders):
        (DATA / f"{folder.name}.json.gz").write_bytes(pack(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
