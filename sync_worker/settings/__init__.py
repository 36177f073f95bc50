"""What can be set, and where each value came from.

    model            the settings themselves: name, type, default, meaning
    values           text to value: addresses, keys, projects, numbers, paths
    durations        `30s`, `20m`, `48h`, `7d`: text to timedelta and back; ISO 8601 times
    setting_errors   what is wrong with a value, and how it is reported without giving a secret away
    setting_sources  where values are looked for: command line, environment, files
    file_reading     files of settings, which may be pipes
    sync_toml        `sync.toml`, and which traces of a source go to another Kelet project
    target_settings  what spans are sent to, by the settings of a source
    near_names       which name was meant
    json_schema      a JSON Schema of `sync.toml`
    loading          all of it together; what is synced to where
    rotation         keys that change in their files while the worker runs

Only the names below are for the rest of the program.
"""

from __future__ import annotations

from sync_worker.settings.durations import format_duration, parse_duration, parse_time
from sync_worker.settings.loading import load
from sync_worker.settings.model import Settings, Source
from sync_worker.settings.rotation import reread
from sync_worker.settings.setting_errors import WrongValueError
from sync_worker.settings.target_settings import target_of

__all__ = [
    "Settings",
    "Source",
    "WrongValueError",
    "format_duration",
    "load",
    "parse_duration",
    "parse_time",
    "reread",
    "target_of",
]
