"""The settings: name, type, default and meaning of each. The documentation is made from this module.

A setting is a field of `Settings`. Its variable is its name in capitals, after `SYNC_` unless a source of `sync.toml`
may say it too. Defaults are written as an operator would write them and go through the same parsers, so what the
documentation prints is what works. Inside this package a setting is named like its variable, in lower case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeVar, cast, get_args

from pydantic import BeforeValidator, Field, GetPydanticSchema, PlainValidator, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_core.core_schema import any_schema
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from sync_worker.configured import Route, ScoreOverride
from sync_worker.redaction.redaction_rules import DETECTORS, LeaveOut, RedactionRules
from sync_worker.settings import durations, values
from sync_worker.settings.setting_errors import RawValue
from sync_worker.targets import KELET, PRESETS, Encoding, PresetName

_Word = TypeVar("_Word")

# No message of pydantic's own reaches an operator: `setting_errors` has our words for those of choices and numbers,
# and after a plain validator none of its rules runs.
_Choice = Annotated[_Word, BeforeValidator(values.lower)]
_Whole = Annotated[int, BeforeValidator(values.digits)]
_Duration = Annotated[timedelta, PlainValidator(durations.parse_duration)]
_PositiveDuration = Annotated[timedelta, PlainValidator(durations.parse_positive_duration)]
_Switch = Annotated[bool, PlainValidator(values.parse_switch)]
_Path = Annotated[Path, PlainValidator(values.parse_path)]
_Patterns = Annotated[tuple[str, ...], PlainValidator(values.parse_patterns)]
_Levels = Annotated[tuple[str, ...], PlainValidator(values.parse_levels)]
_Fields = Annotated[tuple[str, ...], PlainValidator(values.parse_fields)]
# What the loader adds is right already; a schema for it would only make the start slower.
_UNCHECKED = GetPydanticSchema(lambda *_: any_schema())

#: Settings that a source of `sync.toml` may say for itself.
SOURCE_FIELDS: Final = (
    "langfuse_base_url", "langfuse_public_key", "langfuse_secret_key", "kelet_api_url", "kelet_api_key", "kelet_project"
)  # fmt: skip

#: Settings of the target, which a source of `sync.toml`, or each of its targets, may say for itself.
TARGET_FIELDS: Final = (
    "sync_target", "sync_target_url", "sync_target_key", "sync_target_headers", "sync_target_encoding",
    "sync_target_project", "sync_target_kelet_attributes",
)  # fmt: skip

#: Settings that `sync.toml` may say as a table of strings.
TABLES: Final = frozenset({"sync_target_headers"})

#: Settings without which a source cannot be synced to Kelet.
REQUIRED: Final = frozenset({"langfuse_public_key", "langfuse_secret_key", "kelet_api_key", "kelet_project"})

#: Settings of the process as a whole. A source of `sync.toml` may set all others for itself.
OF_PROCESS: Final = frozenset(
    {"sync_config", "sync_secrets_dir", "sync_state_path", "sync_max_dead_letters", "sync_patience", "sync_jobs",
     "sync_allow_default_project", "sync_allow_plain_http", "sync_pseudonym_key", "sync_http_listen",
     "sync_heartbeat_url", "sync_log_format", "sync_log_level"}
)  # fmt: skip

#: Settings that say where other settings are, and so cannot stand in the file or the folder that they name.
WHEREABOUTS: Final = frozenset({"sync_config", "sync_secrets_dir"})

#: Second names, by setting; the first name wins where both are given in one place.
ALIASES: Final = {"langfuse_base_url": ("langfuse_host",)}


@dataclass(frozen=True, slots=True)
class Source:
    """One Langfuse project, a target, and its project that traces go to unless a route, the first that fits, says else.

    A source of `sync.toml` with several targets is several of these. `target` is the target's name in the state file.
    Of a target that is not Kelet, `kelet_project` is its project and `kelet_api_key` is empty; see `target_of`. The
    addresses have no trailing slash: `https://cloud.langfuse.com`, `https://api.kelet.ai`. `key_files` holds which
    of the keys stand in files, by setting, and may change. `own` is what it sets for itself, by field of `Settings`.
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
    own: tuple[tuple[str, Any], ...] = ()
    target: str = KELET
    target_preset: PresetName = "kelet"
    target_url: str | None = None
    target_key: SecretStr | None = None
    target_headers: SecretStr | None = None
    target_encoding: Encoding = "protobuf"
    target_kelet_attributes: bool = False
    scores: tuple[ScoreOverride, ...] = ()


class SettingRow(NamedTuple):
    """One line of `config show`. The value is text, secrets masked; it is empty for what is not set."""

    name: str
    value: str
    origin: str


def _setting(default: str, meaning: str, *, ge: int | None = None, le: int | None = None) -> Any:
    return Field(default=default, description=meaning, ge=ge, le=le)


def _unset(meaning: str, *, ge: int | None = None) -> Any:
    return Field(default=None, validate_default=False, description=meaning, ge=ge)


class Settings(BaseSettings):
    """All settings. No repr shows a key; `state_path` is absolute in what `load` returns."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        hide_input_in_errors=True,
        alias_generator=lambda name: name if name in SOURCE_FIELDS else f"sync_{name}",
    )

    langfuse_base_url: Annotated[str, PlainValidator(values.parse_langfuse_url)] = _setting(
        "https://cloud.langfuse.com", "Base URL of Langfuse; `LANGFUSE_HOST` is read too."
    )
    langfuse_public_key: Annotated[SecretStr | None, PlainValidator(values.parse_langfuse_public_key)] = _unset(
        "Public key of the Langfuse project, from Project settings → API keys (a read-only Viewer key is enough, if "
        "the server has them), or `LANGFUSE_PUBLIC_KEY_FILE` with the path of a file that contains it."
    )
    langfuse_secret_key: Annotated[SecretStr | None, PlainValidator(values.parse_langfuse_secret_key)] = _unset(
        "Secret key of the Langfuse project, from Project settings → API keys, or `LANGFUSE_SECRET_KEY_FILE` with the "
        "path of a file that contains it."
    )
    kelet_api_url: Annotated[str, PlainValidator(values.parse_kelet_url)] = _setting(
        "https://api.kelet.ai", "Base URL of Kelet."
    )
    kelet_api_key: Annotated[SecretStr | None, PlainValidator(values.parse_kelet_key)] = _unset(
        "Secret key of the Kelet organisation, from console.kelet.ai → API keys, or `KELET_API_KEY_FILE` with the path "
        "of a file that contains it."
    )
    kelet_project: Annotated[str | None, PlainValidator(values.parse_project)] = _unset(
        "Kelet project that receives the spans."
    )
    target: _Choice[PresetName] = _setting(
        "kelet",
        f"Where spans are sent: {', '.join(f'`{name}`' for name in PRESETS if name != 'otlp')}, or `otlp` for any "
        "other OTLP/HTTP endpoint.",
    )
    target_url: Annotated[str | None, PlainValidator(values.parse_target_url)] = _unset(
        "Base URL of a target other than Kelet, or the URL of its traces endpoint; if unset, `http://localhost:6006` "
        "for `phoenix` and the EU cloud for `langfuse`."
    )
    target_key: Annotated[SecretStr | None, PlainValidator(values.parse_target_key)] = _unset(
        "Key of a target other than Kelet, sent as Bearer, for `langfuse` as Basic (public key, colon, secret key), "
        "or `SYNC_TARGET_KEY_FILE` with the path of a file that contains it."
    )
    target_headers: Annotated[SecretStr | None, PlainValidator(values.parse_headers)] = _unset(
        "Headers of each request to the target, in the form of `OTEL_EXPORTER_OTLP_HEADERS` or one a line, or "
        "`SYNC_TARGET_HEADERS_FILE` with the path of a file that contains them."
    )
    target_encoding: _Choice[Encoding] = _setting("protobuf", "Encoding of requests: `protobuf` or `json`.")
    target_project: Annotated[str | None, PlainValidator(values.parse_target_project)] = _unset(
        "Project of a target other than Kelet, required by `phoenix`; `KELET_PROJECT` if unset."
    )
    target_kelet_attributes: _Switch = _setting(
        "false", "Whether spans for a target other than Kelet also carry the `kelet.*` attributes."
    )
    config: _Path = _setting("sync.toml", "File with several sources and routes, read if it exists.")
    secrets_dir: Annotated[Path | None, PlainValidator(values.parse_path)] = _unset(
        "Folder of files named like settings, in upper or lower case, each with the value of its setting."
    )
    state_path: _Path = _setting(
        "./sync-state.db", "SQLite file with all progress; keep it on a local disk that persists between runs."
    )
    start: Annotated[timedelta | datetime, PlainValidator(durations.parse_start)] = _setting(
        "24h", "Sync start: a duration before the first run, or an ISO 8601 time with an offset."
    )
    interval: _PositiveDuration = _setting("60s", "Time from one cycle of `run` to the next.")
    settle: _Duration = _setting(
        "30s", "Quiet period: how long a trace must have had no new observation before it is sent."
    )
    max_open: _PositiveDuration = _setting("30m", "Age at which a trace is sent even if it has not ended.")
    late_horizons: Annotated[tuple[timedelta, ...], PlainValidator(durations.parse_horizons)] = _setting(
        "20m,2h,48h",
        "Lookback windows of the scans for late-arriving observations, shortest first; each is scanned once per "
        "twelfth of its length.",
    )
    updates: _Choice[Literal["resend", "ignore"]] = _setting(
        "resend", "What happens to an observation that changes after it was sent: `resend` or `ignore`."
    )
    langfuse_api: _Choice[Literal["auto", "v2", "v1"]] = _setting(
        "auto", "Generation of the Langfuse API: `auto` detects it, `v2` or `v1` forces it."
    )
    requests_per_minute: _Whole | None = _unset(
        "Maximum number of requests a minute to Langfuse; if unset, the limit is discovered.", ge=1
    )
    budget_share: Annotated[Fraction, PlainValidator(values.parse_share)] = _setting(
        "80%",
        "Share of a discovered limit that is used, from `1%` to `100%`; the rest is left to your own application.",
    )
    compression: _Choice[Literal["auto", "gzip", "none"]] = _setting(
        "auto", "Compression of requests to Kelet: `auto` (gzip until the server rejects it), `gzip` or `none`."
    )
    attributes: _Choice[Literal["both", "genai", "langfuse"]] = _setting(
        "both", "Attribute conventions on the spans: `genai`, `langfuse`, or `both`."
    )
    scores: Annotated[tuple[str, ...], PlainValidator(values.parse_scores)] = _setting(
        "false",
        "Which scores are sent as signals: `true` for all, `false` for none, or names and globs separated by commas, "
        "with `!name` to exclude one.",
    )
    score_horizons: Annotated[tuple[timedelta, ...], PlainValidator(durations.parse_horizons)] = _setting(
        "2h,48h,14d",
        "Lookback windows of scores, shortest first: the first one is listed in each cycle, the others once per "
        "twelfth of their length.",
    )
    score_updates: _Choice[Literal["send", "ignore"]] = _setting(
        "send",
        "What happens to a score that is edited after it was sent: `send` a new signal that supersedes the old one, "
        "or `ignore`.",
    )
    score_authors: _Switch = _setting(
        "false", "Whether signals carry the ids of the author and of the annotation queue of their score."
    )
    score_events: _Switch = _setting(
        "false",
        "Whether the scores that `SYNC_SCORES` selects are sent to a target other than Kelet too, as "
        "`gen_ai.evaluation.result` log events to its `/v1/logs`.",
    )
    include_environments: _Patterns = _setting(
        "",
        "Environments that are synced, as patterns with `*`, `?` and `[…]`, or as RE2 expressions after `re:`; if "
        "unset, all.",
    )
    exclude_environments: _Patterns = _setting(
        "langfuse-*",
        "Environments that are not synced, by default those of Langfuse's own evaluators; `none` excludes none.",
    )
    include_trace_names: _Patterns = _setting("", "Trace names that are synced; if unset, all.")
    exclude_trace_names: _Patterns = _setting("", "Trace names that are not synced.")
    include_tags: _Patterns = _setting("", "Tags: only traces with one of them are synced; if unset, all.")
    exclude_tags: _Patterns = _setting("", "Tags: traces with one of them are not synced.")
    include_users: _Patterns = _setting("", "User ids whose traces are synced; if unset, all.")
    exclude_users: _Patterns = _setting("", "User ids whose traces are not synced.")
    include_sessions: _Patterns = _setting("", "Session ids whose traces are synced; if unset, all.")
    exclude_sessions: _Patterns = _setting("", "Session ids whose traces are not synced.")
    include_releases: _Patterns = _setting("", "Releases whose traces are synced; if unset, all.")
    exclude_releases: _Patterns = _setting("", "Releases whose traces are not synced.")
    include_levels: _Levels = _setting(
        "", "Levels of a trace's root (`DEBUG`, `DEFAULT`, `WARNING`, `ERROR`) whose traces are synced; if unset, all."
    )
    exclude_levels: _Levels = _setting("", "Levels of a trace's root whose traces are not synced.")
    sample: Annotated[Fraction, PlainValidator(values.parse_sample)] = _setting(
        "100%", "Share of the traces that is synced, from `0%` to `100%`: whole traces, chosen by their ids."
    )
    sample_errors: _Switch = _setting(
        "false", "Whether traces with an observation of level `ERROR` are synced regardless of `SYNC_SAMPLE`."
    )
    session_from: _Fields = _setting(
        "",
        "Fields for the session id of a trace, of which the first with a value is used: `session`, `user`, "
        "`environment`, `trace_name`, `release`, `version` or `metadata.KEY`; if unset, `session`.",
    )
    user_from: _Fields = _setting("", "Fields for the user id of a trace, as in `SYNC_SESSION_FROM`.")
    agent_from: Annotated[tuple[str, ...], PlainValidator(values.parse_agent_fields)] = _setting(
        "",
        "Fields for the agent name on all spans of a trace, as in `SYNC_SESSION_FROM`; `agent` leaves each span its "
        "own.",
    )
    project_from: _Fields = _setting(
        "",
        "Fields for the Kelet project of a trace, as in `SYNC_SESSION_FROM`; without a value, routes and "
        "`KELET_PROJECT` decide.",
    )
    max_value_bytes: _Whole = _setting(
        "1048576", "Size in bytes over which an attribute value is truncated, at least 256.", ge=256
    )
    max_attributes: _Whole = _setting("256", "Maximum number of attributes on a span, at least 32.", ge=32)
    max_batch_spans: _Whole = _setting(
        "512", "Maximum number of spans in a request to Kelet, from 1 to 4096.", ge=1, le=4096
    )
    max_batch_bytes: _Whole = _setting(
        "4194304",
        "Maximum size in bytes of a request to Kelet before compression, from 1024 to 67108864.",
        ge=1024,
        le=64 * 1024 * 1024,
    )
    max_spans_per_day: _Whole = _setting(
        "0",
        "Maximum number of spans that a source sends on a day (UTC), in whole traces, before it pauses until the next"
        " day; 0 means no limit.",
        ge=0,
    )
    max_dead_letters: _Whole = _setting(
        "10000",
        "Maximum number of dead letters of a source; one more pauses the source until some are retried or dropped.",
        ge=1,
    )
    media_hosts: Annotated[tuple[str, ...], PlainValidator(values.parse_hosts)] = _setting(
        "",
        "Hosts, with or without a port, from which truncated fields may be downloaded by `http://` or at addresses "
        "that are not public; if unset, this is allowed only if Langfuse itself has such an address.",
    )
    max_response_bytes: _Whole = _setting(
        "67108864",
        "Maximum size in bytes of a response after decompression, from 65536 to 1073741824; a larger page is requested "
        "in parts.",
        ge=65536,
        le=1024 * 1024 * 1024,
    )
    patience: _Duration = _setting(
        "5m", "Max elapsed time: how long `once` and `backfill` retry during one outage; `run` retries without limit."
    )
    jobs: Annotated[int | None, PlainValidator(values.parse_jobs)] = _setting(
        "auto",
        "Number of processes among which `backfill` divides a long range, and `once` more than 100,000 observations: "
        "from 1 to 64, or `auto` for one per core, as far as memory allows, at most 8.",
    )
    allow_default_project: _Switch = _setting(
        "false", "Whether the Kelet project may be named `default`, where data without a project ends up."
    )
    allow_plain_http: _Switch = _setting(
        "false", "Whether `http://` may be used to addresses that are not private, which sends keys unencrypted."
    )
    redact: Annotated[tuple[str, ...], PlainValidator(values.parse_detectors)] = _setting(
        "none",
        "What is redacted in everything that is sent: `none`, `all`, or some of "
        f"{', '.join(f'`{name}`' for name in DETECTORS)}.",
    )
    redact_with: _Choice[Literal["label", "pseudonym"]] = _setting(
        "label",
        "What replaces it: a `label` (`[redacted:email]`) or a `pseudonym`, which is the same for the same value; "
        "session and user ids always get a pseudonym.",
    )
    pseudonym_key: Annotated[SecretStr | None, PlainValidator(values.parse_pseudonym_key)] = _unset(
        "Secret for pseudonyms, at least 16 characters, or `SYNC_PSEUDONYM_KEY_FILE` with the path of a file that "
        "contains it; if unset, one is generated and kept in the state file.",
    )
    leave_out: Annotated[tuple[str, ...], PlainValidator(values.parse_content)] = _setting(
        "", "Content of observations that is not sent: `input`, `output`, or both, separated by a comma."
    )
    include_metadata: Annotated[tuple[str, ...], PlainValidator(values.parse_globs)] = _setting(
        "",
        "Metadata keys that are sent, as wildcards separated by commas, inner keys joined with dots; if unset, all.",
    )
    exclude_metadata: Annotated[tuple[str, ...], PlainValidator(values.parse_globs)] = _setting(
        "", "Metadata keys that are not sent, in the same form; they take precedence over `SYNC_INCLUDE_METADATA`."
    )
    user_ids: _Choice[Literal["keep", "pseudonym", "drop"]] = _setting(
        "keep", "What becomes of user ids: `keep`, `pseudonym` (always the same for the same user) or `drop`."
    )
    http_listen: Annotated[tuple[str, int] | None, PlainValidator(values.parse_listen)] = _unset(
        "Address on which `run` listens, such as `127.0.0.1:9464`, with a status page at `/`, and `/metrics`, "
        "`/healthz`, `/readyz` and `/status`; if unset, it does not listen."
    )
    heartbeat_url: Annotated[SecretStr | None, PlainValidator(values.parse_heartbeat_url)] = _unset(
        "URL that `run` and `once` call after good cycles, and with `/fail` appended to its path after a bad one, or "
        "`SYNC_HEARTBEAT_URL_FILE` with the path of a file that contains it; nothing is sent with it."
    )
    log_format: _Choice[Literal["text", "json"]] = _setting("text", "Format of the log lines: `text` or `json`.")
    log_level: _Choice[Literal["debug", "info", "warning", "error"]] = _setting(
        "info", "Lowest level that is logged: `debug`, `info`, `warning` or `error`."
    )

    # What `load` adds. No setting: a setting has a description.
    sources: Annotated[tuple[Source, ...], _UNCHECKED] = ()
    patterns: Annotated[tuple[tuple[str, str], ...], _UNCHECKED] = ()  # of `[redact.patterns]`: name, expression
    warnings: Annotated[tuple[str, ...], _UNCHECKED] = ()
    #: Every setting with its value and where that came from; then what each source of `sync.toml` uses.
    shown: Annotated[tuple[SettingRow, ...], _UNCHECKED] = Field(default=(), repr=False)

    if TYPE_CHECKING:  # the library's own signature has none but its own options

        def __init__(self, *, setting_sources: Sequence[PydanticBaseSettingsSource]) -> None: ...

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Ask the `setting_sources` that the constructor is given, the first that has a value wins, and no others."""
        return tuple(cast("InitSettingsSource", init_settings).init_kwargs["setting_sources"])

    @model_validator(mode="before")
    @classmethod
    def _texts(cls, raws: dict[str, RawValue]) -> dict[str, str]:
        """Return the texts of the raw values for the parsers of their fields, without those that have an error."""
        return {name: raw.text.strip() for name, raw in raws.items() if raw.error is None}

    def of(self, source: Source) -> Settings:
        """Return the settings as they are for a source: what it does not set for itself is as here."""
        return self.model_copy(update=dict(source.own)) if source.own else self

    @property
    def rules(self) -> RedactionRules:
        """What is redacted and left out."""
        return RedactionRules(
            self.redact,
            self.patterns,
            self.redact_with,
            LeaveOut(self.leave_out, self.include_metadata, self.exclude_metadata, self.user_ids),
        )


#: The fields of the settings, by the name of the variable in lower case.
INFO: Final[dict[str, FieldInfo]] = {
    str(info.alias): info for info in Settings.model_fields.values() if info.description
}
FIELDS: Final[tuple[str, ...]] = tuple(INFO)


def _of_type(kind: Any) -> frozenset[str]:
    return frozenset(name for name, info in INFO.items() if kind in {info.annotation, *get_args(info.annotation)})


#: Settings that a source of `sync.toml` may set for itself; `Settings.of` returns them.
PER_SOURCE: Final = tuple(name for name in FIELDS if name not in {*SOURCE_FIELDS, *TARGET_FIELDS, *OF_PROCESS})

#: Settings whose values are never shown in full. The public key is among them: swapped keys are a common mistake.
SECRETS: Final = _of_type(SecretStr)

#: Settings whose values are paths.
PATHS: Final = _of_type(Path)

#: Settings that `sync.toml` may say as a list of strings.
LISTS: Final = frozenset(name for name, info in INFO.items() if Ellipsis in get_args(info.annotation))


def names_of(name: str) -> tuple[str, ...]:
    """Return the names of a setting in lower case, the first one first."""
    return (name, *ALIASES.get(name, ()))


def file_name_of(name: str) -> str:
    """Return the name in lower case under which the path of a file with a secret is given."""
    return f"{name}_file"


def default_text(name: str) -> str:
    """Return the default as an operator would write it, or an empty text if there is none."""
    default = INFO[name].default
    return "" if default is None else str(default)


def meaning(name: str) -> str:
    """Return what the setting means, in one sentence."""
    return INFO[name].description or ""


def field_of(name: str) -> str:
    """Return the name of the setting's field in `Settings`."""
    return name if name in SOURCE_FIELDS else name.removeprefix("sync_")


def value_of(settings: Settings, name: str) -> Any:
    """Return the value of the setting that is named like this."""
    return getattr(settings, field_of(name))
