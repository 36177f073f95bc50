"""Decisions on traces: by their fields alone, the same for everybody."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.configured import Route
from sync_worker.selection import FieldFilter, SelectionRules, left_out_by, left_out_still, unread_environments
from sync_worker.spans.context import TraceContext

TRACE = "0" * 31 + "1"
_WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)


def _rules(include: str = "", exclude: str = "", name: str = "environments") -> SelectionRules:
    lists = (tuple(part for part in text.split(",") if part) for text in (include, exclude))
    return SelectionRules.of([FieldFilter(name, *lists)], (), Fraction(1), keep_errors=False)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("environments", {"environment": "prod-1"}), ("trace_names", {"trace_name": "prod-1"}),
        ("trace_names", {"root_name": "prod-1"}), ("tags", {"tags": ("x", "prod-1")}), ("users", {"user_id": "prod-1"}),
        ("sessions", {"session_id": "prod-1"}), ("releases", {"release": "prod-1"}),
        ("levels", {"root_level": "prod-1"}),
    ],
)  # fmt: skip
def test_each_field_has_its_filter(name: str, values: dict[str, Any]) -> None:
    """A setting would look at another field than its name says."""
    context, other = TraceContext(TRACE, **values), TraceContext(TRACE)
    for pattern in ("prod-*", "re:^prod", "prod-1"):
        exclude, include = _rules(exclude=pattern, name=name), _rules(include=pattern, name=name)
        assert left_out_by(exclude, context, has_error=False) == f"SYNC_EXCLUDE_{name.upper()}={pattern}"
        assert left_out_by(include, context, has_error=False) is None
        assert left_out_by(exclude, other, has_error=False) is None
        assert left_out_by(include, other, has_error=False) == f"SYNC_INCLUDE_{name.upper()}={pattern}"


def test_exclude_wins_over_include() -> None:
    """What both match would be sent."""
    rules = _rules("prod*", "prod-x")
    assert left_out_by(rules, TraceContext(TRACE, environment="prod-x"), has_error=False) is not None
    assert left_out_by(rules, TraceContext(TRACE, environment="prod"), has_error=False) is None


def test_routes_decide_in_their_order() -> None:
    """A route that drops would take what a route before it takes."""
    routes = (Route(project="a", environment="x"), Route(drop=True, environment="*"), Route(project="b", user="u"))
    rules = SelectionRules.of((), routes, Fraction(1), keep_errors=False)
    assert left_out_by(rules, TraceContext(TRACE, environment="x"), has_error=False) is None
    assert left_out_by(rules, TraceContext(TRACE, environment="y"), has_error=False) == "route that drops environment=*"
    assert len(rules.routes) == 2  # what follows cannot change what is left out


def test_samples_hold_each_other_and_their_share() -> None:
    """A sample would have another share than its name says, or other traces when it grows."""
    samples = [
        {
            number
            for number in range(4_000)
            if left_out_by(
                SelectionRules(sample=Fraction(share, 100)), TraceContext(f"{number:032x}"), has_error=False
            ) is None
        }
        for share in (0, 10, 50, 100)
    ]  # fmt: skip
    assert [round(len(sample) / 400) for sample in samples] == [0, 1, 5, 10]
    assert samples[0] < samples[1] < samples[2] < samples[3]
    kept = SelectionRules(sample=Fraction(0), keep_errors=True)
    assert left_out_by(kept, TraceContext(TRACE), has_error=True) is None
    assert left_out_by(kept, TraceContext(TRACE), has_error=False) == "SYNC_SAMPLE=0%"


@given(
    include=st.lists(_WORDS, max_size=3), exclude=st.lists(_WORDS, max_size=3), sample=st.fractions(0, 1),
    errors=st.booleans(), environment=st.none() | _WORDS, drop=st.booleans(),
)  # fmt: skip
def test_rules_are_read_back(
    include: list[str], exclude: list[str], sample: Fraction, *, errors: bool, environment: str | None, drop: bool
) -> None:
    """What old rules left out is decided by what was stored of them."""
    filters = [FieldFilter("tags", tuple(sorted(include)), tuple(sorted(exclude)))]
    routes = [Route(project="", environment=environment, tags=("x",), metadata=(("a", "b"),), drop=drop)]
    rules = SelectionRules.of(filters, routes, sample, keep_errors=errors)
    assert SelectionRules.from_text(rules.as_text()) == rules
    assert SelectionRules.from_text(rules.as_text()).digest == rules.digest
    assert (rules.digest == "") == (not include and not exclude and not drop and sample == 1)


def test_order_of_patterns_is_no_other_rule() -> None:
    """Sorting a list in the settings would make a backfill read everything again."""
    assert _rules("a,b", "c,d").digest == _rules("b,a", "d,c").digest


def test_only_full_names_are_not_read() -> None:
    """Langfuse would leave out more than the filter does."""
    rules = _rules(exclude="langfuse-*,staging,langfuse-x,re:^q$,a?")
    assert unread_environments(rules, has_lookback=True) == ("langfuse-x", "staging")
    assert unread_environments(rules, has_lookback=False) == ("langfuse-x",)
    assert unread_environments(_rules(exclude="staging", name="tags"), has_lookback=True) == ()


def test_rules_of_several_readings() -> None:
    """What one reading sent would count as left out by another, or what one of them read as not read."""
    first, second = _rules(exclude="a,staging"), _rules(exclude="b,staging")
    both = SelectionRules.from_text(f'{{"any": [{first.as_text()}, {second.as_text()}]}}')
    assert both.digest == f"{first.digest}+{second.digest}"
    out = [
        environment
        for environment in ("a", "b", "staging", "prod")
        if left_out_by(both, TraceContext(TRACE, environment=environment), has_error=False) is not None
    ]
    assert out == ["staging"]
    assert unread_environments(both, has_lookback=True) == ("staging",)


@pytest.mark.parametrize(
    ("rule", "still"),
    [
        ("SYNC_EXCLUDE_ENVIRONMENTS=a", True), ("SYNC_EXCLUDE_ENVIRONMENTS=b", False),
        ("SYNC_INCLUDE_ENVIRONMENTS=p,q", True), ("SYNC_INCLUDE_ENVIRONMENTS=p", False), ("SYNC_SAMPLE=50%", True),
        ("SYNC_SAMPLE=10%", False), ("route that drops environment=a", False), (None, False),
    ],
)  # fmt: skip
def test_a_rule_that_is_still_set(rule: str | None, *, still: bool) -> None:
    """Scores would be looked up that are left out all the same, or none of those that are let in now."""
    rules = SelectionRules.of(
        [FieldFilter("environments", ("p", "q"), ("a",))], (Route("", environment="a", drop=True),), Fraction(1, 2),
        keep_errors=True,
    )  # fmt: skip
    assert left_out_still(rules, rule) is still
