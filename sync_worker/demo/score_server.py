"""Scores of the recorded server: `GET /api/public/v3/scores` and score configs, with the errors of a 4.16.0 server."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import orjson

from sync_worker.demo.query import QueryRejected, invalid
from sync_worker.demo.rowstore import to_ms

MAX_LIMIT = 100
_DEFAULT_LIMIT = 50

#: The keys of a score in the order of a response, with the field group that each belongs to.
_KEYS = (
    ("core", "id projectId name source timestamp environment createdAt updatedAt"),
    ("details", "comment configId metadata"),
    ("annotation", "authorUserId queueId"),
    ("subject", "subject"),
    ("core", "dataType value"),
)
_GROUPS = ("core", "details", "subject", "annotation")
#: Filters that compare a key with a list of values.
_LISTS = {"id": "id", "name": "name", "source": "source", "dataType": "dataType", "environment": "environment",
          "configId": "configId", "queueId": "queueId", "authorUserId": "authorUserId"}  # fmt: skip
_SUBJECTS = ("traceId", "sessionId", "experimentId")
_KNOWN = {*_LISTS, *_SUBJECTS, "observationId", "fields", "limit", "cursor", "fromTimestamp", "toTimestamp"}

Score = dict[str, Any]


def load_scores() -> list[Score]:
    """Return the recorded scores with all fields, newest first (see `data/README.md`)."""
    text = files("sync_worker.demo").joinpath("data/scores.jsonl").read_bytes()
    return [orjson.loads(line) for line in text.splitlines()]


class ScoreStore:
    """Scores by id, as the v3 API shows them with all fields; safe to change while a server reads them."""

    def __init__(self, scores: Iterable[Mapping[str, Any]] = (), configs: Iterable[Mapping[str, Any]] = ()) -> None:
        self._lock = threading.Lock()
        self._scores: dict[str, Score] = {}
        self.configs = {config["id"]: dict(config) for config in configs}
        self.put(*scores)

    def put(self, *scores: Mapping[str, Any]) -> None:
        """Add scores, or replace those of the same ids."""
        with self._lock:
            self._scores |= {score["id"]: dict(score) for score in scores}

    def remove(self, *ids: str) -> None:
        """Delete scores."""
        with self._lock:
            for score_id in ids:
                self._scores.pop(score_id, None)

    def get(self, score_id: str) -> Score:
        """Return a score."""
        return dict(self._scores[score_id])

    def listed(self, params: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Return the response to a query. Raises Rejected."""
        query = dict(params)
        unknown = [name for name in query if name not in _KNOWN]
        if unknown:
            text = f'Unrecognized key: "{unknown[0]}"'
            raise invalid({"code": "unrecognized_keys", "keys": unknown, "path": [], "message": text})
        if sum(bool(query.get(name)) for name in _SUBJECTS) > 1:
            raise _custom("At most one of traceId, sessionId, experimentId may be specified")
        if query.get("observationId") and not query.get("traceId"):
            raise _custom("observationId filter requires traceId — observation IDs are scoped to a trace")
        groups, limit = _groups(query.get("fields", "")), _limit(query.get("limit", ""))
        since, until = _time(query, "fromTimestamp"), _time(query, "toTimestamp")
        below = _position(query["cursor"]) if "cursor" in query else None
        with self._lock:
            scores = sorted(self._scores.values(), key=_place, reverse=True)
        found = [
            score
            for score in scores
            if (since is None or _place(score)[0] >= since)
            and (until is None or _place(score)[0] < until)
            and (below is None or _place(score) < below)
            and _matches(score, query)
        ]
        page = found[:limit]
        meta: dict[str, Any] = {"limit": limit}
        if len(found) > limit:
            meta["cursor"] = _cursor_after(page[-1])
        return {"data": [_wire(score, groups) for score in page], "meta": meta}


def _wire(score: Score, groups: Iterable[str]) -> Score:
    shown = {"core", *groups}
    return {key: score.get(key) for group, keys in _KEYS if group in shown for key in keys.split()}


def _place(score: Score) -> tuple[int, str]:
    return to_ms(score["timestamp"]), score["id"]


def _matches(score: Score, query: Mapping[str, str]) -> bool:
    subject = score.get("subject") or {}
    about = {
        "traceId": subject.get("traceId") or (subject.get("id") if subject.get("kind") == "trace" else None),
        "sessionId": subject.get("id") if subject.get("kind") == "session" else None,
        "experimentId": subject.get("id") if subject.get("kind") == "experiment" else None,
        "observationId": subject.get("id") if subject.get("kind") == "observation" else None,
    }
    of_subject = all(about[name] in query[name].split(",") for name in about if query.get(name))
    return of_subject and all(
        str(score.get(key)).lower() in query[name].lower().split(",") for name, key in _LISTS.items() if name in query
    )


def _groups(text: str) -> tuple[str, ...]:
    groups = tuple(part for part in text.split(",") if part)
    for number, group in enumerate(groups):
        if group not in _GROUPS:
            expected = "|".join(f'"{one}"' for one in _GROUPS)
            raise invalid(
                {
                    "code": "invalid_value", "values": list(_GROUPS), "path": ["fields", number],
                    "message": f"Invalid option: expected one of {expected}",
                }
            )  # fmt: skip
    return groups


def _limit(text: str) -> int:
    if not text:
        return _DEFAULT_LIMIT
    if not text.lstrip("-").isdigit():
        message = "Invalid input: expected number, received NaN"
        raise invalid(
            {"expected": "number", "code": "invalid_type", "received": "NaN", "path": ["limit"], "message": message}
        )
    number = int(text)
    if not 1 <= number <= MAX_LIMIT:
        big = number > MAX_LIMIT
        message = f"Too {'big' if big else 'small'}: expected number to be {f'<={MAX_LIMIT}' if big else '>=1'}"
        bound = {"code": "too_big", "maximum": MAX_LIMIT} if big else {"code": "too_small", "minimum": 1}
        raise invalid({"origin": "number", **bound, "inclusive": True, "path": ["limit"], "message": message})
    return number


def _time(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    try:
        return to_ms(query[name])
    except ValueError:
        message = "Invalid input: expected date, received Date"
        raise invalid(
            {"expected": "date", "code": "invalid_type", "received": "Invalid Date", "path": [name], "message": message}
        ) from None


def _cursor_after(score: Score) -> str:
    place = {"v": 1, "lastTimestamp": score["timestamp"], "lastId": score["id"]}
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode().rstrip("=")


def _position(cursor: str) -> tuple[int, str]:
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return to_ms(place["lastTimestamp"]), place["lastId"]
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise QueryRejected(400, "Invalid cursor format", "InvalidRequestError") from None


def _custom(message: str) -> QueryRejected:
    return invalid({"code": "custom", "message": message, "path": []})
