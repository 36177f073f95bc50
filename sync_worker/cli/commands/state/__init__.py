"""`state`: copies or merges state files; decides about a copy, or about a project that moved."""

from __future__ import annotations

from sync_worker.cli.options import OFFLINE, READS, Subparsers, add_common_options, path, runs
from sync_worker.errors import ExitCode

GROUP, PLACE = "inspect and repair", 5


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "state", help="copy or merge state files; decide about a copy, or about a project that moved"
    )
    verbs = parser.add_subparsers(metavar="backup|merge|confirm|adopt|separate", required=True)
    verb = verbs.add_parser("backup", help="copy the state file, even beside a running worker; the copy is checked")
    verb.add_argument("file", metavar="FILE", type=path, help="where the copy is made")
    verb.add_argument("--force", action="store_true", help="replace FILE if it exists")
    add_common_options(verb)
    runs(
        verb, "state.run_backup", "the copy is complete and checked", OFFLINE,
        ("state backup /var/backups/sync-state.db", "beside a running worker; the copy is checked"),
        ("state backup sync-state.backup.db --force", "every night, in place of the last one"),
    )  # fmt: skip
    verb = verbs.add_parser("merge", help="merge other state files into this one; repeating it changes nothing")
    verb.add_argument("files", nargs="+", metavar="FILE", type=path, help="the state file of a shard")
    verb.add_argument(
        "--by-id", action="store_true", help="treat a project with the same id at another address as the same project"
    )
    add_common_options(verb)
    runs(
        verb, "state.run_merge", "the files are merged", (*OFFLINE, ExitCode.LEASE),
        ("state merge shard-0.db shard-1.db", "after a sharded backfill"),
    )  # fmt: skip
    verb = verbs.add_parser("confirm", help="continue with this state file, although it is a copy")
    add_common_options(verb)
    runs(
        verb, "state.run_confirm", "the next run resumes from this file", (*OFFLINE, ExitCode.LEASE),
        ("state confirm", "after the state file was moved with cp"),
    )  # fmt: skip
    verb = verbs.add_parser("adopt", help="treat a source as the project that is stored under another address")
    verb.add_argument("--from", dest="old", metavar="URL", help="the stored address, if there are several")
    add_common_options(verb, source=True)
    runs(
        verb, "state.run_adopt", "the decision is stored", (*READS, ExitCode.LEASE),
        ("state adopt --source shop", "the Langfuse server of this source has a new address"),
    )  # fmt: skip
    verb = verbs.add_parser("separate", help="treat a source as another project than the stored one with the same id")
    add_common_options(verb, source=True)
    runs(
        verb, "state.run_separate", "the decision is stored", (*READS, ExitCode.LEASE),
        ("state separate --source staging", "the server of this source is a copy of another one"),
    )  # fmt: skip
