#!/usr/bin/env python3
"""Writes completions for bash and zsh and the man page, for scripts/completions: completions.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import shtab

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts" / "lib")]

from man_page import man_page  # noqa: E402

from sync_worker.cli.arguments import Parser  # noqa: E402
from sync_worker.cli.parser import build_parser  # noqa: E402


def complete_values(parser: Parser) -> None:
    """Let shtab complete files where a FILE is taken, and the commands that `help` explains."""
    for action in parser.arguments():
        if action.metavar == "FILE":
            action.complete = shtab.FILE
    for name, (_, command) in parser.verbs().items():
        complete_values(command)
        if name == "help":
            for action in command.arguments():
                if not action.option_strings:
                    action.choices = list(parser.verbs())


def main(folder: Path) -> int:
    """Write the three files; answer with an exit code."""
    page = man_page(build_parser())
    parser = build_parser()
    complete_values(parser)
    # shtab takes one value for an argument that may be repeated, and none after it.
    zsh = shtab.complete(parser, "zsh").replace('"(*)::', '"*:').replace('"(*):', '"*:')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("sync-worker.bash", shtab.complete(parser, "bash")),
            ("_sync-worker", zsh),
            ("sync-worker.1", page),
        ):
            (folder / name).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"Cannot write into {folder}: {error.strerror}. Try: another folder.\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
