"""Runs the soak: `python -m tests.soak [MINUTES] [--seed N] [--api v2|v1] [--keep]`."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.soak.soak import Soak


def main() -> int:
    """Run what was asked for; return 1 when something was found."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=10.0, help="minutes of bad luck (10)")
    parser.add_argument("--seed", type=int, help="draws the same faults, signals and jumps; chance decides the rest")
    parser.add_argument("--api", choices=("v2", "v1"), default="v2", help="generation of Langfuse's API")
    parser.add_argument("--keep", action="store_true", help="keep state files and logs, as where something is found")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(100_000) if asked.seed is None else asked.seed
    folder = Path(tempfile.mkdtemp(prefix=f"soak-{seed}-"))
    replay = f"scripts/soak {asked.minutes:g} --seed {seed} --api {asked.api}"
    print(f"{replay}  # in {folder}", file=sys.stderr, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process is left behind
    soak = Soak(folder, seed, asked.minutes, asked.api)
    soak.run()
    print(soak.summary())
    for finding in soak.findings:
        print(f"  {finding}")
    if soak.findings:
        print(f"{len(soak.findings)} findings; again: {replay}; what was left: {folder}")
        return 1
    if not asked.keep:
        shutil.rmtree(folder)
    print("nothing lost, nothing twice without a reason")
    return 0


if __name__ == "__main__":
    sys.exit(main())
