"""Scores as the older API lists them: `v2/scores` of Langfuse v3, and `scores` of v2."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from sync_worker.demo.score_server import ScoreStore

PATHS = ("/api/public/v2/scores", "/api/public/scores")
_ALL_FIELDS = "core,details,subject,annotation"


def listed_by_number(store: ScoreStore, params: Mapping[str, str], seed: str) -> dict[str, Any]:
    """Return the response to a query: pages by number, newest first, in any order among scores of one time."""
    newer = {name: params[name] for name in ("fromTimestamp", "toTimestamp", "traceId") if name in params}
    if "scoreIds" in params:
        newer["id"] = params["scoreIds"]
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        part = store.listed([*newer.items(), ("limit", "100"), ("fields", _ALL_FIELDS), *cursor.items()])
        found += part["data"]
        if "cursor" not in part["meta"]:
            break
        cursor = {"cursor": part["meta"]["cursor"]}
    random.Random(seed).shuffle(found)
    found.sort(key=lambda score: str(score["timestamp"]), reverse=True)
    limit, page = int(params["limit"]), int(params["page"])
    shown = [flat(score) for score in found[(page - 1) * limit : page * limit]]
    meta = {"page": page, "limit": limit, "totalItems": len(found), "totalPages": -(-len(found) // limit)}
    return {"data": shown, "meta": meta}


def flat(score: Mapping[str, Any]) -> dict[str, Any]:
    """Return a score of `v3/scores` as the older API shows it: its subject in fields of its own, its text apart."""
    subject = score["subject"]
    kind, about = subject["kind"], subject["id"]
    shown = {key: value for key, value in score.items() if key != "subject"}
    if score["dataType"] == "BOOLEAN":
        shown |= {"value": int(score["value"]), "stringValue": str(score["value"])}
    elif score["dataType"] != "NUMERIC":
        shown |= {"value": 0, "stringValue": score["value"]}
    return shown | {
        "traceId": about if kind == "trace" else subject.get("traceId"),
        "observationId": about if kind == "observation" else None,
        "sessionId": about if kind == "session" else None,
        "datasetRunId": about if kind == "experiment" else None,
    }
