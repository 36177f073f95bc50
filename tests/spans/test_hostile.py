"""Rows that no sound program writes, and that Langfuse stores all the same: each has to pass."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_worker.spans.encode import to_proto
from tests.spans.made import OTLP, attributes, generation, held, otlp, row, span


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\0", "\0"),
        ("a\0b", "a\0b"),
        ("ünï 東京 🐸", "ünï 東京 🐸"),
        ("\ufeffx", "\ufeffx"),
        ("\ud83d", "\ufffd"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "😀"),
    ],
    ids=["nul", "nul inside", "scripts", "byte order mark", "surrogate", "surrogate inside", "pair of surrogates"],
)
def test_odd_texts_pass(text: str, expected: str) -> None:
    """One odd character in one row must not stop a batch; what UTF-8 can hold arrives as it was."""
    short = text[:9]
    metadata = {f"k{short}": text, f"attributes.own{short}": text} | OTLP
    made = generation(
        input=text, output=text, name=short, metadata=metadata, session_id=short, level="ERROR", status_message=text,
        model=short, tags=(short,), usage={short: 1}, model_parameters={"temperature": text, "stop": text},
    )  # fmt: skip
    found = {attribute.key: attribute.value.string_value for attribute in to_proto(span(made)).attributes}
    assert found["langfuse.observation.input"] == expected


def test_empty_texts() -> None:
    """An empty value is a value: it must neither break nor become something else."""
    found = attributes(row(metadata=otlp(own="", list=[], thing={}) | {"mine": ""}))
    assert held(found, "own", "list", "thing", "langfuse.observation.metadata.mine") == {
        "own": "", "list": "[]", "thing": "{}", "langfuse.observation.metadata.mine": "",
    }  # fmt: skip


def test_a_megabyte() -> None:
    """The default limit is what is allowed, not what is refused; what is over says how much there was."""
    whole = attributes(row(input="x" * 1_048_576))["langfuse.observation.input"]
    assert isinstance(whole, str)
    assert whole.strip("x") == ""
    assert len(whole) == 1_048_576
    cut = attributes(row(input="x" * 1_048_577))["langfuse.observation.input"]
    assert isinstance(cut, str)
    assert cut.strip("x") == " …[cut by the sync worker: 1048577 bytes in all]"
    assert len(cut.encode()) == 1_048_576


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.text(st.characters(), max_size=6) | st.sampled_from(
    ["scope", "scope.name", "scope.version", "scope.attributes.x", "attributes", "attributes.x", "resourceAttributes",
     "attributes.gen_ai.system", "attributes.temperature", "attributes.version", "resourceAttributes.service.version"]
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    metadata=st.dictionaries(KEYS, VALUES, max_size=6),
    parameters=st.dictionaries(st.sampled_from(["temperature", "stop", "seed", "stream", "n", "system", "x"]), VALUES),
    usage=st.dictionaries(
        st.sampled_from(["input", "output", "total", "x"]), st.integers() | st.floats(allow_nan=False)
    ),
    texts=st.tuples(*[st.none() | st.text(st.characters(), min_size=1, max_size=20)] * 3),
    kind=st.sampled_from(["GENERATION", "TOOL", "AGENT", "SPAN", "RETRIEVER", "ODD"]),
)
def test_any_row_can_be_sent(
    metadata: dict[str, Any],
    parameters: dict[str, Any],
    usage: dict[str, float],
    texts: tuple[str | None, str | None, str | None],
    kind: str,
) -> None:
    """A row that cannot be converted or serialised is lost for Kelet: whatever Langfuse stores has to pass."""
    made = row(type=kind, metadata=metadata, model_parameters=parameters, usage=usage, cost=usage, level="ERROR",
               input=texts[0], output=texts[1], status_message=texts[2], version=texts[2], model=texts[1])  # fmt: skip
    to_proto(span(made)).SerializeToString()
