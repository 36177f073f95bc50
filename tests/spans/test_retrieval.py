"""Retrievals: the query, how many documents were asked for, and those that came, in the conventions' shape."""

import json
from typing import Any

import pytest

from sync_worker.spans.retrieval import DOCUMENTS, QUERY, TOP_K, retrieval_attributes
from sync_worker.spans.span_model import AttributeValue
from tests.spans.made import ROOT, otlp, row, spans

LANGCHAIN = {"id": None, "page_content": "shoes are red", "metadata": {"source": "a.md"}, "type": "Document"}


def documents(output: Any, **originals: AttributeValue) -> Any:
    """Return the documents found in an output, which is text or will be written as JSON."""
    text = output if isinstance(output, str) else json.dumps(output)
    found = retrieval_attributes(row(type="RETRIEVER", output=text), originals)
    return json.loads(str(found[DOCUMENTS])) if DOCUMENTS in found else None


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param([{"id": "d1", "score": 0.9}], [{"id": "d1", "score": 0.9}], id="the conventions"),
        pytest.param([LANGCHAIN], [{"content": "shoes are red", "metadata": {"source": "a.md"}}], id="LangChain"),
        pytest.param(
            [[LANGCHAIN, 0.75]],
            [{"content": "shoes are red", "metadata": {"source": "a.md"}, "score": 0.75}],
            id="LangChain with scores",
        ),
        pytest.param(
            [{"page_content": "x", "metadata": {"id": 7, "relevance_score": 0.5}}],
            [{"id": "7", "score": 0.5, "content": "x", "metadata": {"id": 7, "relevance_score": 0.5}}],
            id="id and score in metadata",
        ),
        pytest.param(
            [{"node": {"id_": "n1", "text": "x", "metadata": {"a": 1}}, "score": 0.4, "class_name": "NodeWithScore"}],
            [{"id": "n1", "score": 0.4, "content": "x", "metadata": {"a": 1}}],
            id="LlamaIndex",
        ),
        pytest.param(
            {"documents": [{"id": "h1", "content": "x", "score": 1, "meta": {"a": 1}}]},
            [{"id": "h1", "score": 1, "content": "x", "metadata": {"a": 1}}],
            id="Haystack",
        ),
        pytest.param(
            {"matches": [{"id": "p1", "score": 0.3, "values": [], "metadata": {"text": "x"}}], "namespace": ""},
            [{"id": "p1", "score": 0.3, "content": "x", "metadata": {"text": "x"}}],
            id="Pinecone",
        ),
        pytest.param(
            {"ids": [["c1", "c2"]], "documents": [["x", "y"]], "metadatas": [[{"a": 1}, None]], "distances": [[0.1, 2]],
             "embeddings": None},
            [{"id": "c1", "content": "x", "metadata": {"a": 1}}, {"id": "c2", "content": "y"}],
            id="Chroma: a distance is no score",
        ),
        pytest.param(
            {"hits": {"total": 1, "hits": [{"_id": "e1", "_score": 2.5, "_source": {"text": "x"}}]}},
            [{"id": "e1", "score": 2.5, "content": "x"}],
            id="Elasticsearch",
        ),
        pytest.param(
            {"result": {"points": [{"id": 4, "score": 0.8, "payload": {"content": "x"}}]}},
            [{"id": "4", "score": 0.8, "content": "x", "metadata": {"content": "x"}}],
            id="Qdrant",
        ),
        pytest.param(
            {"object": "list", "data": [{"file_id": "f", "score": 0.9, "content": "x"}]},
            [{"score": 0.9, "content": "x"}],
            id="a list under data",
        ),
        pytest.param(["x", "y"], [{"content": "x"}, {"content": "y"}], id="texts"),
        pytest.param([], [], id="nothing found"),
        pytest.param({"documents": []}, [], id="nothing found, in an object"),
        pytest.param("plain text", None, id="plain text"),
        pytest.param("[not JSON", None, id="broken"),
        pytest.param([1, 2], None, id="numbers"),
        pytest.param([{"id": "a"}, 3], None, id="mixed"),
        pytest.param({"answer": "x"}, None, id="an answer"),
        pytest.param([[1, 2]], None, id="vectors"),
        pytest.param([{"id": True, "score": "high", "content": 7, "metadata": "m"}], [{"metadata": "m"}], id="odd"),
    ],
)  # fmt: skip
def test_documents(output: Any, expected: Any) -> None:
    """Whether an answer follows from what was found is judged by these."""
    assert documents(output) == expected


def test_documents_of_openinference() -> None:
    """OpenInference tells documents in attributes, and what they look like in an output differs by framework."""
    originals: dict[str, AttributeValue] = {
        "retrieval.documents.1.document.content": "y",
        "retrieval.documents.0.document.id": "a",
        "retrieval.documents.0.document.score": 0.5,
        "retrieval.documents.0.document.content": "x",
        "retrieval.documents.0.document.metadata": '{"source": "a.md"}',
    }
    found = documents("told otherwise", **originals)
    assert found == [{"id": "a", "score": 0.5, "content": "x", "metadata": {"source": "a.md"}}, {"content": "y"}]


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        ("red shoes", "red shoes"),
        ('"red shoes"', "red shoes"),
        ('{"query": "red shoes", "k": 4}', "red shoes"),
        ('{"question":"red shoes"}', "red shoes"),
        ('{"query": 7}', '{"query": 7}'),
        ('["a"]', '["a"]'),
        ("{red", "{red"),
    ],
)
def test_query(asked: str, query: str) -> None:
    """The query is what a retrieval is judged by."""
    assert retrieval_attributes(row(input=asked), {})[QUERY] == query


@pytest.mark.parametrize(
    ("changes", "top_k"),
    [
        ({"input": '{"query":"x","k":4}'}, 4),
        ({"input": '{"query":"x","similarity_top_k":"4"}'}, 4),
        ({"input": '{"query":"x","search_kwargs":{"k":4}}'}, 4),
        ({"input": '{"query_texts":["x"],"n_results":4}'}, 4),
        ({"model_parameters": {"top_k": "4"}}, 4),
        ({"metadata": {"top_k": 4}}, 4),
        ({"metadata": {"limit": 4}, "input": "x"}, 4),
        ({"input": '{"query":"x","k":true}'}, None),
        ({"input": '{"query":"x","k":-1}'}, None),
        ({"input": '{"query":"x","k":"many"}'}, None),
        ({"input": '{"query":"x","k":"' + "9" * 400 + '"}'}, None),
        ({"input": '{"query":"x","k":' + "9" * 40 + "}"}, None),
        ({}, None),
    ],
)
def test_top_k(changes: dict[str, Any], top_k: int | None) -> None:
    """How many were asked for tells a retriever that finds nothing from one that was not asked for more."""
    assert retrieval_attributes(row(**changes), {}).get(TOP_K) == top_k


def test_of_a_retriever_only() -> None:
    """A tool's or a model's list of anything is no retrieval, and what the instrumentation wrote stays."""
    stated = {"input": '{"query":"x","k":4}', "output": '[{"id":"d1"}]'}
    assert not {QUERY, DOCUMENTS, TOP_K} & spans(row(type="TOOL", **stated))[ROOT].attributes.keys()
    own = spans(row(type="RETRIEVER", metadata=otlp(gen_ai__retrieval__documents="[]"), **stated))[ROOT].attributes
    assert (own[DOCUMENTS], own[TOP_K], own[QUERY]) == ("[]", 4, "x")


def test_nothing_of_the_input_is_dropped() -> None:
    """With the conventions' names alone, the filter of a query would be nowhere."""
    stated = spans(row(type="RETRIEVER", input='{"query":"x","filter":1}'), attributes="genai")[ROOT].attributes
    assert stated["langfuse.observation.input"] == '{"query":"x","filter":1}'
    plain = spans(row(type="RETRIEVER", input="x"), attributes="genai")[ROOT].attributes
    assert "langfuse.observation.input" not in plain
