"""Turn recorded requests into the cassettes of the tests: `python -m tests.support.make_cassettes RECORDINGS`.

RECORDINGS is a folder with one JSON file a request, its name starting with a number of three digits. Not run by tests.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from http.client import responses
from pathlib import Path
from typing import Any

import yaml

HOST = "https://langfuse.test"
CASSETTES = Path(__file__).resolve().parent.parent / "cassettes"

#: Which recordings make which cassette, in the order in which they are played.
CONTENTS: dict[str, tuple[int, ...]] = {
    "page50": tuple(range(37, 54)),
    "page1": (31, 32, 33, 34),
    "errors": (*range(64, 71), 74, 77, 78, 79, 93, 97, 98, 101, 102, 103),
    "projects": (1, 2, *range(4, 10)),
    "gone": (132, 134, 133),
    "rich": (24,),
    "intervals": (*range(89, 93), 100),
}

#: Response headers worth keeping; the others are those of one connection or of one day.
KEPT_HEADERS = ("content-type", "retry-after", "vary", "x-ratelimit-limit", "x-ratelimit-remaining")


def interaction(recording: dict[str, Any]) -> dict[str, Any]:
    """Return a recording in the form of vcrpy; request headers, and with them credentials, stay out."""
    request, response = recording["request"], recording["response"]
    query = f"?{request['query_string']}" if request["query_string"] else ""
    headers: dict[str, list[str]] = {}
    for name, value in response["headers"]:
        if name.lower() in KEPT_HEADERS:
            headers.setdefault(name, []).append(value)
    return {
        "request": {
            "method": request["method"],
            "uri": f"{HOST}{request['path']}{query}",
            "headers": {},
            "body": request["body"],
        },
        "response": {
            "status": {"code": response["status"], "message": responses[response["status"]]},
            "headers": headers,
            "body": {"string": response["body"]},
        },
    }


def write(name: str, recordings: Iterable[dict[str, Any]]) -> Path:
    """Write one cassette; a body stays on one line, as it came."""
    content = {"interactions": [interaction(recording) for recording in recordings], "version": 1}
    path = CASSETTES / f"{name}.yaml"
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=True, width=sys.maxsize)
    path.write_text(text, encoding="utf-8")
    return path


def main(folder: Path) -> None:
    """Write all cassettes from a folder of recordings."""
    files = {path.name[:3]: path for path in folder.glob("[0-9][0-9][0-9]-*.json")}
    for name, numbers in CONTENTS.items():
        path = write(name, [json.loads(files[f"{number:03}"].read_bytes()) for number in numbers])
        sys.stdout.write(f"{path.name}: {len(numbers)} requests, {path.stat().st_size} bytes\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
