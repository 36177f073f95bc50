"""`pause` and `resume` of a source or a Kelet project; a running worker obeys before its next request."""

from __future__ import annotations

from sync_worker.cli.arguments import Parser
from sync_worker.cli.options import OFFLINE, Subparsers, add_common_options, runs

GROUP, PLACE = "sync", 6


def add_to(subparsers: Subparsers) -> None:
    """Add both commands."""
    pause = _add(subparsers, "pause", "pause a source or a Kelet project, also in a running worker; nothing is lost")
    pause.add_argument(
        "--for",
        dest="duration",
        metavar="DURATION",
        help="end the pause after this time (2h)",
        otherwise="until `resume`",
    )
    pause.add_argument(
        "--reason",
        metavar="TEXT",
        help="shown by `status` and in the log; at most 500 characters",
        otherwise="none",
    )
    add_common_options(pause)
    runs(
        pause, "pause.run_pause", "it is paused", OFFLINE,
        ("pause default", "the source of .env, until it is resumed"),
        ('pause shop --for 2h --reason "target is moved"', "one source of sync.toml, for two hours"),
        ("pause --project staging", "one Kelet project"),
    )  # fmt: skip
    resume = _add(subparsers, "resume", "end a pause; the next cycle continues where it stopped")
    add_common_options(resume)
    runs(
        resume, "pause.run_resume", "it is not paused", OFFLINE,
        ("resume shop", "the next cycle continues where it stopped"),
    )  # fmt: skip


def _add(subparsers: Subparsers, verb: str, words: str) -> Parser:
    parser = subparsers.add_parser(verb, help=words)
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?", help="name of the source; without a sync.toml it is default"
    )
    parser.add_argument(
        "--project",
        metavar="P",
        help="only this Kelet project, of SOURCE or of all sources",
        otherwise="all of SOURCE",
    )
    parser.set_defaults(verb=verb)
    return parser
