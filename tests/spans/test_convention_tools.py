"""Tools that Langfuse moved into a row's input."""

import pytest

from sync_worker.spans.conventions.tools import take_tools

TOOL = {"name": "look"}


@pytest.mark.parametrize(
    ("text", "before", "tools"),
    [
        ('{"messages":[{"role":"user"}],"tools":[{"name":"look"}]}', '[{"role":"user"}]', [TOOL]),
        ('{"model":"m","contents":[1],"tools":[{"name":"look"}]}', '{"model":"m","contents":[1]}', [TOOL]),
        ('{"messages":[1],"model":"m","tools":[{"name":"look"}]}', '{"messages":[1],"model":"m"}', [TOOL]),
        ('{"messages":"many","tools":[{"name":"look"}]}', '{"messages":"many"}', [TOOL]),
        ('{"prompt":"hi","tools":[{"name":"look"}]}', "hi", [TOOL]),
        ('{"prompt":[1],"tools":[{"name":"look"}]}', '{"prompt":[1]}', [TOOL]),
        ('{"tools":[{"name":"look"}]}', None, [TOOL]),
    ],
)
def test_undone(text: str, before: str | None, tools: list[object]) -> None:
    """What Langfuse did to the input is undone for each shape of input, or messages and tools are one lump."""
    assert take_tools(text) == (before, tools)


@pytest.mark.parametrize(
    "text",
    [
        None, "", "tools", '{"tools":[]}', '{"a": 1, "tools": [1]}',
        "[]", '{"a":1}', '{"tools":[1],"a":1}', '{"a":1,"tools":{"b":1}}', '{"a":1,"tools":"none"}',
        '{"a":{"tools":[1]}}', '{"a":1,"tools":[1]', '"tools"', '{"tools":' * 10_000,
    ],
    ids=lambda text: str(text)[:20],
)  # fmt: skip
def test_left_alone(text: str | None) -> None:
    """Tools that Langfuse did not put there, or not like that, are a part of the input: they stay."""
    assert take_tools(text) == (text, None)
