"""What can be typed: every command with its options.

What a command runs with is imported when it runs, so `--help` and `--version` need none of it. A command is a module of
`commands`, and its function `run`; each verb of one that has several is a function of its own.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any, Protocol, get_args

from sync_worker import __version__
from sync_worker.cli.arguments import Parser
from sync_worker.cli.reference import PROGRAM
from sync_worker.records import Api
from sync_worker.spans.profiles import AttributeProfile

#: Kubernetes sets it to the index of the pod in an Indexed Job
#: (https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode).
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"

#: Traces that `demo` shows without `--all`.
SHOWN_TRACES = 12
_KINDS = ("rejected", "unreadable", "partial", "redaction", "score")  # of dead letters
_LETTERS, _MOST_LETTERS = 100, 1_000_000  # dead letters that `dead-letters list` prints at once
_OBSERVATIONS = 1_000  # observations that `privacy test` reads
_TRACES = 1_000  # traces that `routes test` reads
DRY_RUN_REQUESTS, _LEAST_REQUESTS, _MOST_REQUESTS = 20, 10, 10_000  # to Langfuse, of each source
_SCORES_FROM = "14d"  # where `scores test` begins


class _Subparsers(Protocol):
    """The subparsers to which a command is added (argparse has no public name for the type)."""

    def add_parser(self, name: str, **options: Any) -> Parser:
        """Add a command."""


def build_parser() -> Parser:
    """Return the parser of all commands.

    It sets `command`, the module of `commands` and its function, and `parser`, that of the command.
    """
    parser = Parser(
        prog=PROGRAM,
        description="Syncs the observations of a Langfuse project to a Kelet project. Settings come from the "
        "environment, .env or sync.toml.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}", help="print the version")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (  # in the order of README.md's table
        _add_demo, _add_init, _add_check, _add_once, _add_run, _add_plan, _add_backfill, _add_pause, _add_status,
        _add_verify, _add_explain, _add_send, _add_convert, _add_routes, _add_privacy, _add_scores, _add_dead_letters,
        _add_state, _add_config, _add_help,
    ):  # fmt: skip
        add(subparsers)
    parser.describe()
    parser.set_defaults(verbose=False, quiet=False, config=None, env_file=None, no_color=False)
    _add_options_of_every_command(parser)
    return parser


def _add_options_of_every_command(parser: Parser) -> None:
    """Add what can be typed before and after each command. Only what was typed is set, so that neither unsets it."""
    unset = argparse.SUPPRESS
    parser.add_argument(
        "-v", "--verbose", action="store_true", default=unset, help="log every request, as SYNC_LOG_LEVEL=debug does"
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", default=unset, help="log errors only; no progress, no summary on stderr"
    )
    parser.add_argument(
        "--config", metavar="FILE", default=unset, help="the settings file; it must exist",
        otherwise="SYNC_CONFIG (./sync.toml, if it exists)",
    )  # fmt: skip
    parser.add_argument(
        "--env-file", metavar="FILE", default=unset, help="a file of variables instead of .env; it must exist",
        otherwise="./.env, if it exists",
    )  # fmt: skip
    parser.add_argument(
        "--no-color", action="store_true", default=unset, help="no colours on a terminal; so does NO_COLOR"
    )
    for _, command in parser.verbs().values():
        _add_options_of_every_command(command)


def _runs(parser: Parser, module: str, function: str = "run") -> None:
    """Set the module of `commands` that is imported, and its function."""
    parser.set_defaults(command=(module, function), parser=parser)


def _add_demo(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("demo", help="a complete sync of recorded data, without an account")
    parser.add_argument("--all", action="store_true", help=f"show every trace, not only {SHOWN_TRACES}")
    parser.add_argument("--json", action="store_true", help="print the run's report as a JSON object on stdout")
    _runs(parser, "demo")


def _add_init(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("init", help="write .env by asking for keys and project; sends nothing")
    _runs(parser, "init")


def _add_check(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("check", help="settings, credentials, API, clocks, state file; sends no trace")
    parser.add_argument(
        "--skip-target", action="store_true", help="do not check the target and its key with an empty request"
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="only the settings, for CI: no request, no state file; keys that are not there are no error",
    )
    _add_common_options(parser, source=True)
    _runs(parser, "check")


def _add_once(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("once", help="one cycle of every source, for cron and CronJob")
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be sent, with examples; sends and stores nothing"
    )
    parser.add_argument(
        "--requests",
        metavar="N",
        type=_number(_LEAST_REQUESTS, _MOST_REQUESTS),
        help="with --dry-run: at most so many requests to Langfuse for each source",
        otherwise=str(DRY_RUN_REQUESTS),
    )
    _add_jobs_option(parser, "help where a first run or an outage left more than 100,000 observations due")
    _add_common_options(parser, source=True)
    _add_metrics_option(parser)
    _runs(parser, "once")


def _add_run(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("run", help="cycles on a schedule, until SIGTERM")
    _add_common_options(parser, source=True, json=False)
    _runs(parser, "run")


def _add_plan(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser(
        "plan", help="estimate the cost of a backfill: observations, requests, minutes, bytes"
    )
    _add_interval_options(parser, required=True)
    _add_common_options(parser, source=True)
    _runs(parser, "plan")


def _add_backfill(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("backfill", help="sync the history between two times; a rerun resumes")
    _add_interval_options(parser, required=True)
    _add_jobs_option(parser, "divide a long range among them")
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help=f"only shard I of N, counted from 0, with a state file of its own, usually on its own machine; "
        f"`auto/N` takes I from {INDEX_VARIABLE}",
        otherwise="the whole interval",
    )
    parser.add_argument(
        "--scores",
        choices=("too", "only", "none"),
        help="whether scores of the interval are sent as signals: after the spans, alone, or not",
        otherwise="too, where SYNC_SCORES is on",
    )
    _add_common_options(parser, source=True)
    _add_metrics_option(parser)
    _runs(parser, "backfill")


def _add_pause(subparsers: _Subparsers) -> None:
    for verb, words in (
        ("pause", "pause a source or a Kelet project; a running worker obeys, and nothing is lost"),
        ("resume", "end a pause; what waited is synced from the next cycle on"),
    ):
        parser = subparsers.add_parser(verb, help=words)
        parser.add_argument(
            "source", metavar="SOURCE", nargs="?", help="name of the source; without a sync.toml: default"
        )
        parser.add_argument(
            "--project",
            metavar="P",
            help="only this Kelet project, of SOURCE or of all sources",
            otherwise="all of SOURCE",
        )
        if verb == "pause":
            parser.add_argument(
                "--for", dest="duration", metavar="DURATION", help="so long (2h)", otherwise="until `resume`"
            )
            parser.add_argument(
                "--reason",
                metavar="TEXT",
                help="shown by `status` and in the log; at most 500 characters",
                otherwise="none",
            )
        _add_common_options(parser)
        _runs(parser, "pause", f"run_{verb}")
        parser.set_defaults(verb=verb)


def _add_status(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("status", help="watermark, lag, pending traces, dead letters; offline")
    parser.add_argument(
        "--watch",
        metavar="TIME",
        nargs="?",
        const="2s",
        help="show it again and again, each TIME (2s), until Ctrl-C",
        otherwise="shown once",
    )
    _add_common_options(parser)
    _runs(parser, "status")


def _add_verify(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser(
        "verify", help="compare completed intervals with Langfuse; exit 6 when observations are missing"
    )
    _add_interval_options(parser, required=False, otherwise=("the longest lookback window before now", "now"))
    parser.add_argument(
        "--repair", action="store_true", help="reopen intervals with missing observations: the next run sends them"
    )
    parser.add_argument(
        "--resend", action="store_true", help="with --repair: send missing observations now, in this run"
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="with --resend: also in hours for which only the count is kept; all observations of such an hour are sent "
        "again, under the same ids",
    )
    _add_common_options(parser, source=True)
    _runs(parser, "verify")


def _add_explain(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("explain", help="why a trace is, or is not, in Kelet")
    parser.add_argument("trace", metavar="TRACE", type=_text, help="trace id of Langfuse")
    _add_common_options(parser, source=True)
    _runs(parser, "explain")


def _add_send(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("send", help="send traces by id now; what was sent is not sent again")
    parser.add_argument("traces", metavar="TRACE", type=_text, nargs="+", help="trace id of Langfuse")
    parser.add_argument(
        "--again",
        action="store_true",
        help="send all observations of the traces, also those that were sent; under the same ids",
    )
    _add_common_options(parser, source=True)
    _runs(parser, "send")


def _add_convert(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser(
        "convert", help="print the spans of observations in a file as OTLP/JSON; sends nothing"
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", type=_path, help="a JSON response of Langfuse's API, or - for stdin"
    )
    parser.add_argument("--trace", metavar="ID", type=_text, help="read this trace from Langfuse instead of a file")
    parser.add_argument(
        "--api",
        metavar="API",
        choices=get_args(Api),
        help="API generation of a file",
        otherwise="detected from its fields",
    )
    parser.add_argument(
        "--attributes",
        metavar="PROFILE",
        choices=get_args(AttributeProfile),
        help="attribute conventions for a file, as SYNC_ATTRIBUTES",
        otherwise="both",
    )
    _add_common_options(parser, source=True, json=False)
    _runs(parser, "convert")


def _add_routes(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("routes", help="what filters and routes would do with real traces")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    test = actions.add_parser(
        "test", help="count the newest traces by the rule that takes them, and by Kelet project; sends nothing"
    )
    _add_interval_options(test, required=False, otherwise=("1h", "now"))
    test.add_argument("--traces", metavar="N", type=_number(1), default=_TRACES, help="about how many traces")
    _add_common_options(test, source=True)
    _runs(test, "routes")


def _add_privacy(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("privacy", help="what the rules of redaction find; sends nothing")
    test = parser.add_subparsers(metavar="test", required=True).add_parser(
        "test", help="try the rules of redaction on the newest observations, traces or a file; sends nothing"
    )
    test.add_argument(
        "file", metavar="FILE", nargs="?", type=_path, help="a JSON response of Langfuse's API, or - for stdin"
    )
    test.add_argument(
        "--trace", metavar="ID", type=_text, action="append", default=[], help="only this trace; may be repeated"
    )
    test.add_argument(
        "--observations",
        metavar="N",
        type=int,
        default=_OBSERVATIONS,
        help="at most so many of the newest",
    )
    test.add_argument(
        "--samples", action="store_true", help="show samples before and after, which a terminal shows anyway"
    )
    _add_common_options(test, source=True)
    _runs(test, "privacy")


def _add_scores(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("scores", help="show what scores become as signals")
    verbs = parser.add_subparsers(metavar="test", required=True)
    test = verbs.add_parser("test", help="show what each score name would become, with examples; sends nothing")
    when = "an ISO-8601 time, a duration before now or `now`"
    test.add_argument("--from", dest="start", metavar="TIME", default=_SCORES_FROM, help=when)
    test.add_argument("--to", dest="end", metavar="TIME", default="now", help=when)
    _add_common_options(test, source=True)
    _runs(test, "scores")


def _add_dead_letters(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("dead-letters", help="list, show, retry or drop dead letters")
    verbs = parser.add_subparsers(metavar="list|show|retry|drop", required=True)
    listing = verbs.add_parser("list", help="list dead letters and their reasons, page by page")
    listing.add_argument(
        "--limit",
        type=_number(1, _MOST_LETTERS),
        default=_LETTERS,
        metavar="N",
        help="maximum number of dead letters on a page",
    )
    listing.add_argument(
        "--after",
        type=_number(0),
        default=0,
        metavar="ID",
        help="only dead letters after this one",
        otherwise="the first",
    )
    _add_filter_options(listing)
    _add_common_options(listing, source=True)
    _runs(listing, "dead_letters", "run_list")
    show = verbs.add_parser("show", help="show all that is known of dead letters, with the reason in full")
    show.add_argument("ids", nargs="+", type=_number(1), metavar="ID", help="as `dead-letters list` shows them")
    _add_common_options(show)
    _runs(show, "dead_letters", "run_show")
    for name, words in (
        ("retry", "read observations and scores again from Langfuse by id and send them"),
        ("drop", "delete dead letters; their observations count as synced"),
    ):
        verb = verbs.add_parser(name, help=words)
        verb.add_argument("ids", nargs="*", type=_number(1), metavar="ID", help="as `dead-letters list` shows them")
        verb.add_argument("--all", action="store_true", help="every dead letter, or all that the filters leave")
        if name == "drop":
            verb.add_argument("--yes", action="store_true", help="do not ask before --all, as for a script")
        _add_filter_options(verb)
        _add_common_options(verb, source=True)
        _runs(verb, "dead_letters", f"run_{name}")


def _add_filter_options(parser: Parser) -> None:
    """Add the options that choose dead letters."""
    parser.add_argument(
        "--kind", metavar="KIND", choices=_KINDS, help=f"only one of {', '.join(_KINDS)}", otherwise="any"
    )
    parser.add_argument(
        "--reason", metavar="TEXT", type=_text, help="only those with this text in their reason", otherwise="any"
    )
    parser.add_argument("--older-than", metavar="TIME", help="only those made longer ago (7d)", otherwise="any age")


def _add_state(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser(
        "state", help="copy or merge state files; decide about a copy, or about a project that moved"
    )
    verbs = parser.add_subparsers(metavar="backup|merge|confirm|adopt|separate", required=True)
    verb = verbs.add_parser("backup", help="copy the state file, beside a running worker too; the copy is checked")
    verb.add_argument("file", metavar="FILE", type=_path, help="where the copy is made")
    verb.add_argument("--force", action="store_true", help="replace FILE where it exists")
    _add_common_options(verb)
    _runs(verb, "state", "run_backup")
    verb = verbs.add_parser("merge", help="merge other state files into this one; repeating it changes nothing")
    verb.add_argument("files", nargs="+", metavar="FILE", type=_path, help="the state file of a shard")
    verb.add_argument(
        "--by-id", action="store_true", help="a project with the same id at another address is the same project"
    )
    _add_common_options(verb)
    _runs(verb, "state", "run_merge")
    verb = verbs.add_parser("confirm", help="continue with this state file, although it is a copy")
    _add_common_options(verb)
    _runs(verb, "state", "run_confirm")
    verb = verbs.add_parser("adopt", help="a source is the project that is stored under another address")
    verb.add_argument("--from", dest="old", metavar="URL", help="that address, if there are several")
    _add_common_options(verb, source=True)
    _runs(verb, "state", "run_adopt")
    verb = verbs.add_parser("separate", help="a source is a different project than the stored one with the same id")
    _add_common_options(verb, source=True)
    _runs(verb, "state", "run_separate")


def _add_config(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("config", help="every setting, its value and where it came from")
    verbs = parser.add_subparsers(metavar="show|schema", required=True)
    schema = verbs.add_parser("schema", help="print a JSON Schema of sync.toml, for editors")
    _runs(schema, "config", "run_schema")
    show = verbs.add_parser("show", help="print the settings")
    _add_common_options(show)
    _runs(show, "config")


def _add_help(subparsers: _Subparsers) -> None:
    parser = subparsers.add_parser("help", help="what to do first, or the help of a command")
    parser.add_argument(
        "words", metavar="COMMAND", nargs="*", help="a command, such as `backfill`, `dead-letters list`"
    )
    _runs(parser, "help")


def _add_interval_options(
    parser: Parser, *, required: bool, otherwise: tuple[str | None, str | None] = (None, None)
) -> None:
    """Add `--from` and `--to`; `otherwise` is what holds without them."""
    when = "an ISO-8601 time (2026-01-31T00:00:00Z), a duration before now (30d) or `now`"
    for name, dest, default in zip(("--from", "--to"), ("start", "end"), otherwise, strict=True):
        parser.add_argument(name, dest=dest, metavar="TIME", required=required, help=when, otherwise=default)


def _add_jobs_option(parser: Parser, task: str) -> None:
    parser.add_argument(
        "--jobs",
        metavar="N|auto",
        help=f"processes that {task}, or `auto`: by cores and memory; with 1, this one does all",
        otherwise="SYNC_JOBS (auto)",
    )


def _add_metrics_option(parser: Parser) -> None:
    parser.add_argument(
        "--metrics-file",
        metavar="FILE",
        type=_path,
        help="at the end, replace this file by one with all metrics, for node_exporter's textfile collector",
        otherwise="none is written",
    )


def _add_common_options(parser: Parser, *, source: bool = False, json: bool = True) -> None:
    """Add `--state`, `--json` for a command with a result, and `--source` for one that works on sources."""
    parser.add_argument("--state", metavar="FILE", help="the state file", otherwise="SYNC_STATE_PATH (./sync-state.db)")
    if json:
        parser.add_argument("--json", action="store_true", help="print the result as a JSON object on stdout")
    if source:
        parser.add_argument(
            "--source",
            metavar="NAME",
            help="only this source of sync.toml, or this target of it: NAME/TARGET",
            otherwise="every source",
        )


def _path(text: str) -> str:
    """Check, for argparse, that a text can be the path of a file, whether there is one or not."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a path is expected, and it is empty")
    try:
        os.lstat(text)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"no path of a file ({(error.strerror or str(error)).lower()})") from None
    return text


def _text(text: str) -> str:
    """Check, for argparse, that a text is one: bytes that are not UTF-8 can be in none of what is looked for."""
    if not text.isprintable() and any("\udc80" <= one <= "\udcff" for one in text):
        raise argparse.ArgumentTypeError("not UTF-8 text")
    return text


def _number(minimum: int, maximum: int = 2**63 - 1) -> Callable[[str], int]:
    """Return a parser of integers for argparse. SQLite's integers end at 2**63 - 1."""
    upper = "" if maximum == 2**63 - 1 else f" to {maximum}"
    expected = f"a whole number from {minimum}{upper}" if upper else f"a whole number, at least {minimum}"

    def parse(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        if not minimum <= number <= maximum:
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return number

    return parse
