"""Progress on a real terminal, of the program itself."""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.cli.program import on_terminal, run
from tests.support import faults
from tests.support.rows import trace
from tests.sync.world import world

#: Each takes so many seconds, while the line is drawn twice a second.
_PAGE = 0.7


def test_a_long_backfill_moves(tmp_path: Path) -> None:
    """The line stands still while one dense interval is read; a log line destroys it; a pipe or -q gets it too."""
    rows = [row for number in range(1500) for row in trace(3, start=float(number), seconds=1.0)]
    with world(tmp_path, rows, 1_795_000_000_000) as made:
        made.langfuse.now = time.time
        made.langfuse.script = faults.always(faults.slow(_PAGE))
        arguments = ["backfill", "--from", "2026-11-01T00:00:00Z", "--to", "2026-11-25T00:00:00Z"]
        code, shown = on_terminal(tmp_path, *arguments, environ=made.environ, size=(24, 100))
        assert code == 0, shown
        lines = re.findall(r"\r\x1b\[K([^\r\n]+)", shown)
        drawn = [line for line in lines if line.startswith("backfill")]
        assert len({line for line in drawn if re.search(r"\d+ observations", line)}) >= 3, drawn
        assert any("left" in line and "not known" not in line for line in drawn), drawn
        summary = shown.split("\x1b[K")[-1]
        assert "default: 6,000 spans sent in " in summary, shown
        quiet, shown = on_terminal(tmp_path, *arguments, "-q", environ=made.environ)
        assert (quiet, shown) == (0, "")
        code, out, err = run(tmp_path, *arguments, environ=made.environ)
        assert (code, "\r" in out + err, "\x1b" in out + err) == (0, False, False)
