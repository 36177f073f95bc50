"""Retrievals as GenAI's conventions have them: the query, how many documents were asked for, and those that came.

`gen_ai.retrieval.documents` is a list of objects that have an `id`, a `score` and whatever else
(open-telemetry/semantic-conventions-genai, model/gen-ai/gen-ai-retrieval-documents.json).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.span_model import Attributes, AttributeValue

QUERY, DOCUMENTS, TOP_K = "gen_ai.retrieval.query.text", "gen_ai.retrieval.documents", "gen_ai.retrieval.top_k"

_QUERIES = ("query", "question", "query_str", "query_text", "search_query", "text", "input", "q")
_TOP_KS = ("top_k", "topK", "similarity_top_k", "k", "limit", "n_results", "num_results", "max_num_results",
           "max_results", "topn", "top_n")  # fmt: skip
_INNER = ("search_kwargs", "kwargs", "options", "parameters")
_ANY_TOP_K = frozenset(_TOP_KS)
#: What lists of documents stand under, in answers of retrievers and of vector stores.
_LISTS = ("documents", "docs", "results", "matches", "hits", "nodes", "source_nodes", "chunks", "data", "points",
          "retrieved_documents", "value", "context")  # fmt: skip
_IDS = ("id", "_id", "id_", "doc_id", "document_id", "node_id", "chunk_id", "uuid", "key")
_SCORES = ("score", "_score", "relevance_score", "relevanceScore", "similarity", "similarity_score", "rerank_score",
           "@search.score")  # fmt: skip
_CONTENTS = ("content", "page_content", "pageContent", "text", "document", "body", "snippet", "chunk")
_METADATA = ("metadata", "meta", "payload", "extra_info", "properties")
#: What wraps a document: LlamaIndex's nodes with scores, Elasticsearch's hits.
_WRAPPED = ("node", "document", "_source")
_PAIR = 2  # LangChain's similarity_search_with_score: a document and its score
_MAX_DOCUMENTS = 1_000

#: OpenInference's documents, which Langfuse leaves among a span's attributes.
_FIRST_FLAT = frozenset(f"retrieval.documents.0.document.{key}" for key in ("id", "score", "content", "metadata"))
_FLAT = re.compile(r"retrieval\.documents\.(\d+)\.document\.(id|score|content|metadata)\Z")


def retrieval_attributes(observation: Observation, originals: Mapping[str, AttributeValue]) -> Attributes:
    """Return what a retriever was asked and what it found, as far as input, output and parameters show."""
    found: Attributes = {}
    text = observation.input
    is_json, asked = parse(text) if text and text.lstrip()[:1] in {"{", '"', "["} else (False, None)
    if text:
        found[QUERY] = (_query(asked) if is_json else None) or text
    top_k = _asked_for(observation, asked)
    if top_k is not None:
        found[TOP_K] = top_k
    documents = _of_attributes(originals) or _of_output(observation.output)
    if documents is not None:
        found[DOCUMENTS] = dump(documents)
    return found


def _query(asked: Any) -> str | None:
    if isinstance(asked, str):
        return asked
    if not isinstance(asked, dict):
        return None
    return next((text for key in _QUERIES if isinstance(text := asked.get(key), str) and text), None)


def _asked_for(observation: Observation, asked: Any) -> int | None:
    """Return how many documents were asked for, from wherever that may stand."""
    for stated in (asked, observation.model_parameters, observation.metadata):
        if isinstance(stated, dict):
            found = _first_integer(stated)
            if found is not None:
                return found
            for key in () if stated.keys().isdisjoint(_INNER) else _INNER:
                if isinstance(stated.get(key), dict):
                    found = _first_integer(stated[key])
                    if found is not None:
                        return found
    return None


def _first_integer(stated: Mapping[str, Any]) -> int | None:
    if stated.keys().isdisjoint(_ANY_TOP_K):
        return None
    for key in _TOP_KS:
        value = stated.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < len(str(2**63)):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
            return value
    return None


def _of_attributes(originals: Mapping[str, AttributeValue]) -> list[dict[str, Any]] | None:
    if originals.keys().isdisjoint(_FIRST_FLAT):
        return None
    found: dict[int, dict[str, Any]] = {}
    for key, value in originals.items():
        match = _FLAT.match(key) if key.startswith("retrieval.documents.") else None
        if match is not None:
            found.setdefault(int(match[1]), {})[match[2]] = value
    return [_document(found[number]) for number in sorted(found)][:_MAX_DOCUMENTS]


def _of_output(output: str | None) -> list[dict[str, Any]] | None:
    """Return the documents of an answer; None where it is none of documents."""
    is_json, value = parse(output) if output and output.lstrip()[:1] in {"{", "["} else (False, None)
    if not is_json:
        return None
    items = _listed(value)
    if items is None:
        return None
    found = [_item(item) for item in items[:_MAX_DOCUMENTS]]
    known = [document for document in found if document is not None]
    return known if len(known) == len(found) else None


def _listed(value: Any) -> list[Any] | None:
    """Return the list of documents that an answer holds; Chroma's columns become rows."""
    for _ in range(3):  # {"result": {"matches": […]}}, {"hits": {"hits": […]}}
        if isinstance(value, list):
            return value
        if not isinstance(value, dict):
            return None
        columns = _columns(value)
        if columns is not None:
            return columns
        value = next((value[key] for key in (*_LISTS, "result") if isinstance(value.get(key), list | dict)), None)
    return value if isinstance(value, list) else None


def _columns(value: Mapping[str, Any]) -> list[Any] | None:
    """Return Chroma's answer to one query by documents: it has lists of ids, of texts and so on, one for each query."""
    ids = value.get("ids")
    if not isinstance(ids, list) or not isinstance(value.get("documents", []), list | None):
        return None
    if len(ids) == 1 and isinstance(ids[0], list):
        value = {key: stated[0] for key, stated in value.items() if isinstance(stated, list) and len(stated) == 1}
        ids = value["ids"]
    if not all(isinstance(item, str) for item in ids):
        return None
    names = {"ids": "id", "documents": "content", "metadatas": "metadata", "scores": "score"}
    rows: list[dict[str, Any]] = [{} for _ in ids]
    for column, name in names.items():
        stated = value.get(column)
        if isinstance(stated, list) and len(stated) == len(ids):
            for row, item in zip(rows, stated, strict=True):
                if item is not None:
                    row[name] = item
    return rows


def _item(item: Any) -> dict[str, Any] | None:
    if isinstance(item, str):
        return {"content": item}
    if isinstance(item, list) and len(item) == _PAIR and isinstance(item[0], dict) and _is_score(item[1]):
        return _document(item[0]) | {"score": item[1]}
    return _document(item) if isinstance(item, dict) else None


def _document(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with the conventions' keys: what is known of id, score, content and metadata."""
    inner = next((stated[key] for key in _WRAPPED if isinstance(stated.get(key), dict)), None)
    layers = [stated] if inner is None else [stated, inner]
    metadata = next((part for layer in layers for key in _METADATA if isinstance(part := layer.get(key), dict)), None)
    if metadata is not None:
        layers.append(metadata)
    found: dict[str, Any] = {}
    for name, keys, fits in (("id", _IDS, _is_id), ("score", _SCORES, _is_score)):
        value = next((value for layer in layers for key in keys if fits(value := layer.get(key))), None)
        if value is not None:
            found[name] = str(value) if name == "id" else value
    content = next((text for layer in layers for key in _CONTENTS if isinstance(text := layer.get(key), str)), None)
    if content is not None:
        found["content"] = content
    if metadata:
        found["metadata"] = metadata
    elif isinstance(stated.get("metadata"), str) and stated["metadata"]:  # OpenInference writes it as JSON
        found["metadata"] = parse(stated["metadata"])[1] or stated["metadata"]
    return found


def _is_id(value: Any) -> bool:
    return (isinstance(value, str) and value != "") or (isinstance(value, int) and not isinstance(value, bool))


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
