"""The commands, in the order of the help."""

from sync_worker.cli.commands import (
    backfill,
    check,
    config,
    convert,
    dead_letters,
    demo,
    explain,
    once,
    plan,
    privacy,
    routes,
    run,
    send,
    state,
    status,
    verify,
)

COMMANDS = (
    demo,
    check,
    once,
    run,
    plan,
    backfill,
    status,
    verify,
    explain,
    send,
    convert,
    routes,
    privacy,
    dead_letters,
    state,
    config,
)
