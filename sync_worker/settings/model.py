"""The settings: name, type, default and meaning of each. The documentation is made from this module.

A field is named like its variable, in lower case. Defaults are written as an operator would write them and go through
the same parsers, so what the documentation prints is what works.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, PlainValidator, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from sync_worker.settings import durations, urls, values

Updates = Literal["resend", "ignore"]
LangfuseApi = Literal["auto", "v2", "v1"]
Compression = Literal["auto", "gzip", "none"]
Attributes = Literal["both", "genai", "langfuse"]
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

# Plain validators: no rule of pydantic's own runs after them, so no message of its own reaches an operator.
_Duration = Annotated[timedelta, PlainValidator(durations.parse_duration)]
_PositiveDuration = Annotated[timedelta, PlainValidator(durations.parse_positive_duration)]
_Switch = Annotated[bool, PlainValidator(values.parse_switch)]
_Path = Annotated[Path, PlainValidator(values.parse_path)]


def _setting(default: str, meaning: str) -> Any:
    return Field(default=default, description=meaning)


def _unset(meaning: str) -> Any:
    return Field(default=None, validate_default=False, description=meaning)


class Variables(BaseSettings):
    """Every setting that can be given by a variable, understood but not yet checked against the others."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    langfuse_base_url: Annotated[str, PlainValidator(urls.parse_langfuse_url)] = _setting(
        "https://cloud.langfuse.com", "Base address of Langfuse; `LANGFUSE_HOST` is read too."
    )
    langfuse_public_key: Annotated[SecretStr | None, PlainValidator(values.parse_langfuse_public_key)] = _unset(
        "Public key of the Langfuse project, from Project settings → API keys (Viewer is enough, where the server has "
        "it), or `LANGFUSE_PUBLIC_KEY_FILE` with the path of a file that holds it."
    )
    langfuse_secret_key: Annotated[SecretStr | None, PlainValidator(values.parse_langfuse_secret_key)] = _unset(
        "Secret key of the Langfuse project, from Project settings → API keys, or `LANGFUSE_SECRET_KEY_FILE` with the "
        "path of a file that holds it."
    )
    kelet_api_url: Annotated[str, PlainValidator(urls.parse_kelet_url)] = _setting(
        "https://api.kelet.ai", "Base address of Kelet."
    )
    kelet_api_key: Annotated[SecretStr | None, PlainValidator(values.parse_kelet_key)] = _unset(
        "Secret key of the Kelet organisation, from console.kelet.ai → API keys, or `KELET_API_KEY_FILE` with the path "
        "of a file that holds it."
    )
    kelet_project: Annotated[str | None, PlainValidator(values.parse_project)] = _unset(
        "Kelet project that receives the spans."
    )
    sync_config: _Path = _setting("sync.toml", "File with several sources and routes, read if it exists.")
    sync_secrets_dir: Annotated[Path | None, PlainValidator(values.parse_path)] = _unset(
        "Folder of files that are named like settings, in any case, each of which holds the value of its setting."
    )
    sync_state_path: _Path = _setting(
        "./sync-state.db", "SQLite file that remembers what is done; it belongs on a local disk that outlives the run."
    )
    sync_start: Annotated[timedelta | datetime, PlainValidator(durations.parse_start)] = _setting(
        "24h", "Where the first run begins: a duration back from it, or an ISO-8601 time with its offset."
    )
    sync_interval: _PositiveDuration = _setting("60s", "Time from one cycle of `run` to the next.")
    sync_settle: _Duration = _setting("30s", "How long a trace must have been quiet before it is sent.")
    sync_max_open: _PositiveDuration = _setting("30m", "Age at which a trace is sent even if it has not ended.")
    sync_late_horizons: Annotated[tuple[timedelta, ...], PlainValidator(durations.parse_horizons)] = _setting(
        "20m,2h,48h",
        "How far back the scans for late data look, shortest first; each runs every twelfth of its length.",
    )
    sync_updates: Annotated[Updates, PlainValidator(values.choice("resend", "ignore"))] = _setting(
        "resend", "What happens to an observation that changes after it was sent: `resend` or `ignore`."
    )
    sync_langfuse_api: Annotated[LangfuseApi, PlainValidator(values.choice("auto", "v2", "v1"))] = _setting(
        "auto", "Generation of the Langfuse API: `auto` finds out, `v2` or `v1` insists."
    )
    sync_requests_per_minute: Annotated[int | None, PlainValidator(values.whole_number(1))] = _unset(
        "Most requests a minute to Langfuse; if unset, the limit is learnt from the server."
    )
    sync_budget_share: Annotated[Fraction, PlainValidator(values.parse_share)] = _setting(
        "80%",
        "How much of a limit that is learnt is taken, from `1%` to `100%`; the rest is left to your own application.",
    )
    sync_compression: Annotated[Compression, PlainValidator(values.choice("auto", "gzip", "none"))] = _setting(
        "auto", "Compression of what is sent: `auto` is gzip until the server refuses it, or `gzip`, or `none`."
    )
    sync_attributes: Annotated[Attributes, PlainValidator(values.choice("both", "genai", "langfuse"))] = _setting(
        "both", "Attribute conventions on the spans: `genai`, `langfuse`, or `both`."
    )
    sync_scores: Annotated[bool, PlainValidator(values.parse_scores)] = _setting(
        "false", "Scores are not sent by this version, and `true` is refused."
    )
    sync_max_value_bytes: Annotated[int, PlainValidator(values.whole_number(256))] = _setting(
        "1048576", "Bytes after which an attribute value is cut, at least 256."
    )
    sync_max_attributes: Annotated[int, PlainValidator(values.whole_number(32))] = _setting(
        "256", "Most attributes on one span, at least 32."
    )
    sync_max_batch_spans: Annotated[int, PlainValidator(values.whole_number(1, 512 * 8))] = _setting(
        "512", "Most spans in one request to Kelet, from 1 to 4096."
    )
    sync_max_batch_bytes: Annotated[int, PlainValidator(values.whole_number(1024, 64 * 1024 * 1024))] = _setting(
        "4194304", "Most bytes in one request to Kelet before compression, from 1024 to 67108864."
    )
    sync_max_dead_letters: Annotated[int, PlainValidator(values.whole_number(1))] = _setting(
        "10000", "Most dead letters that are kept of a source; one more pauses the source until some were dealt with."
    )
    sync_media_hosts: Annotated[tuple[str, ...], PlainValidator(values.parse_hosts)] = _setting(
        "",
        "Hosts, each with or without a port, that fields which Langfuse stored as media may be read from by `http://` "
        "or at addresses that are not public; unset, only where Langfuse itself is at one.",
    )
    sync_max_response_bytes: Annotated[int, PlainValidator(values.whole_number(65536, 1024 * 1024 * 1024))] = _setting(
        "67108864",
        "Most bytes of one answer after unpacking, from 65536 to 1073741824; a page over it is asked for in parts.",
    )
    sync_patience: _Duration = _setting(
        "5m", "How long `once` and `backfill` retry while the other side does not answer; `run` retries without end."
    )
    sync_allow_default_project: _Switch = _setting(
        "false", "Whether the Kelet project may be named `default`, where data that names no project ends up."
    )
    sync_allow_plain_http: _Switch = _setting(
        "false", "Whether `http://` may be used to addresses that are not private, which sends keys in the clear."
    )
    sync_log_format: Annotated[LogFormat, PlainValidator(values.choice("text", "json"))] = _setting(
        "text", "Form of the log lines: `text` or `json`."
    )
    sync_log_level: Annotated[LogLevel, PlainValidator(values.choice("debug", "info", "warning", "error"))] = _setting(
        "info", "Least severity that is logged: `debug`, `info`, `warning` or `error`."
    )


FIELDS: Final[tuple[str, ...]] = tuple(Variables.model_fields)

#: Settings whose values are never shown in full. The public key is among them: swapped keys are a common mistake.
SECRETS: Final = frozenset({"langfuse_public_key", "langfuse_secret_key", "kelet_api_key"})

#: Settings without which a source cannot be synced.
REQUIRED: Final = frozenset({*SECRETS, "kelet_project"})

#: Settings whose values are paths.
PATHS: Final = frozenset({"sync_config", "sync_secrets_dir", "sync_state_path"})

#: Settings that say where other settings are, and so cannot stand in the file or the folder that they name.
WHEREABOUTS: Final = frozenset({"sync_config", "sync_secrets_dir"})

#: Second names, by field; the first name wins where both are given in one place.
ALIASES: Final = {"langfuse_base_url": ("langfuse_host",)}


def names_of(field: str) -> tuple[str, ...]:
    """Return the names of a field in lower case, the first one first."""
    return (field, *ALIASES.get(field, ()))


def file_name_of(field: str) -> str:
    """Return the name in lower case under which the path of a file with a secret is given."""
    return f"{field}_file"


def default_text(field: str) -> str:
    """Return the default as an operator would write it, or an empty text if there is none."""
    default = Variables.model_fields[field].default
    return "" if default is None else str(default)


def meaning(field: str) -> str:
    """Return what the setting means, in one sentence."""
    return Variables.model_fields[field].description or ""
