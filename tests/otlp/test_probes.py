"""What is tried of a batch before its refusals are believed: from all over it, and nothing is lost by it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sync_worker.otlp.delivery import _PROBES, _probes
from tests.otlp.conftest import numbers, spans


@pytest.mark.parametrize("count", [2, 5, 24, 25, 64, 500])
def test_single_spans_are_tried_from_all_over(count: int) -> None:
    """The good half of a batch would not be found, or a span be dropped or sent twice with the probe."""
    whole = spans(count)
    (first, rest), *single = _probes([whole])
    assert (first, rest) == (whole, [])
    assert len(single) == min(24, count) == min(_PROBES, count)
    tried = [numbers(probe)[0] for probe, _ in single]
    assert len({*tried}) == len(tried) == len(single)
    assert tried == sorted(tried)
    gaps = {after - before for before, after in pairwise(tried)}
    assert max(gaps) - min(gaps) <= 1
    assert abs(tried[0] - (count - 1 - tried[-1])) <= 1
    for probe, left in single:
        assert len(probe) == 1
        assert all(left)
        assert sorted(numbers([*probe, *(one for piece in left for one in piece)])) == list(range(count))


def test_large_pieces_are_tried_whole_first() -> None:
    """A piece of one span would be tried twice, or the largest last."""
    small, large, single = spans(2, trace=1), spans(4, trace=2), spans(1, trace=3)
    found = list(_probes([small, large, single]))
    assert [probe for probe, _ in found[:3]] == [large, small, single]
    assert [left for _, left in found[:3]] == [[small, single], [large, single], [small, large]]
    assert len(found) == 3 + 6
    assert single not in [probe for probe, _ in found[3:]]
    for probe, left in found:
        assert sum(len(piece) for piece in [probe, *left]) == 7
