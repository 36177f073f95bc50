"""What the help and docs/commands.md say of each command beside its options: examples and exit codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from sync_worker.errors import MEANINGS, ExitCode

PROGRAM: Final = "sync-worker"

#: Options of every command, by the names of their values.
EVERYWHERE: Final = frozenset({"help", "verbose", "quiet", "config", "env_file", "no_color"})

#: What commands are for, in the order of the help.
GROUPS: Final = ("set up", "sync", "inspect and repair", "try rules without sending", "learn more")


class Reference(NamedTuple):
    """Examples, each without the program's name and with what it does; what 0 means; which other codes there are."""

    examples: tuple[tuple[str, str], ...]
    ok: str
    codes: tuple[int, ...]
    other: Mapping[int, str] = {}  # meanings that differ from the usual ones

    def exit_codes(self) -> Iterator[tuple[int, str]]:
        """Yield the exit codes of a command in ascending order, with their meanings."""
        meanings = {**MEANINGS, ExitCode.OK: self.ok, **self.other}
        for code in sorted((ExitCode.OK, *self.codes)):
            yield code, meanings[code]
