"""Spans for targets that are not Kelet."""

from __future__ import annotations

from typing import Any

from tests.spans.made import OTLP, generation, row, span

PHOENIX: dict[str, Any] = {"kelet": False, "project_attribute": "openinference.project.name"}
OTHER: dict[str, Any] = {"kelet": False, "project_attribute": None}


def test_another_target_gets_no_kelet_attributes() -> None:
    """A receiver that is not Kelet would be told of Kelet's project, or of what only Kelet reads."""
    # An id that is no span id, an open observation and a guess each have an attribute of ours.
    strange = generation("not-a-span-id", end=None, input="hi", metadata={"resourceAttributes.kelet.project": "x"})
    ours = span(strange)
    assert [key for key in ours.attributes if key.startswith("kelet.source.langfuse.")]
    found = span(strange, **OTHER)
    assert [key for key in {**found.attributes, **found.resource} if key.startswith("kelet.")] == []
    kept = {key: value for key, value in ours.attributes.items() if not key.startswith("kelet.")}
    assert found.attributes == kept


def test_project_of_phoenix_is_a_resource_attribute() -> None:
    """Phoenix would put all spans into the project `default`."""
    found = span(row(metadata=OTLP), **PHOENIX)
    assert found.resource["openinference.project.name"] == "shop-prod"
    assert "openinference.project.name" not in found.attributes


def test_another_target_gets_the_original_scope() -> None:
    """A scope that only Kelet has reserved would be lost to everybody else."""
    metadata = OTLP | {"scope.name": "com.anthropic.claude_code"}
    assert span(row(metadata=metadata)).scope.name == "langfuse-sdk"
    assert span(row(metadata=metadata), **OTHER).scope.name == "com.anthropic.claude_code"


def test_kelet_attributes_by_wish() -> None:
    """A target whose operator wants to know where spans came from would not be told."""
    found = span(generation("not-a-span-id"), kelet=True, project_attribute="openinference.project.name")
    assert found.attributes["kelet.source.langfuse.observation_id"] == "not-a-span-id"
    assert found.resource["openinference.project.name"] == found.resource["kelet.project"] == "shop-prod"
