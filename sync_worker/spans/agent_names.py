"""The name of the agent that an observation is, or was made for, as its instrumentation gives it.

A span that states whose it is has the name in an attribute; the observation's own name is the span's ("invoke_agent
gpt-4o-mini", "agent run"), and stands in only where no attribute shows. Kelet makes an agent of each name, so names
made of an observation's have neither ids nor models in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from sync_worker.json_text import dump, parse
from sync_worker.records import Observation
from sync_worker.spans.instrumentations import OPENINFERENCE_KIND, PYDANTIC_AI
from sync_worker.spans.langfuse_sdk.sdks import names_sdk
from sync_worker.spans.providers import provider_of

_Lookup = Callable[[str], Any]

#: The conventions' attribute, on spans of agents and of what they do.
_CONVENTION = "gen_ai.agent.name"
#: By the value of its operation: what runs an agent. Workflows had a name of their own before the conventions' 0.1.0.
_OPERATIONS = frozenset({"invoke_agent", "create_agent", "invoke_workflow"})
_OPERATION, _WORKFLOW = "gen_ai.operation.name", "gen_ai.workflow.name"
_TRACELOOP_KIND, _TRACELOOP_NAME = "traceloop.span.kind", "traceloop.entity.name"

#: On spans of agents only, the surest first: pydantic-ai, Strands and OpenInference, OpenLLMetry's crewai, Microsoft's
#: AutoGen and Semantic Kernel before they followed the conventions, OpenInference's graph (agno has an id beside the
#: name; CrewAI the role, and the OpenAI Agents SDK the name, as the id).
_OF_AGENTS = ("agent_name", "agent.name", "crewai.agent.role", "crewai.agent.name", "autogen.agent.name",
              "semantic_kernel.agent.name", "ai.agent.name", "graph.node.name", "graph.node.id")  # fmt: skip
#: On all spans below an agent: the Vercel AI SDK 3 to 6 (7 writes the same under the conventions' name), and what
#: LangChain's `create_agent` (langchain 1.4.7, agents/factory.py) puts into LangSmith's and OpenLLMetry's exports.
_OF_ALL = ("ai.telemetry.functionId", "langsmith.metadata.lc_agent_name",
           "traceloop.association.properties.lc_agent_name")  # fmt: skip
_LANGCHAIN = "lc_agent_name"  # in metadata: the callback's own, or OpenInference's attribute `metadata`

_MASTRA_TYPE = "mastra.span.type"

#: Without any of these no attribute shows a name; most spans have none.
_NAMING = frozenset({_CONVENTION, _WORKFLOW, _TRACELOOP_NAME, "logfire.msg_template", *_OF_AGENTS, *_OF_ALL})
#: Without any of these either a span is no agent's by its attributes.
_ALL = _NAMING | {OPENINFERENCE_KIND, _OPERATION, _TRACELOOP_KIND, _MASTRA_TYPE, "metadata"}
_PREFIX = "attributes."  # of attributes in v2's metadata, which v1 has in an object
_NAMING_FLAT, _ALL_FLAT = (frozenset(_PREFIX + key for key in keys) for keys in (_NAMING, _ALL))
_MODELS = ("gen_ai.request.model", "gen_ai.response.model")

_PLAIN_TYPES = frozenset({"SPAN", "CHAIN"})
_OPENAI_AGENTS = "Agent run: {name!r}"  # logfire's template, whose `name` is the agent's
_GRAPH_NODE = "agent"  # what LangGraph's prebuilt agents call the node that calls the model

#: What is longer, has several lines or asks something is a text of a user.
MAX_NAME, _MAX_WORDS = 100, 8  # characters, words
#: UUIDs, hexadecimal ones, and those of letters and digits that are long and have two digits at least.
_SURE_ID = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?=[0-9a-f]*\d)[0-9a-f]{8,}|(?=(?:[a-z]*\d){2})[0-9a-z]{16,}"
_ID = re.compile(rf"[\s_\-:#/|.]*(?<![^\W_])(?:{_SURE_ID}|\d{{5,}})(?![^\W_])", re.IGNORECASE)
_WHOLE_ID = re.compile(_SURE_ID, re.IGNORECASE)
#: What instrumentations put around an agent's name in a span's.
_AROUND = (
    re.compile(r"(?:agent_run|invocation) \[(?P<name>.+)\]\Z"),  # Google's ADK
    re.compile(r"agent run: (?P<quote>['\"])(?P<name>.+)(?P=quote)\Z", re.IGNORECASE),  # logfire, Mastra
    re.compile(r"(?P<name>.+)\.(?:_execute_core|kickoff(?:_async)?|agent|workflow|a?run(?:_\w+)?)\Z"),
)
_MAY_BE_AROUND = re.compile(r"[\]'\".]")
#: The conventions' names of spans: an operation, and an agent or a model.
_OF_AGENT = re.compile(r"(?:invoke_agent|create_agent|invoke_workflow)(?:\s+|\Z)")
_OF_MODEL = re.compile(r"(?:chat|text_completion|generate_content|embeddings)\s+(?P<model>\S+)\Z")
_OPERATIONS_NAMED = ("invoke_", "create_agent", "chat ", "text_completion ", "generate_content ", "embeddings ")
_LOOKS_LIKE_MODEL = re.compile(r"[\d/:]")
_BARE = frozenset({"agent run", "agent_run", "run"})
#: One word of letters, which most names are: there is nothing to take off.
_ONE_WORD = re.compile(r"(?!(?:agent_run|invoke_agent|create_agent|invoke_workflow|run)\Z)[A-Za-z][A-Za-z_-]*\Z")


def agent_named_by(observation: Observation) -> str | None:
    """Return the name of the agent that an observation is of by its own word; None where it names none."""
    metadata = observation.metadata
    nested = metadata.get("attributes")
    if isinstance(nested, dict):
        keys, known, naming = nested.keys(), _ALL, _NAMING
    else:
        keys, known, naming = metadata.keys(), _ALL_FLAT, _NAMING_FLAT
    if observation.type != "AGENT" and _LANGCHAIN not in metadata and keys.isdisjoint(known):
        return None
    look: _Lookup = nested.get if isinstance(nested, dict) else _flat(metadata)
    named = None if keys.isdisjoint(naming) or names_sdk(metadata) else _name_in_attributes(look, observation)
    inner = look("metadata")
    if named is None and inner is not None:
        named = _of_openinference(inner)
    if named is None and _LANGCHAIN in metadata:
        named = _name(metadata[_LANGCHAIN])
    if (
        named is None
        and observation.name
        and (observation.type == "AGENT" or _runs_agent(look, observation))
        and not _is_graph_node(observation)
    ):
        return plain_name(observation.name[: MAX_NAME + 1], observation.model, *(str(look(key)) for key in _MODELS))
    return named


def _runs_agent(look: _Lookup, observation: Observation) -> bool:
    """Whether an observation of a plain type is an agent's: earlier servers have no type for agents."""
    return observation.type in _PLAIN_TYPES and (
        look(OPENINFERENCE_KIND) == "AGENT"
        or look(_OPERATION) == "invoke_agent"
        or look(_TRACELOOP_KIND) == "agent"
        or look(_MASTRA_TYPE) == "agent_run"
    )


def _flat(metadata: Mapping[str, Any]) -> _Lookup:
    return lambda key: metadata.get(_PREFIX + key)


def _name_in_attributes(look: _Lookup, observation: Observation) -> str | None:
    """Return the name of an agent that attributes state."""
    named = _name(look(_CONVENTION))
    if named:
        return named
    operation, kind = look(_OPERATION), look(_TRACELOOP_KIND)
    if operation == "invoke_workflow" and look(_WORKFLOW):
        return _name(look(_WORKFLOW))
    if kind == "agent" and look(_TRACELOOP_NAME):
        return _name(look(_TRACELOOP_NAME))
    if look("logfire.msg_template") == _OPENAI_AGENTS:
        return _name(look("name"))
    if observation.type == "AGENT" or kind == "agent" or str(operation) in _OPERATIONS or _is_agent(look, observation):
        for key in _OF_AGENTS:
            named = _name(look(key))
            if named and not (key == "graph.node.id" and _WHOLE_ID.fullmatch(named)):
                return named
    return next((name for key in _OF_ALL if (name := _name(look(key)))), None)


def _is_agent(look: _Lookup, observation: Observation) -> bool:
    """Whether an observation of a plain type is an agent's: Pydantic AI's of the time before it had types."""
    if look(OPENINFERENCE_KIND) == "AGENT":
        return True
    scope = observation.metadata.get("scope")
    instrumentation = observation.metadata.get("scope.name", scope.get("name") if isinstance(scope, dict) else None)
    return isinstance(instrumentation, str) and (
        instrumentation == PYDANTIC_AI or instrumentation.startswith("logfire")
    )


def _of_openinference(metadata: Any) -> str | None:
    if isinstance(metadata, str) and f'"{_LANGCHAIN}"' in metadata:
        _, metadata = parse(metadata)
    return _name(metadata.get(_LANGCHAIN)) if isinstance(metadata, dict) else None


def _name(value: Any) -> str | None:
    """Return a name as text: Langfuse parses what it stored, and a name may look like a number."""
    if isinstance(value, str):
        return value.strip() or None
    return dump(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_graph_node(observation: Observation) -> bool:
    """Whether an observation is a node of a graph, whose name states nothing of the agent that the graph is."""
    return observation.name == _GRAPH_NODE == observation.metadata.get("langgraph_node")


@lru_cache(maxsize=1024)
def plain_name(shown: str, *models: str | None) -> str | None:
    """Return the name in what an observation or a trace is called: without what stands around it, ids and models."""
    if len(shown) <= MAX_NAME and _ONE_WORD.match(shown) and shown not in models:
        return shown
    name = shown.strip()
    if len(name) > MAX_NAME or "\n" in name or name.endswith("?") or name.count(" ") >= _MAX_WORDS:
        return None
    if _MAY_BE_AROUND.search(name):
        found = next((match for around in _AROUND if (match := around.match(name))), None)
        name = name if found is None else found["name"]
    if name.startswith(_OPERATIONS_NAMED):
        bare = _without_operation(name, models)
        if bare is None:
            return None
        name = bare
    elif name.endswith(" run") and name not in _BARE:  # pydantic-ai before 2.0
        name = name.removesuffix(" run")
    without = _ID.sub("", name)
    name = name if without == name else without.strip(" _-:#/|.")
    return None if not name or name in _BARE or name in models else name


def _without_operation(name: str, models: tuple[str | None, ...]) -> str | None:
    """Return the agent of a span that is named by the conventions; None where what follows the operation is a model."""
    operation = _OF_AGENT.match(name)
    if operation is not None:
        agent = name[operation.end() :]
        return None if agent in models or provider_of(agent) is not None else agent
    call = _OF_MODEL.match(name)
    if call is None:
        return name
    model = call["model"]
    is_model = model in models or provider_of(model) is not None or _LOOKS_LIKE_MODEL.search(model)
    return None if is_model else name
