"""Runs many seeds, or one of them with its trail: `python -m tests.simulation [COUNT] [--seed N] [--trace]`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.run import replay, simulate

_REPORT_EVERY = 500  # seeds between two signs of life


def main() -> int:
    """Run what was asked for; return 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, help="how many seeds (1000, or 1 with --seed)")
    parser.add_argument("--seed", type=int, help="the seed to run, or with a COUNT the first one")
    parser.add_argument("--trace", action="store_true", help="print what happened, and when")
    asked = parser.parse_args()
    count = asked.count or (1000 if asked.seed is None else 1)
    first = asked.seed or 0
    failed, began = 0, time.monotonic()
    for seed in range(first, first + count):
        outcome = simulate(seed)
        if asked.trace:
            print(outcome.reported())
        if outcome.wrong:
            failed += 1
            found = " ".join(outcome.wrong[0].split())[-250:]
            print(f"{replay(seed)}  # {len(outcome.wrong)} findings, the first: {found}", flush=True)
        if (seed + 1 - first) % _REPORT_EVERY == 0:
            print(f"{seed + 1 - first} seeds, {failed} failed", file=sys.stderr, flush=True)
    print(f"{count} seeds from {first}, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
