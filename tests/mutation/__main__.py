"""`scripts/mutate PACKAGE`: changes one place of a package at a time, and counts the changes that no test notices."""

from __future__ import annotations

import argparse
import sys
import time

from tests.mutation.mutants import mutants_of, sample
from tests.mutation.reach import FOLDERS, breadth_of, chosen_of, files_of, held_by, lines_of, reached_by
from tests.mutation.run import Verdicts


def main(arguments: list[str]) -> int:
    """Print the survivors and the score of a package; exit 1 below the score that was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("package", choices=sorted(FOLDERS))
    parser.add_argument("--sample", type=int, default=50, metavar="N", help="how many mutants, of all (default: 50)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="which of them (default: 1)")
    parser.add_argument("--at", metavar="FILE[:LINE]", help="all mutants there, in the place of a sample")
    parser.add_argument(
        "--tests", type=int, default=40, metavar="N", help="at most so many tests a mutant, the narrowest first"
    )
    parser.add_argument("--least", type=int, default=0, metavar="PERCENT", help="fail below this score")
    options = parser.parse_args(arguments)
    every = mutants_of(files_of(options.package))
    reached = reached_by(FOLDERS[options.package])
    lines = lines_of(reached)
    breadth = breadth_of(lines)
    began = time.monotonic()
    chosen = sample(every, options.sample, options.seed)
    if options.at:
        chosen = [one for one in every if options.at in {one.name, f"{one.name}:{one.line}"}]
    tests_of = {mutant: held_by(mutant, reached, breadth) for mutant in chosen}
    verdicts = Verdicts({mutant: chosen_of(tests, options.tests, lines) for mutant, tests in tests_of.items()})
    survived = [mutant for mutant in chosen if verdicts[mutant] is None]
    for mutant in survived:
        tests = len(tests_of[mutant])
        how = f"survived {min(tests, options.tests)} of {tests} tests" if tests else "is reached by no test"
        print(f"{mutant.name}:{mutant.line}: {mutant.before}  ->  {mutant.after}  ({how})")
    killed = len(chosen) - len(survived)
    score = 100 * killed // max(1, len(chosen))
    print(
        f"{options.package}: {killed} of {len(chosen)} killed ({score} %), of {len(every)} mutants, seed "
        f"{options.seed}, {time.monotonic() - began:.0f} s"
    )
    return 1 if score < options.least else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
