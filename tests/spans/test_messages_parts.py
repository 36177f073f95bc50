"""Parts of messages: media, reasoning, tools, and fields that no convention has a place for."""

import json
from typing import Any

import pytest

from sync_worker.spans.messages import read_input, read_output


def parts_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of one message, read as an output."""
    conversation = read_output(json.dumps([message]))
    assert conversation is not None
    assert conversation.recognised
    parts: list[dict[str, Any]] = conversation.messages[0]["parts"]
    return parts


PNG = "iVBORw0KGgo="
BLOB = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": PNG}
URI = {"type": "uri", "modality": "image", "uri": "https://x/y.png"}
TOKEN = "@@@langfuseMedia:type=image/png|id=some-uuid|source=bytes@@@"


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}, {**URI, "detail": "low"}),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + PNG}}, BLOB),
        ({"type": "image_url", "image_url": {"url": TOKEN}}, {**URI, "uri": TOKEN}),
        ({"type": "input_image", "image_url": "https://x/y.png"}, URI),
        ({"type": "input_image", "file_id": "f1"}, {"type": "file", "modality": "image", "file_id": "f1"}),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}, BLOB),
        ({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}, URI),
        ({"type": "image", "image": PNG, "mediaType": "image/png"}, BLOB),
        (
            {"type": "image", "source_type": "base64", "data": PNG, "mime_type": "image/png"},
            {**BLOB, "source_type": "base64"},
        ),
        (
            {"type": "image", "source_type": "id", "id": "f1"},
            {"type": "file", "modality": "image", "file_id": "f1", "source_type": "id"},
        ),
        ({"type": "image-url", "url": "https://x/y.png"}, URI),
        ({"type": "binary", "media_type": "image/png", "content": PNG}, BLOB),
        ({"inlineData": {"mimeType": "image/png", "data": PNG}}, BLOB),
        ({"inline_data": {"mime_type": "image/png", "data": PNG}}, BLOB),
        (
            {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
            {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": "UklG"},
        ),
        (
            {"type": "file", "file": {"file_id": "f1", "filename": "a.pdf"}},
            {"type": "file", "modality": "document", "file_id": "f1", "filename": "a.pdf"},
        ),
        (
            {"type": "file", "data": "JVBE", "mediaType": "application/pdf", "filename": "a.pdf"},
            {
                "type": "blob",
                "modality": "document",
                "mime_type": "application/pdf",
                "content": "JVBE",
                "filename": "a.pdf",
            },
        ),
        (
            {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/v.mp4"}},
            {"type": "uri", "modality": "video", "mime_type": "video/mp4", "uri": "gs://b/v.mp4"},
        ),
        (
            {"type": "file", "modality": "document", "file_id": "f1"},
            {"type": "file", "modality": "document", "file_id": "f1"},
        ),
    ],
)
def test_media(block: dict[str, Any], part: dict[str, Any]) -> None:
    """Pictures and files would be unreadable for Kelet: every framework has its own block for them."""
    assert parts_of({"role": "user", "content": [block]}) == [part]


@pytest.mark.parametrize(
    "block",
    [
        *(
            {"type": "search_result", "title": "t"},
            {"type": "image", "id": "i1"},
            {"type": "image", "image": {"0": 137}},
        ),
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
        *({"type": "tool_use"}, {"type": "tool_result"}, {"type": "text"}, {"type": "step-start"}),
        {"type": "image", "mime_type": "image/gif", "url": "data:image/png;base64,AAAA"},
    ],
)
def test_unknown_blocks_stay_as_they_are(block: dict[str, Any]) -> None:
    """A block that is new, or lacks what its type promises, would be bent into something else or lost."""
    assert parts_of({"role": "user", "content": [block]}) == [block]


@pytest.mark.parametrize("block", [{"foo": 1}, [1, 2], 5, None, True, {"type": 7}])
def test_blocks_without_a_type_become_text(block: object) -> None:
    """Content that is no block at all would be dropped."""
    [part] = parts_of({"role": "user", "content": [block]})
    assert part["type"] == "text"
    assert json.loads(part["content"]) == block


def test_fields_beside_the_known_ones_stay_in_their_part() -> None:
    """Citations, signatures and the like would be lost, or overwrite the field that is read."""

    def only(**block: object) -> dict[str, Any]:
        [part] = parts_of({"role": "user", "content": [block]})
        return part

    assert only(type="text", text="a", content="b", citations=[1]) == {
        "type": "text",
        "content": "b",
        "text": "a",
        "citations": [1],
    }
    assert only(type="thinking", thinking="a", content="") == {"type": "reasoning", "content": "a"}
    assert only(type="thinking", thinking="a", content=["b"]) == {
        "type": "reasoning",
        "content": "a",
        "_content": ["b"],
    }


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"refusal": "No."}, [{"type": "refusal", "content": "No."}]),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, [{"type": "refusal", "content": "No."}]),
        ({"reasoning_content": "hm", "reasoning": "hm"}, [{"type": "reasoning", "content": "hm"}]),
        (
            {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}], "reasoning_content": "hm"},
            [{"type": "reasoning", "content": "hm", "signature": "s"}],
        ),
        ({"annotations": [{"url": "u"}]}, [{"type": "annotations", "content": [{"url": "u"}]}]),
        ({"text": "also"}, [{"type": "text", "content": "also"}]),
        (
            {"audio": {"id": "a1", "data": "UklG", "transcript": "hello"}},
            [{"type": "blob", "modality": "audio", "content": "UklG", "id": "a1", "transcript": "hello"}],
        ),
        ({"tool_calls": [{"odd": 1}]}, [{"type": "text", "content": '{"odd":1}'}]),
        ({"tool_calls": "not a list"}, [{"type": "tool_calls", "content": "not a list"}]),
        ({"tool_calls": None, "annotations": [], "id": "m1", "usage": {"n": 1}}, []),
        (
            {"invalid_tool_calls": [{"name": "f", "args": "{oops", "id": "c1", "error": "bad"}]},
            [{"type": "tool_call", "id": "c1", "name": "f", "arguments": "{oops", "error": "bad"}],
        ),
        (
            {"tool_calls": [{"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}]},
            [{"type": "tool_call", "id": "c1", "name": "sql", "arguments": "SELECT 1"}],
        ),
    ],
)
def test_what_stands_beside_the_content(fields: dict[str, Any], parts: list[object]) -> None:
    """Refusals, reasoning, sound and odd calls stand beside the content, where they would be overlooked."""
    assert parts_of({"role": "assistant", "content": None, **fields}) == parts


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        *(('{"a": 1}', {"a": 1}), ("", ""), ("[1]", "[1]"), ("{cut", "{cut"), ('{"a": NaN}', '{"a": NaN}'), ([1], [1])),
        ('{"n": 123456789012345678901234567890}', {"n": 123456789012345678901234567890}),
        ('{"s": "\\ud800"}', '{"s": "\\ud800"}'),
    ],
)
def test_arguments(given: object, kept: object) -> None:
    """Arguments as text would stay unreadable, or change on the way to an object."""
    [part] = parts_of({"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": given}}]})
    assert part["arguments"] == kept


@pytest.mark.parametrize("content", ["", "x", {"a": 1}, [{"type": "text", "text": "x"}], None])
def test_tool_answers_go_out_as_they_came(content: object) -> None:
    """What a tool answered would be reworded, or missing under the key that Kelet reads."""
    [part] = parts_of({"role": "tool", "tool_call_id": "c1", "content": content, "status": "error"})
    assert part == {"type": "tool_call_response", "id": "c1", "response": content, "result": content, "status": "error"}


def test_named_function_answer() -> None:
    """The name is all that an old function message says about its call."""
    conversation = read_input('[{"role": "function", "name": "f", "content": "1"}]')
    assert conversation is not None
    part = {"type": "tool_call_response", "name": "f", "response": "1", "result": "1"}
    assert conversation.messages == [{"role": "tool", "parts": [part], "name": "f"}]


def test_user_interface_tools() -> None:
    """Vercel's interface keeps call and answer in one block; one of the two would be lost."""
    block = {"type": "tool-weather", "toolCallId": "c1", "state": "done", "input": {"city": "Bern"}, "output": "21"}
    call, answer = parts_of({"role": "assistant", "id": "1", "parts": [{"type": "step-start"}, block]})[1:]
    assert call == {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Bern"}, "state": "done"}
    assert answer == {"type": "tool_call_response", "id": "c1", "name": "weather", "response": "21", "result": "21"}


def test_content_repeated_as_parts_is_reported_once() -> None:
    """Older interface messages hold the text twice, and it would be read twice."""
    message = {"role": "user", "content": "hi", "parts": [{"type": "text", "text": "hi"}]}
    assert parts_of(message) == [{"type": "text", "content": "hi"}]
    assert len(parts_of({**message, "content": "other"})) == 2
