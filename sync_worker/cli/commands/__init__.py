"""The commands, in the order in which help lists them."""

from sync_worker.cli.commands import backfill, check, config, dead_letters, demo, once, run, status

COMMANDS = (demo, check, once, run, backfill, status, dead_letters, config)
