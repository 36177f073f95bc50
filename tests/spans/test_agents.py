"""Agents: whose an observation is, by the name that the instrumentation gives, down to all that it did."""

from typing import Any

import pytest

from sync_worker.records import Observation
from sync_worker.spans.agent_names import agent_named_by, plain_name
from sync_worker.spans.context import TraceContext, gather
from tests.fidelity.pairs import GENERATIONS, NAMES, load, spans_of
from tests.spans.made import CHILD, GRANDCHILD, ROOT, TRACE, converted, generation, otlp, row, spans

AGENT = "gen_ai.agent.name"


def nested(**original: Any) -> dict[str, Any]:
    """Return metadata as v1 tells it."""
    attributes = {key.replace("__", "."): value for key, value in original.items()}
    return {"scope": {"name": "my.app"}, "resourceAttributes": {"service.name": "shop"}, "attributes": attributes}


def of_scope(name: str, metadata: dict[str, Any]) -> dict[str, Any]:
    return metadata | {"scope.name": name}


@pytest.mark.parametrize("generation_of_api", sorted(GENERATIONS))
@pytest.mark.parametrize("name", NAMES)
def test_descendants_have_the_name_that_the_agent_exports(name: str, generation_of_api: str) -> None:
    """Kelet makes an agent of each name: one of the span's own makes two of one, and splits its charts."""
    pair = load(name)
    direct = {span.key: span for span in pair.direct}
    for key, span in spans_of(GENERATIONS[generation_of_api](pair)).items():
        here = direct.get(key)
        while here is not None and AGENT not in here.attributes:
            here = direct.get((key[0], here.parent_id))
        if here is not None:
            assert span.attributes[AGENT] == here.attributes[AGENT], span.name


@pytest.mark.parametrize(
    "agent",
    [
        pytest.param(
            row(type="AGENT", name="invoke_agent gpt-4o", metadata=otlp(gen_ai__agent__name="boss")), id="GenAI"
        ),
        pytest.param(
            row(type="AGENT", name="invoke_agent gpt-4o", metadata=nested(gen_ai__agent__name="boss")), id="in v1"
        ),
        pytest.param(row(type="AGENT", name="boss"), id="Langfuse's SDK"),
        pytest.param(
            row(name="agent run", metadata=of_scope("pydantic-ai", otlp(agent_name="boss"))), id="pydantic-ai 1"
        ),
        pytest.param(row(type="AGENT", name="boss run", metadata=otlp(x=1)), id="pydantic-ai without a name"),
        pytest.param(
            row(name="Agent run: 'boss'", metadata=of_scope("logfire.openai_agents", otlp(
                logfire__msg_template="Agent run: {name!r}", name="boss"))), id="logfire, OpenAI Agents"
        ),
        pytest.param(
            row(name="boss.agent", metadata=otlp(traceloop__span__kind="agent", traceloop__entity__name="boss")),
            id="Traceloop",
        ),
        pytest.param(
            row(type="AGENT", name="Researcher.agent", metadata=otlp(crewai__agent__role="boss\n")),
            id="OpenLLMetry, CrewAI",
        ),
        pytest.param(
            row(type="AGENT", name="boss._execute_core",
                metadata=otlp(openinference__span__kind="AGENT", graph__node__id="boss")), id="OpenInference, CrewAI"
        ),
        pytest.param(
            row(type="AGENT", name="Boss_Agent.run",
                metadata=otlp(graph__node__id="3f2504e04f8941d3", graph__node__name="boss")), id="OpenInference, agno"
        ),
        pytest.param(
            row(name="agent_run [boss]", metadata=otlp(openinference__span__kind="AGENT", agent__name="boss")),
            id="OpenInference, ADK",
        ),
        pytest.param(
            row(name="invoke_workflow x", metadata=otlp(
                gen_ai__operation__name="invoke_workflow", gen_ai__workflow__name="boss")), id="a workflow"
        ),
        pytest.param(
            row(name="boss:ai.generateText", metadata=of_scope("ai", otlp(ai__telemetry__functionId="boss"))),
            id="Vercel 5",
        ),
        pytest.param(row(type="CHAIN", name="turn", metadata={"lc_agent_name": "boss"}), id="LangChain, the callback"),
        pytest.param(
            row(type="CHAIN", name="turn", metadata=otlp(metadata={"lc_agent_name": "boss", "langgraph_step": 1})),
            id="LangChain, OpenInference",
        ),
        pytest.param(
            row(type="CHAIN", name="turn", metadata=nested(metadata='{"lc_agent_name": "boss"}')),
            id="LangChain, OpenInference in v1",
        ),
        pytest.param(
            row(type="CHAIN", name="turn", metadata=otlp(langsmith__metadata__lc_agent_name="boss")),
            id="LangChain, LangSmith",
        ),
        pytest.param(row(type="AGENT", name="agent run: 'boss'", metadata=otlp(x=1)), id="Mastra"),
        pytest.param(row(name="agent run: 'boss'", metadata=otlp(mastra__span__type="agent_run")), id="Mastra, a span"),
        pytest.param(row(name="invoke_agent boss", metadata=otlp(gen_ai__operation__name="invoke_agent")), id="a span"),
        pytest.param(row(type="CHAIN", name="boss", metadata=otlp(openinference__span__kind="AGENT")), id="a chain"),
        pytest.param(row(type="AGENT", name="boss.arun", metadata=otlp(x=1)), id="a method"),
        pytest.param(row(type="AGENT", name="boss.run_agent_step", metadata=otlp(x=1)), id="OpenInference, LlamaIndex"),
        pytest.param(row(type="AGENT", name="boss-3f2504e0-4f89-41d3-9a0c-0305e82c3301"), id="a UUID in the name"),
        pytest.param(row(type="AGENT", name="boss 20261126"), id="a number in the name"),
        pytest.param(row(type="AGENT", name="boss-01J8ZQ4Y3NABCDEFGH12345678"), id="a ULID in the name"),
    ],
)  # fmt: skip
def test_what_an_agent_does_has_its_name(agent: Observation) -> None:
    """What was done goes to the charts of an agent that nobody has."""
    rows = [agent, row(CHILD, parent_id=ROOT, type="TOOL"), generation(GRANDCHILD, parent_id=CHILD)]
    found = {key: span.attributes[AGENT] for key, span in spans(*rows).items()}
    assert found == {ROOT: "boss", CHILD: "boss", GRANDCHILD: "boss"}


def test_the_nearest_of_nested_agents() -> None:
    """A helper's work goes to its boss, or the other way round."""
    rows = [
        row(ROOT, type="AGENT", name="invoke_agent a", metadata=otlp(gen_ai__agent__name="boss")),
        row(CHILD, type="AGENT", name="invoke_agent b", metadata=otlp(gen_ai__agent__name="helper"), parent_id=ROOT),
        generation(GRANDCHILD, parent_id=CHILD),
        row("00000000000000d4", type="TOOL", parent_id=ROOT),
    ]
    found = {key: span.attributes[AGENT] for key, span in spans(*rows).items()}
    assert found == {ROOT: "boss", CHILD: "helper", GRANDCHILD: "helper", "00000000000000d4": "boss"}


def test_a_model_is_no_agent() -> None:
    """Each model becomes an agent of its own."""
    nameless = row(ROOT, type="AGENT", name="invoke_agent gpt-4o-mini", metadata=otlp(x=1))
    found = spans(nameless, generation(CHILD, parent_id=ROOT))
    assert [span.attributes.get(AGENT) for span in found.values()] == [None, None]
    assert agent_named_by(row(type="AGENT", name="mine", model="mine")) is None
    inside = [row(GRANDCHILD, type="AGENT", name="boss"), nameless, generation(CHILD, parent_id=ROOT)]
    inside[1].parent_id = GRANDCHILD
    assert {span.attributes[AGENT] for span in spans(*inside).values()} == {"boss"}


def test_a_node_of_a_graph_is_no_agent() -> None:
    """LangGraph's prebuilt agents call a node `agent`: all of them would be one agent of that name."""
    rows = [
        row(ROOT, type="AGENT", name="weather_agent"),
        row(CHILD, type="AGENT", name="agent", metadata={"langgraph_node": "agent"}, parent_id=ROOT),
        generation(GRANDCHILD, parent_id=CHILD),
    ]
    assert {span.attributes[AGENT] for span in spans(*rows).values()} == {"weather_agent"}
    assert spans(row(type="AGENT", name="agent"))[ROOT].attributes[AGENT] == "agent"


def test_own_word_stays() -> None:
    """What the instrumentation wrote itself is replaced by what was made of it."""
    rows = [row(ROOT, type="AGENT", name="boss"), row(CHILD, parent_id=ROOT, metadata=otlp(gen_ai__agent__name="me"))]
    assert spans(*rows)[CHILD].attributes[AGENT] == "me"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("support-bot", "support-bot"),
        ("chat", "chat"),
        ("chat support", "chat support"),
        ("chat gpt-4o-mini", None),
        ("chat my-model-7b", None),
        ("embeddings text-embedding-3-small", None),
        ("invoke_agent", None),
        ("invoke_agent claude-sonnet-4-5", None),
        ("invoke_agent us.anthropic.claude-x", None),
        ("gpt-researcher", "gpt-researcher"),
        ("agent run", None),
        ("Crew_5f488f37-8c9d-445b-8e74-f693d6242971.kickoff", "Crew"),
        ("5f488f37-8c9d-445b-8e74-f693d6242971", None),
        ("order 4711 agent", "order 4711 agent"),
        ("order-471147 agent", "order agent"),
        ("agent 2", "agent 2"),
        ("chat_turn.workflow", "chat_turn"),
        ("invocation [adkapp]", "adkapp"),
        ("invoke_workflow weather_agent", "weather_agent"),
        ("GET /health", "GET /health"),
        ("What is the weather in Rome?", None),
        ("please tell me all that you know of the weather in Rome", None),
        ("a\nb", None),
        ("x" * 101, None),
        ("Wetter-Agent für Köln", "Wetter-Agent für Köln"),
    ],
)
def test_name_made_of_another(name: str, expected: str | None) -> None:
    """A name with an id or a text of a user in it makes an agent of each run."""
    assert plain_name(name) == expected
    assert agent_named_by(row(type="AGENT", name=name)) == expected
    assert spans(row(trace_name=name, name="step"))[ROOT].attributes.get(AGENT) == (expected or "step")


def test_names_that_are_none() -> None:
    """Whatever stands under such a key must neither become a name nor break the conversion."""
    odd: tuple[Any, ...] = (None, "", "  ", [], {}, True, ["a"])
    for value in odd:
        assert agent_named_by(row(metadata=otlp(gen_ai__agent__name=value))) is None
    assert agent_named_by(row(metadata=otlp(gen_ai__agent__name=7))) == "7"
    assert agent_named_by(row(metadata=otlp(agent_name="of a tool"))) is None
    assert agent_named_by(row(metadata={"attributes": "text", "scope": "text"})) is None
    assert agent_named_by(row(metadata={"scope.name": "langfuse-sdk", "attributes.gen_ai.agent.name": "x"})) is None


@pytest.mark.parametrize("metadata", [otlp(gen_ai__agent__name="boss"), nested(gen_ai__agent__name="boss")])
def test_late_observation(metadata: dict[str, Any]) -> None:
    """An observation that arrives without its ancestors belongs to the same agent as those that came with them."""
    rows = [
        row(ROOT, type="AGENT", name="invoke_agent a", metadata=metadata),
        row(CHILD, type="AGENT", name="other", parent_id=ROOT),
    ]
    stored = gather(TRACE, rows).as_json()
    assert stored["agents"] == {ROOT: "boss", CHILD: "other"}
    late = [row(GRANDCHILD, parent_id=ROOT)]
    context = gather(TRACE, late, TraceContext.from_json(TRACE, stored))
    assert context.agents == {ROOT: "boss", CHILD: "other"}
    assert next(span for _, span in converted(late, rows).spans).attributes[AGENT] == "boss"


def test_one_agent_is_stored_once() -> None:
    """An instrumentation that names the agent on every span fills the state file with one name."""
    same = otlp(gen_ai__agent__name="boss")
    rows = [row(f"{i + 1:016x}", parent_id=f"{i:016x}" if i else None, metadata=same, start=i) for i in range(9)]
    assert gather(TRACE, rows).agents == {f"{1:016x}": "boss"}
    second = row("00000000000000ff", parent_id=f"{3:016x}", metadata=otlp(gen_ai__agent__name="helper"))
    assert len(gather(TRACE, [*rows, second]).agents) == 10
