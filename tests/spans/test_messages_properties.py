"""Readers of messages hold for any text and any JSON value: nothing raises, nothing that was said is lost."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_worker.json_text import dump, parse
from sync_worker.spans.messages import Conversation, chat, read_input, read_output

pytestmark = pytest.mark.slow

# Words that the readers look for, so that generated values come near to messages.
KEY_TEXT = """
    role content parts type text tool_calls function function_call name arguments args id tool_call_id messages tools
    input output prompt choices message delta finish_reason candidates contents kwargs lc data additional_kwargs source
    generations generation_info system instructions config toolCallId toolName functionCall inlineData image_url url
    reasoning thinking summary response result value refusal audio file status response_metadata
"""
WORD_TEXT = """
    user assistant system tool human ai function text image image_url tool_use tool_result tool_call file reasoning
    thinking message function_call function_call_output constructor HumanMessage AIMessage blob tool-call tool-result
    tool-x dynamic-tool input_audio document refusal data:image/png;base64,AA https://x {} [] {"a":1}
"""
KEYS = st.sampled_from(KEY_TEXT.split())
WORDS = st.sampled_from(WORD_TEXT.split())
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=5),
    max_leaves=25,
)
STATED = st.text(min_size=1, max_size=12)


def check(conversation: Conversation | None) -> None:
    """Hold what every conversation promises."""
    assert conversation is not None
    for message in conversation.messages:
        assert isinstance(message["role"], str)
        assert message["role"]
        assert all(isinstance(part["type"], str) and part["type"] for part in message["parts"])
        assert isinstance(message.get("finish_reason", ""), str)
    assert all(isinstance(part["type"], str) for part in conversation.system)
    assert all(isinstance(reason, str) for reason in conversation.finish_reasons)
    for part in (part for message in conversation.messages for part in message["parts"]):
        if part["type"] == "text" and "content" in part:
            assert isinstance(part["content"], str)
    json.loads(dump([conversation.messages, conversation.system, conversation.tools]))


@given(st.text(st.characters(), min_size=1) | st.text(st.sampled_from('[]{}":,1a\\ud80'), min_size=1))
def test_any_text(text: str) -> None:
    """One strange row would stop the sync of its whole batch."""
    check(read_input(text))
    check(read_output(text))
    parse(text)


@settings(max_examples=400, deadline=None)
@given(VALUES)
def test_any_json(value: object) -> None:
    """A value that only comes near to a message would raise half-way through."""
    text = json.dumps(value)
    check(read_input(text))
    check(read_output(text))


MESSAGE_KEYS = """
    content parts tool_calls function_call refusal audio additional_kwargs thinking_blocks reasoning_content name
    finish_reason tool_call_id invalid_tool_calls status
"""
BODY_KEYS = """
    messages choices candidates contents generations output input prompt tools system config message content
    instructions finish_reason text
"""
ROLES = ("user", "assistant", "tool", "model", "thinking")
#: Values of every kind, odd ones among them.
KINDS = (
    *(None, True, False, 0, -1, 2**70, 1.5, -0.0, float("nan"), float("inf"), "", "a", "ü", "\ud800", "0", "[1", "\n"),
    *WORD_TEXT.split(),
)


def any_value(chance: random.Random, levels: int = 3) -> object:
    """Return a value: one of a few, or an object or list of values."""
    if not levels or chance.random() < 0.5:
        return chance.choice(KINDS)
    if chance.random() < 0.4:
        return [any_value(chance, levels - 1) for _ in range(chance.randrange(5))]
    keys = [chance.choice(KEY_TEXT.split()) for _ in range(chance.randrange(6))]
    return {key: any_value(chance, levels - 1) for key in keys}


def near_messages(chance: random.Random) -> object:
    """Return what comes near to messages: known keys, with anything in them."""
    return [
        {"role": chance.choice(ROLES)}
        | {key: any_value(chance) for key in MESSAGE_KEYS.split() if chance.random() < 0.5}
        for _ in range(chance.randrange(1, 4))
    ]


def near_body(chance: random.Random) -> object:
    """Return what comes near to a request or response around messages."""
    keys = chance.sample(BODY_KEYS.split(), chance.randrange(1, 6))
    return {key: chance.choice((any_value, near_messages))(chance) for key in keys}


#: Made from a number: Hypothesis takes fifty times as long to draw a value of so many parts as it takes to read it.
NEAR = st.builds(
    lambda seed, make: make(random.Random(seed)), st.integers(0, 2**64), st.sampled_from([near_messages, near_body])
)


@settings(max_examples=600, deadline=None)
@given(NEAR)
def test_anything_inside_messages(value: object) -> None:
    """A known key with a value of a kind that nobody expects there would raise."""
    text = json.dumps(value)
    check(read_input(text))
    check(read_output(text))


@given(VALUES)
def test_unrecognised_is_unchanged(value: object) -> None:
    """The fallback would rewrite the text that it has to keep."""
    text = json.dumps(value)
    conversation = read_input(text)
    assert conversation is not None
    if not conversation.recognised:
        assert conversation.messages == [{"role": "user", "parts": [{"type": "text", "content": text}]}]


BLOCKS = st.one_of(
    STATED.map(lambda payload: {"type": "text", "text": payload}),
    STATED.map(lambda payload: {"type": "refusal", "refusal": payload}),
    STATED.map(lambda payload: {"type": "image_url", "image_url": {"url": payload, "detail": "low"}}),
    st.tuples(STATED, STATED).map(lambda two: {"type": "file", "file": {"file_data": two[0], "filename": two[1]}}),
    STATED.map(lambda payload: {"type": "input_audio", "input_audio": {"data": payload, "format": "wav"}}),
)
CONTENT = st.none() | STATED | st.lists(BLOCKS, max_size=3)
CALLS = st.lists(
    st.builds(
        lambda name, arguments, number: {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        },
        STATED,
        STATED | st.dictionaries(STATED, STATED, max_size=2).map(json.dumps),
        st.integers(0, 3),
    ),
    max_size=3,
)
CHAT = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "developer", "user", "human"]), "content": CONTENT},
            optional={"name": STATED},
        ),
        st.fixed_dictionaries(
            {"role": st.just("assistant"), "content": CONTENT},
            optional={
                "tool_calls": CALLS,
                "refusal": STATED,
                "reasoning_content": STATED,
                "annotations": st.lists(STATED.map(lambda payload: {"title": payload}), max_size=2),
            },
        ),
        st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": STATED, "content": CONTENT}),
    ),
    min_size=1,
    max_size=5,
)


def leaves(value: object) -> list[str]:
    """Return every string in a value, keys of dicts included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [leaf for pair in value.items() for side in pair for leaf in leaves(side)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return []


def stated_in(messages: list[dict[str, Any]]) -> list[str]:
    """Return the strings that carry content in OpenAI messages: no roles, types, keys or settings."""
    found: list[str] = []
    for message in messages:
        found += [message[key] for key in ("name", "tool_call_id", "refusal", "reasoning_content") if key in message]
        found += [note["title"] for note in message.get("annotations", [])]
        content = message["content"]
        for block in content if isinstance(content, list) else []:
            inner = block[block["type"]]
            found += [inner] if isinstance(inner, str) else [item for key, item in inner.items() if key != "format"]
        found += [content] if isinstance(content, str) else []
        for call in message.get("tool_calls", []):
            text = call["function"]["arguments"]
            is_json, value = parse(text)
            found += [call["function"]["name"], call["id"]]
            found += leaves(value) if is_json and isinstance(value, dict) else [text]
    return found


@settings(max_examples=300, deadline=None)
@given(CHAT, st.booleans())
def test_nothing_stated_is_lost(messages: list[dict[str, Any]], wrapped: bool) -> None:
    """Words of a conversation would be missing at Kelet, and nobody would notice."""
    text = json.dumps({"messages": messages, "model": "m"} if wrapped else messages)
    for read in (read_input, read_output):
        conversation = read(text)
        assert conversation is not None
        assert conversation.recognised
        kept = "\0".join(leaves(json.loads(dump([conversation.messages, conversation.system, conversation.tools]))))
        assert [payload for payload in stated_in(messages) if payload not in kept] == []


@given(VALUES)
def test_dump_writes_what_it_was_given(value: object) -> None:
    """The written attribute would be no JSON, or not the same value."""
    text = dump(value)
    assert dump(json.loads(text)) == text
    is_json, again = parse(text)
    assert is_json
    assert dump(again) == text


@given(st.sampled_from(sorted(chat.ROLES)), st.text(max_size=5) | st.sampled_from(["[", '[{"text": "a"}]', ""]))
def test_short_way_of_plain_messages(role: str, content: str) -> None:
    """What is read in fewer steps would differ from what is read field by field."""
    value = {"content": content, "role": role}
    assert chat.chat_message(value, "user") == chat.odd_message(value, "user")
