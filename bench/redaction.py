"""What redaction costs: CPU time for an observation of 2.7 KB, with all detectors, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence

import orjson

from bench.report import Report, middle
from bench.shape import MOMENT, Shape
from bench.template import block_rows
from sync_worker.langfuse.observation_parser import parse_v2_observation
from sync_worker.records import Observation
from sync_worker.redaction.observations import protection_for
from sync_worker.redaction.protection import Protection
from sync_worker.redaction.redaction_rules import DETECTORS, RedactionRules
from sync_worker.spans.context import session_of, user_of

_GOAL = 45.0  # microseconds for an observation of the size below
_SIZE = 2_700  # bytes
_KEY = b"a key for the benchmark"
#: Of which one in ten observations holds something, as in a chat about somebody's account.
_PERSONAL = "Please write to jane.doe@example.com or call +49 170 1234567."


def redaction(shape: Shape, rounds: int) -> Report:
    """Measure observations of the project, as they are and with personal data in one of ten."""
    rows = [orjson.loads(orjson.dumps(row).replace(MOMENT[shape.period_ms].encode(), b"2026-03-01"))
            for row in block_rows(shape)]  # fmt: skip
    clean = [parse_v2_observation(row) for row in rows]
    mixed = [parse_v2_observation(row | ({"output": f"{row['output'] or ''} {_PERSONAL}"} if not at % 10 else {}))
             for at, row in enumerate(rows)]  # fmt: skip
    size = sum(len(orjson.dumps(row)) for row in rows) / len(rows)
    setting = {"observations": len(rows), "bytes an observation": size, "detectors": len(DETECTORS)}
    report = Report("redaction", setting, ("observations", "CPU µs/observation", "CPU µs at 2.7 KB"))
    protection = protection_for(RedactionRules(DETECTORS), _KEY, session_of, user_of)
    for name, observations in (("without personal data", clean), ("one of ten with", mixed)):
        each = middle(_measure(protection, observations) for _ in range(rounds))
        report.rows.append((name, each, each * _SIZE / size))
    report.at_most("CPU µs for an observation of 2.7 KB", report.rows[0][2], _GOAL)
    return report


def _measure(protection: Protection, observations: Sequence[Observation]) -> float:
    """Return the CPU time of an observation in microseconds."""
    began = time.process_time()
    for observation in observations:
        protection.observation(observation)
    return (time.process_time() - began) / len(observations) * 1e6
