"""What the rest of the program sees of the settings. All of it is frozen, and no repr shows a key."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from sync_worker.settings.model import Attributes, Compression, LangfuseApi, LogFormat, LogLevel, Updates


@dataclass(frozen=True, slots=True)
class Route:
    """Traces that go to another Kelet project: those that fit every condition that is not None or empty.

    Conditions are shell wildcards as `fnmatch.fnmatchcase` understands them, compared with case. Every one of `tags`
    must fit some tag of the trace; `metadata` is pairs of a key and the pattern of its value.
    """

    project: str
    environment: str | None = None
    trace_name: str | None = None
    tags: tuple[str, ...] = ()
    user: str | None = None
    session: str | None = None
    release: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One Langfuse project and the Kelet project that its traces go to unless a route, the first that fits, says else.

    The addresses have no trailing slash: `https://cloud.langfuse.com`, `https://api.kelet.ai`. `key_files` tells which
    of the keys stand in files, by field, and may change.
    """

    name: str
    langfuse_base_url: str
    langfuse_public_key: str = field(repr=False)
    langfuse_secret_key: SecretStr
    kelet_api_url: str
    kelet_api_key: SecretStr
    kelet_project: str
    routes: tuple[Route, ...] = ()
    key_files: tuple[tuple[str, Path], ...] = ()


class SettingRow(NamedTuple):
    """One line of `config show`. The value is text, secrets masked; it is empty for what is not set."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, checked. `start` is a duration back from the first run, or a time in UTC."""

    sources: tuple[Source, ...]
    state_path: Path  # absolute
    start: timedelta | datetime
    interval: timedelta
    settle: timedelta
    max_open: timedelta
    patience: timedelta
    late_horizons: tuple[timedelta, ...]  # ascending
    updates: Updates
    langfuse_api: LangfuseApi
    requests_per_minute: int | None  # None: learnt from the server
    budget_share: Fraction  # of a limit that is learnt
    compression: Compression
    attributes: Attributes
    max_value_bytes: int
    max_attributes: int
    max_batch_spans: int
    max_batch_bytes: int  # before compression
    max_response_bytes: int  # after unpacking
    log_format: LogFormat
    log_level: LogLevel
    max_dead_letters: int = 10_000  # of a source
    media_hosts: tuple[str, ...] = ()  # in lower case, each with or without a port
    allow_plain_http: bool = False
    allow_default_project: bool = False
    warnings: tuple[str, ...] = ()
    shown: tuple[SettingRow, ...] = field(default=(), repr=False)

    def rows(self) -> list[SettingRow]:
        """Every setting with its value and where that came from; then what each source of `sync.toml` uses."""
        return list(self.shown)
