"""Messages as instrumentations beyond the common six write them (`tests/data/message_shapes.jsonl`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sync_worker.spans.messages import read_input, read_output

DATA = Path(__file__).resolve().parent.parent / "data" / "message_shapes.jsonl"
SHAPES: list[dict[str, Any]] = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("shape", SHAPES, ids=[shape["name"] for shape in SHAPES])
def test_shape(shape: dict[str, Any]) -> None:
    """A whole framework's conversations would arrive as one text part of JSON, a thought as what was said."""
    value = shape["value"]
    text = value if isinstance(value, str) else json.dumps(value)
    conversation = (read_input if shape["side"] == "input" else read_output)(text)
    assert conversation is not None
    assert conversation.recognised
    assert conversation.messages == shape["messages"]
    assert conversation.system == shape.get("system", [])
    assert conversation.finish_reasons == shape.get("finish_reasons", [])
    again = (read_input if shape["side"] == "input" else read_output)(json.dumps(text))
    assert isinstance(value, str) or again == conversation
