"""`dead-letters`: lists, shows, retries or drops dead letters."""

from __future__ import annotations

from sync_worker.cli.arguments import Parser
from sync_worker.cli.options import OFFLINE, SENDS, Subparsers, add_common_options, number, runs, text

_KINDS = ("rejected", "unreadable", "partial", "redaction", "score")
_LETTERS, _MOST_LETTERS = 100, 1_000_000  # that `list` prints at once
_IDS = "as `dead-letters list` shows them"

GROUP, PLACE = "inspect and repair", 4


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser("dead-letters", help="list, show, retry or drop dead letters")
    verbs = parser.add_subparsers(metavar="list|show|retry|drop", required=True)
    listing = verbs.add_parser("list", help="list dead letters and their reasons, page by page")
    listing.add_argument(
        "--limit",
        type=number(1, _MOST_LETTERS),
        default=_LETTERS,
        metavar="N",
        help="maximum number of dead letters on a page",
    )
    listing.add_argument(
        "--after",
        type=number(0),
        default=0,
        metavar="ID",
        help="only dead letters after this one",
        otherwise="the first",
    )
    _add_filter_options(listing)
    add_common_options(listing, source=True)
    runs(
        listing, "dead_letters.run_list", "the list is printed; it may be empty", OFFLINE,
        ("dead-letters list", "the first of them, oldest first"),
        ("dead-letters list --reason timeout --source shop", "some of them"),
    )  # fmt: skip
    show = verbs.add_parser("show", help="show dead letters with all details and the full reason")
    show.add_argument("ids", nargs="+", type=number(1), metavar="ID", help=_IDS)
    add_common_options(show)
    runs(
        show, "dead_letters.run_show", "they are shown", OFFLINE,
        ("dead-letters show 3", "the full reason, and what Langfuse returned"),
    )  # fmt: skip
    retry = _add_verb(verbs, "retry", "read observations and scores from Langfuse again, by id, and send them")
    runs(
        retry, "dead_letters.run_retry", "all that could be read are sent", SENDS,
        ("dead-letters retry --all", "after the cause is fixed"), ("dead-letters retry 3 7", "two of them"),
    )  # fmt: skip
    drop = _add_verb(verbs, "drop", "delete dead letters; their observations count as synced")
    runs(
        drop, "dead_letters.run_drop", "they are deleted", OFFLINE,
        ("dead-letters drop 3", "it is never sent"),
        ("dead-letters drop --all --kind rejected --older-than 30d --yes", "from a script"),
    )  # fmt: skip


def _add_verb(verbs: Subparsers, name: str, words: str) -> Parser:
    verb = verbs.add_parser(name, help=words)
    verb.add_argument("ids", nargs="*", type=number(1), metavar="ID", help=_IDS)
    verb.add_argument("--all", action="store_true", help="every dead letter that the filters select")
    if name == "drop":
        verb.add_argument("--yes", action="store_true", help="do not ask before --all, for scripts")
    _add_filter_options(verb)
    add_common_options(verb, source=True)
    return verb


def _add_filter_options(parser: Parser) -> None:
    """Add the options that choose dead letters."""
    parser.add_argument(
        "--kind", metavar="KIND", choices=_KINDS, help=f"only one of {', '.join(_KINDS)}", otherwise="any"
    )
    parser.add_argument(
        "--reason", metavar="TEXT", type=text, help="only dead letters with this text in their reason", otherwise="any"
    )
    parser.add_argument(
        "--older-than", metavar="TIME", help="only dead letters older than this (7d)", otherwise="any age"
    )
