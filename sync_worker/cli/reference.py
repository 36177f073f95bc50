"""What the help and docs/commands.md say of each command beside its options: examples and exit codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from sync_worker.errors import MEANINGS, ExitCode

PROGRAM: Final = "sync-worker"

#: Options of every command, by the names of their values.
EVERYWHERE: Final = frozenset({"help", "verbose", "quiet", "config", "env_file", "no_color"})

#: All commands in the order of the help, by what they are for.
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "set up": ("demo", "init", "check", "config"),
    "sync": ("once", "run", "plan", "backfill", "send", "pause", "resume"),
    "see how it stands": ("status", "verify", "explain", "dead-letters", "state"),
    "try rules without sending": ("convert", "routes", "privacy", "scores"),
    "learn more": ("help",),
}

_ENDS = (ExitCode.SIGINT, ExitCode.SIGTERM)
_OFFLINE = (ExitCode.TRANSIENT, ExitCode.USAGE)
_READS = (ExitCode.TRANSIENT, ExitCode.USAGE, ExitCode.CREDENTIALS, ExitCode.PAUSED, *_ENDS)
_SENDS = (
    ExitCode.TRANSIENT, ExitCode.USAGE, ExitCode.DEAD_LETTERS, ExitCode.CREDENTIALS, ExitCode.LEASE, ExitCode.PAUSED,
    *_ENDS,
)  # fmt: skip
_RANGE = "--from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z"


class Reference(NamedTuple):
    """Examples, each without the program's name and with what it does; what 0 means; which other codes there are."""

    examples: tuple[tuple[str, str], ...]
    ok: str
    codes: tuple[int, ...]
    other: Mapping[int, str] = {}  # meanings that differ from the usual ones


def of(words: Sequence[str]) -> Reference | None:
    """Return what there is of a command, `["dead-letters", "list"]`; None for one that has commands."""
    return _COMMANDS.get(" ".join(words))


def exit_codes(found: Reference) -> Iterator[tuple[int, str]]:
    """Yield the exit codes of a command in ascending order, with their meanings."""
    meanings = {**MEANINGS, ExitCode.OK: found.ok, **found.other}
    for code in sorted((ExitCode.OK, *found.codes)):
        yield code, meanings[code]


_COMMANDS: Final[Mapping[str, Reference]] = {
    "demo": Reference(
        (("demo", "the last lines say what arrived"), ("demo --all", "show every trace that arrived")),
        "the recorded observations arrived", (ExitCode.TRANSIENT, ExitCode.USAGE, *_ENDS),
    ),
    "init": Reference(
        (("init", "asks for three keys and a project"), ("init --env-file prod.env", "another file")),
        "the file is written", (ExitCode.USAGE, *_ENDS),
        {
            ExitCode.USAGE: "nothing is written: there is no terminal, or the file was to be kept",
            ExitCode.SIGINT: "stopped by Ctrl-C; nothing is written",
            ExitCode.SIGTERM: "stopped by SIGTERM; nothing is written",
        },
    ),
    "check": Reference(
        (
            ("check", "before the first run, and when something does not work"),
            ("check --offline --config deploy/sync.toml", "in CI, without keys, before a file is deployed"),
            ("check --skip-target", "send nothing at all, not even the empty request that tests the target's key"),
        ),
        "every check passed", _READS,
    ),
    "once": Reference(
        (
            ("once", "one cycle, as from cron; a rerun resumes"),
            ("once --dry-run", "what would be sent; nothing is sent or stored"),
            ("once --source shop --json", "one source of sync.toml, with a result for a script"),
        ),
        MEANINGS[ExitCode.OK], _SENDS,
    ),
    "run": Reference(
        (("run", "a cycle every SYNC_INTERVAL, until Ctrl-C or SIGTERM"),),
        "stopped by SIGTERM or Ctrl-C, after the requests in flight",
        (ExitCode.TRANSIENT, ExitCode.USAGE, ExitCode.CREDENTIALS, ExitCode.LEASE, *_ENDS),
        {
            ExitCode.CREDENTIALS: "no source is left whose credentials are accepted",
            ExitCode.SIGINT: "stopped at once by a second Ctrl-C",
            ExitCode.SIGTERM: "stopped at once by a second SIGTERM",
        },
    ),
    "plan": Reference(
        (("plan --from 30d --to now", "what a backfill of the last 30 days would cost"),),
        "the estimate is printed", _READS,
    ),
    "backfill": Reference(
        (
            ("backfill --from 30d --to now", "the last 30 days; the same command resumes"),
            ("backfill --from 90d --to now --jobs 4", "divided among four processes"),
            (f"backfill {_RANGE} --shard 0/4 --state shard-0.db", "the first of four machines"),
        ),
        MEANINGS[ExitCode.OK], _SENDS,
    ),
    "pause": Reference(
        (
            ("pause default", "the source of .env, until it is resumed"),
            ('pause shop --for 2h --reason "target is moved"', "one source of sync.toml, for two hours"),
            ("pause --project staging", "one Kelet project"),
        ),
        "it is paused", _OFFLINE,
    ),
    "resume": Reference(
        (("resume shop", "what waited is synced from the next cycle on"),),
        "it is not paused", _OFFLINE,
    ),
    "status": Reference(
        (("status", "how far each source is"), ("status --watch 5s", "again each 5 seconds, until Ctrl-C")),
        "the status is printed", _OFFLINE,
    ),
    "verify": Reference(
        (
            ("verify", "compare the time of the longest lookback window"),
            ("verify --from 30d --to now --repair --resend", "send what is missing of the last 30 days"),
        ),
        "nothing is missing", (*_READS, ExitCode.LEASE, ExitCode.GAPS),
    ),
    "explain": Reference(
        (("explain 65f498eebbbb84743d31525c44ef0c36", "is it pending, sent, rejected, filtered, or not due?"),),
        "the answer is printed", (*_READS, ExitCode.GAPS),
        {ExitCode.GAPS: "the trace is neither in Langfuse nor in the state file"},
    ),
    "send": Reference(
        (
            ("send 65f498eebbbb84743d31525c44ef0c36", "one trace, now"),
            ("send 65f498eebbbb84743d31525c44ef0c36 --again", "all of it again, under the same ids"),
        ),
        "the traces are sent, or were sent before", (*_SENDS, ExitCode.GAPS),
        {ExitCode.GAPS: "a trace is not in Langfuse, or was not sent whole: the line says why"},
    ),
    "convert": Reference(
        (
            ("convert observations.json", "the spans of a saved response"),
            ("convert --trace 65f498eebbbb84743d31525c44ef0c36", "the spans of a trace, read from Langfuse"),
        ),
        "the spans are printed", _READS,
    ),
    "routes test": Reference(
        (("routes test --from 7d --to now", "where the traces of the last week would go"),),
        "the counts are printed", _READS,
    ),
    "privacy test": Reference(
        (
            ("privacy test", "what SYNC_REDACT finds in the newest observations"),
            ("privacy test observations.json --samples", "the same in a saved response, with samples"),
        ),
        "the result is printed", _READS,
    ),
    "scores test": Reference(
        (("scores test --from 30d", "what the scores of the last 30 days would become"),),
        "the result is printed", _READS,
    ),
    "dead-letters list": Reference(
        (
            ("dead-letters list", "the first of them, oldest first"),
            ("dead-letters list --reason timeout --source shop", "some of them"),
        ),
        "the list is printed, it may be empty", _OFFLINE,
    ),
    "dead-letters show": Reference(
        (("dead-letters show 3", "the reason in full, and what Langfuse returned"),),
        "they are shown", _OFFLINE,
    ),
    "dead-letters retry": Reference(
        (("dead-letters retry --all", "after the cause is fixed"), ("dead-letters retry 3 7", "two of them")),
        "those that could be read are sent", _SENDS,
    ),
    "dead-letters drop": Reference(
        (
            ("dead-letters drop 3", "it is not sent, ever"),
            ("dead-letters drop --all --kind rejected --older-than 30d --yes", "from a script"),
        ),
        "they are deleted", _OFFLINE,
    ),
    "state backup": Reference(
        (
            ("state backup /var/backups/sync-state.db", "beside a running worker; the copy is checked"),
            ("state backup sync-state.backup.db --force", "every night, in place of the last one"),
        ),
        "the copy is there, checked", _OFFLINE,
    ),
    "state merge": Reference(
        (("state merge shard-0.db shard-1.db", "after a sharded backfill"),),
        "the files are merged", (*_OFFLINE, ExitCode.LEASE),
    ),
    "state confirm": Reference(
        (("state confirm", "after the state file was moved with cp"),),
        "the next run resumes from this file", (*_OFFLINE, ExitCode.LEASE),
    ),
    "state adopt": Reference(
        (("state adopt --source shop", "the Langfuse server of this source has a new address"),),
        "the decision is stored", (*_READS, ExitCode.LEASE),
    ),
    "state separate": Reference(
        (("state separate --source staging", "the server of this source is a copy of another one"),),
        "the decision is stored", (*_READS, ExitCode.LEASE),
    ),
    "config show": Reference(
        (("config show", "where each value comes from"),),
        "the settings are printed", _OFFLINE,
    ),
    "config schema": Reference(
        (("config schema", "save it as sync.schema.json; `#:schema ./sync.schema.json` in sync.toml names it"),),
        "the schema is printed", (ExitCode.TRANSIENT, ExitCode.USAGE),
    ),
    "help": Reference(
        (("help backfill", "the options of a command"), ("help", "what to do first, and all commands")),
        "the help is printed", (ExitCode.USAGE,),
    ),
}  # fmt: skip
