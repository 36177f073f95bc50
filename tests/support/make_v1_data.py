"""Turn recorded requests into the data of the tests of v1: `python -m tests.support.make_v1_data RECORDINGS`.

RECORDINGS holds the folders `v3.225.4`, `v4.16.0-dual` and `v4.16.0-dual-legacy-api`, with one JSON file a request.
Not run by tests.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.make_cassettes import CASSETTES, write

DATA = Path(__file__).resolve().parent.parent / "data"

#: Items whose JSON is longer stay out.
_MAX_ITEM = 20_000
_OF_DETAIL = ("observations", "scores", "totalCost", "latency", "htmlPath")

#: Recordings of each folder that are played to the reader, by their number.
PLAYED = {
    "v1-v3": ("v3.225.4", (1, 13, 14, 77, 79, 80, 82, 93)),
    "v1-errors": ("v3.225.4", (19, 22, 26, 30, 36, 66, 70, 76, 81, 95, 96)),
    "v1-dual": ("v4.16.0-dual-legacy-api", (1, 14, 93)),
}


def _answers(folder: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(folder.glob("[0-9][0-9][0-9]-*.json")):
        response = json.loads(path.read_bytes())["response"]
        if response["status"] == 200 and response["body"].startswith("{"):
            yield path.stem[4:], json.loads(response["body"])


def of_v1(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the traces and observations of a folder, each once, as their lists tell them."""
    traces: dict[str, dict[str, Any]] = {}
    observations: dict[tuple[str | None, str], dict[str, Any]] = {}
    for name, body in _answers(folder):
        found = []
        if name.startswith("trace-") and "-fields-" not in name:
            traces[body["id"]] = {key: value for key, value in body.items() if key not in _OF_DETAIL}
            found = body["observations"]
        elif name.startswith("observations-"):
            found = body["data"]
        for item in found:
            if len(json.dumps(item)) <= _MAX_ITEM:
                observations[item["traceId"], item["id"]] = item
    return {"traces": list(traces.values()), "observations": list(observations.values())}


def of_v2(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a folder that were recorded with all fields."""
    rows: dict[tuple[str | None, str], dict[str, Any]] = {}
    for name, body in _answers(folder):
        if name.startswith("v2obs-") and "page" not in name and "huge" not in name:
            rows |= {(row["traceId"], row["id"]): row for row in body["data"]}
    return list(rows.values())


def _write_data(name: str, content: dict[str, list[dict[str, Any]]]) -> None:
    path = DATA / f"{name}.json.gz"
    path.write_bytes(gzip.compress(json.dumps(content, ensure_ascii=False).encode(), mtime=0))
    counts = ", ".join(f"{len(items)} {kind}" for kind, items in content.items())
    sys.stdout.write(f"{path.name}: {counts}, {path.stat().st_size} bytes\n")


def _shortened(recording: dict[str, Any]) -> dict[str, Any]:
    """Return a recording without the large items of its page; their number stays."""
    body = recording["response"]["body"]
    if len(body) > _MAX_ITEM and body.startswith('{"data"'):
        page = json.loads(body)
        page["data"] = [item if len(json.dumps(item)) <= _MAX_ITEM else _cut(item) for item in page["data"]]
        recording["response"]["body"] = json.dumps(page, ensure_ascii=False, separators=(",", ":"))
    return recording


def _cut(item: dict[str, Any]) -> dict[str, Any]:
    return item | {"input": "cut", "output": "cut", "metadata": {}}


def main(recordings: Path) -> None:
    """Write data and cassettes from the recordings."""
    _write_data("v3.225.4-items", of_v1(recordings / "v3.225.4"))
    dual = of_v1(recordings / "v4.16.0-dual-legacy-api") | {"rows": of_v2(recordings / "v4.16.0-dual")}
    _write_data("v4.16.0-dual-items", dual)
    for name, (folder, numbers) in PLAYED.items():
        files = {int(path.name[:3]): path for path in (recordings / folder).glob("[0-9][0-9][0-9]-*.json")}
        path = write(name, [_shortened(json.loads(files[number].read_bytes())) for number in numbers])
        count = len(yaml.load(path.read_bytes(), yaml.CSafeLoader)["interactions"])
        sys.stdout.write(f"{CASSETTES.name}/{path.name}: {count} requests, {path.stat().st_size} bytes\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
