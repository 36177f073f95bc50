"""Routes: which Kelet project a trace goes to."""

from typing import Any

import pytest

from sync_worker.configured import Route
from sync_worker.spans.context import TraceContext
from sync_worker.spans.routing import BY_DEFAULT, Decision, decide, follow

STATED: dict[str, Any] = {
    "session_id": "s1",
    "user_id": "anna@example.com",
    "trace_name": "checkout bot",
    "environment": "prod-eu",
    "release": "r7",
    "tags": ("vip", "beta-2"),
    "metadata": {"team": "search", "n": 3, "flag": True, "deep": {"a": [1]}, "none": None},
}
CONTEXT = TraceContext("t", **STATED)


def test_without_rules() -> None:
    """The source's own project is where everything goes that no rule claims."""
    assert decide(CONTEXT, [], "shop").project == "shop"


def test_first_rule_wins() -> None:
    """Rules are read from the top; another order sends customers' data to the wrong project."""
    rules = [Route("a", environment="dev"), Route("b", environment="prod*"), Route("c", environment="prod-eu")]
    assert decide(CONTEXT, rules, "shop").project == "b"


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (Route("x", environment="prod-eu"), True),
        (Route("x", environment="prod"), False),
        (Route("x", environment="Prod-eu"), False),
        (Route("x", environment="prod-??"), True),
        (Route("x", trace_name="check* bot"), True),
        (Route("x", user="*@example.com"), True),
        (Route("x", user="*@example.org"), False),
        (Route("x", session="s1"), True),
        (Route("x", release="r[0-9]"), True),
        (Route("x", tags=("vip",)), True),
        (Route("x", tags=("vip", "beta-*")), True),
        (Route("x", tags=("vip", "gone")), False),
        (Route("x", metadata=(("team", "search"),)), True),
        (Route("x", metadata=(("team", "s*"), ("n", "3"))), True),
        (Route("x", metadata=(("flag", "true"),)), True),
        (Route("x", metadata=(("deep", '{"a":*}'),)), True),
        (Route("x", metadata=(("none", "*"),)), False),
        (Route("x", metadata=(("gone", "*"),)), False),
        (Route("x", environment="prod*", user="bob"), False),
        (Route("x", environment="prod*", tags=("vip",), metadata=(("team", "search"),)), True),
    ],
)
def test_conditions(rule: Route, *, matches: bool) -> None:
    """All conditions of a rule must hold, each on its own field."""
    assert decide(CONTEXT, [rule], "shop").project == ("x" if matches else "shop")


def test_name_of_the_root_stands_in() -> None:
    """Traces without a name of their own are shown under their root's name: rules go by what users see."""
    assert decide(TraceContext("t", root_name="chat"), [Route("x", trace_name="chat")], "shop").project == "x"
    assert (
        decide(TraceContext("t", root_name="a", trace_name="b"), [Route("x", trace_name="a")], "shop").project == "shop"
    )


def test_unknown_field_matches_nothing() -> None:
    """A wildcard asks for a value: a trace that says nothing must not fall to the first rule with a star."""
    empty = TraceContext("t")
    rules = [Route("x", environment="*"), Route("x", user="*"), Route("x", tags=("*",))]
    assert decide(empty, rules, "shop").project == "shop"


RULES = [Route("a", environment="dev"), Route("b", tags=("vip",), metadata=(("x", "1"), ("team", "s*")))]


def test_decision_follows_its_setting() -> None:
    """A project that is renamed, or a route that is moved, leaves traces in a project that is not there any more."""
    vip = TraceContext("t", tags=("vip",), metadata={"team": "search", "x": "1"})
    decided = decide(vip, RULES, "shop")
    renamed = [Route("b-2", tags=("vip",), metadata=(("team", "s*"), ("x", "1"))), Route("a", environment="dev")]
    assert follow(decided, renamed, "shop") == Decision("b-2", decided.origin)
    assert follow(decide(CONTEXT, RULES, "shop"), RULES, "shop-2") == Decision("shop-2", BY_DEFAULT)


def test_decision_of_a_rule_that_is_gone_stays() -> None:
    """A trace is torn in two because somebody removed a route, or wrote another one."""
    decided = decide(TraceContext("t", environment="dev"), RULES, "shop")
    assert follow(decided, RULES[1:], "shop") == decided
    assert follow(decided, [Route("c", environment="dev*")], "shop") == decided
    assert follow(Decision("old", None), RULES, "shop") == Decision("old", None)
