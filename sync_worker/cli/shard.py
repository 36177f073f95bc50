"""`--shard I/N`: which shard of a backfill this machine runs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sync_worker.cli.commands.backfill import INDEX_VARIABLE
from sync_worker.errors import ConfigError
from sync_worker.intervals import Interval
from sync_worker.settings import WrongValueError, parse_duration, parse_time
from sync_worker.sync.shards import Shard
from sync_worker.times import iso_time, moment_ms

#: Each shard uses at least one request a minute, so more shards would exceed any limit.
_MOST = 1_000


def shard_of(text: str | None, environ: Mapping[str, str]) -> Shard | None:
    """Parse `--shard`: `I/N`, or `auto/N` with I from the environment. Raises ConfigError.

    Without the option there are no shards. An index above 0 is then a mistake: each pod would send the whole range.
    """
    if text is None:
        if environ.get(INDEX_VARIABLE, "").strip() not in {"", "0"}:
            raise ConfigError(
                f"{INDEX_VARIABLE}={environ[INDEX_VARIABLE]}: without --shard each pod of this Job would send the "
                "whole range. Try: --shard auto/N, N being the completions of the Job"
            )
        return None
    written = re.fullmatch(r"(auto|[0-9]{1,9})/([0-9]{1,9})", text.strip())
    if written is None:
        raise ConfigError(
            f"--shard {text!r} is not a shard. Try: 0/4 for the first of four, or auto/4 where {INDEX_VARIABLE} is set"
        )
    of = int(written[2])
    if not 1 <= of <= _MOST:
        raise ConfigError(f"--shard {text}: there can be 1 to {_MOST} shards. Try: {written[1]}/4")
    index, origin = written[1], ""
    if index == "auto":
        index, origin = environ.get(INDEX_VARIABLE, "").strip(), f" ({INDEX_VARIABLE}={environ.get(INDEX_VARIABLE)})"
        if not index:
            raise ConfigError(
                f"--shard {text}: {INDEX_VARIABLE} is not set, as it is in a Kubernetes Job with "
                f"completionMode: Indexed. Try: --shard 0/{of}"
            )
        if not re.fullmatch(r"[0-9]{1,9}", index):
            raise ConfigError(f"--shard {text}: {INDEX_VARIABLE}={index!r} is not a number. Try: --shard 0/{of}")
    if int(index) >= of:
        raise ConfigError(
            f"--shard {text}: there is no shard {int(index)} of {of}{origin}; they are counted from 0 to {of - 1}. "
            f"Try: --shard {of - 1}/{of}, or the number of all shards after the slash"
        )
    return Shard(int(index), of)


def full_range(start: str, end: str, now_ms: int) -> Interval:
    """Return the range of all shards as given: an end in the future is kept. Raises ConfigError."""
    whole = Interval(_fixed("--from", start), _fixed("--to", end))
    if whole.start >= min(whole.end, now_ms):
        raise ConfigError(
            f"--from {start} is not before --to {end} and now ({iso_time(now_ms)}). Try: an earlier --from"
        )
    return whole


def _fixed(option: str, text: str) -> int:
    try:
        return moment_ms(parse_time(text))
    except WrongValueError as error:
        wrong = "a time relative to now differs between shards" if _is_relative(text) else str(error)
        raise ConfigError(
            f"{option} {text!r} with --shard: {wrong}. Try: 2026-01-31T00:00:00Z, and the same for all shards"
        ) from None


def _is_relative(text: str) -> bool:
    if text == "now":
        return True
    try:
        parse_duration(text)
    except WrongValueError:
        return False
    return True
