"""What can be set, and where each value came from.

    wrong       what is wrong with a value, and how it is said without giving a secret away
    durations   `30s`, `20m`, `48h`, `7d`: text to timedelta and back; ISO-8601 times
    urls        base addresses, and which of them may be reached without TLS
    values      keys, projects, numbers, choices
    model       the settings themselves: name, type, default, meaning
    places      where values are looked for: command line, environment, files
    names       which name was meant
    tomlfile    sync.toml
    sources     what is synced to where: one source from the variables, or several from sync.toml
    routes      which traces of a source go to another Kelet project
    result      what the rest of the program sees
    rotation    keys that change in their files while the worker runs
    loading     all of it together
    reference   the documentation that is made from the model

Only the names below are for the rest of the program.
"""

from __future__ import annotations

from sync_worker.settings.durations import format_duration, parse_duration, parse_time
from sync_worker.settings.loading import load
from sync_worker.settings.reference import dotenv_example, table
from sync_worker.settings.result import Route, SettingRow, Settings, Source
from sync_worker.settings.rotation import reread
from sync_worker.settings.wrong import WrongValueError

__all__ = [
    "Route",
    "SettingRow",
    "Settings",
    "Source",
    "WrongValueError",
    "dotenv_example",
    "format_duration",
    "load",
    "parse_duration",
    "parse_time",
    "reread",
    "table",
]
