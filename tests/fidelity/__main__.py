"""Writes docs/fidelity.md's tables, or only tells: `python -m tests.fidelity [--check] [--show PAIR ...]`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from tests.fidelity import page
from tests.fidelity.pairs import GENERATIONS, NAMES

_SHOWN = 150  # characters of a value


def main(arguments: list[str], path: Path = page.PAGE) -> int:
    """Do what was asked for; with `--check`, return 1 when the page differs."""
    parser = argparse.ArgumentParser(prog="scripts/fidelity", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page differs")
    parser.add_argument("--show", nargs="+", metavar="PAIR", choices=NAMES, help="print what did not come back")
    asked = parser.parse_args(arguments)
    if asked.show:
        for name in asked.show:
            _show(name)
        return 0
    before = path.read_text(encoding="utf-8")
    after = page.with_figures(before)
    for line in page.falls(before, after):
        print(f"fell: {line}", file=sys.stderr)
    if before != after:
        if not asked.check:
            path.write_text(after, encoding="utf-8")
        print(f"{path.name} {'differs. Try: scripts/fidelity' if asked.check else 'written'}", file=sys.stderr)
    return 1 if asked.check and before != after else 0


def _show(name: str) -> None:
    for generation in GENERATIONS:
        found = page.scores(generation)[name]
        counts = Counter((item.place, item.key, item.verdict, item.reason) for item in found.findings)
        reported = set()
        for item in found.findings:
            which = (item.place, item.key, item.verdict, item.reason)
            if which not in reported:
                reported.add(which)
                print(f"{name} {generation} {item.place} {item.key}: {item.verdict} x{counts[which]}, in {item.span!r}")
                print(f"    direct: {repr(item.here)[:_SHOWN]}\n    made:   {repr(item.there)[:_SHOWN]}")
                if item.reason:
                    print(f"    reason: {item.reason}")
        for miss in page.derived_scores(generation)[name].misses:
            print(f"{name} {generation} derived {miss.column}, in {miss.span!r}")
            print(f"    expected: {repr(miss.expected)[:_SHOWN]}\n    found:    {repr(miss.found)[:_SHOWN]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
