"""All places together: read, understand, check, and hand out the settings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from sync_worker.errors import ConfigError
from sync_worker.settings import places, tomlfile
from sync_worker.settings.durations import format_duration
from sync_worker.settings.model import FIELDS, SECRETS, Variables, default_text
from sync_worker.settings.names import misspelled
from sync_worker.settings.result import SettingRow, Settings
from sync_worker.settings.sources import SourceBuilder
from sync_worker.settings.values import parse_path, refuse_leftovers
from sync_worker.settings.wrong import Found, Report, WrongValueError, mask

_DOTENV: Final = ".env"


def load(
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    need_sources: bool = True,
) -> Settings:
    """Read the settings; raise ConfigError with one line for each problem.

    `environ` is the environment (the process's own if None) and `directory` the working directory, where `.env` and
    `sync.toml` are looked for and relative paths begin. `overrides` is what the command line says, by variable
    (`SYNC_STATE_PATH`) or by flag (`--state`). With `need_sources=False`, for commands that only look at the state
    file, a source without its keys or its project is left out instead of refused, and so is one whose key file cannot
    be read.
    """
    environ = os.environ if environ is None else environ
    directory = _working_directory() if directory is None else directory.absolute()
    report = Report()

    dotenv = places.dotenv_texts(directory / _DOTENV, environ, report)
    near_misses = _near_misses({"the environment": environ, str(directory / _DOTENV): dotenv}, report)
    command_line = places.command_line(overrides or {}, report)
    env_values, dotenv_values = places.variables_of(environ), places.dotenv_variables(dotenv)
    whereabouts = [command_line, env_values, dotenv_values]
    named_config, folder = (_path(field, whereabouts, directory) for field in ("sync_config", "sync_secrets_dir"))
    config = named_config or directory / default_text("sync_config")
    data = tomlfile.read(config, report, must_exist=named_config is not None)
    top = tomlfile.top_level(data, config, report)
    in_order: list[places.Place] = [
        places.Texts(command_line),
        places.Texts(env_values),
        places.KeyFiles(env_values, directory),
        places.Texts(dotenv_values),
        places.KeyFiles(dotenv_values, directory),
        *_secrets_folder(folder, report),
        places.Texts(top),
        places.KeyFiles(top, directory),
    ]
    plain = places.Resolution(in_order, report, tolerate_unreadable=not need_sources)
    variables = _understand(plain, report)
    builder = SourceBuilder(variables, plain, places.empty_origins(environ, dotenv), near_misses, report)
    if "sources" in data:
        sources = builder.from_file(data["sources"], config, directory, need=need_sources)
    else:
        sources = builder.from_variables(need=need_sources)
    _warn_of_contradictions(variables, report)
    report.raise_if_refused()
    return Settings(
        sources=sources,
        state_path=directory / variables.sync_state_path,
        start=variables.sync_start,
        interval=variables.sync_interval,
        settle=variables.sync_settle,
        max_open=variables.sync_max_open,
        patience=variables.sync_patience,
        late_horizons=variables.sync_late_horizons,
        updates=variables.sync_updates,
        langfuse_api=variables.sync_langfuse_api,
        requests_per_minute=variables.sync_requests_per_minute,
        budget_share=variables.sync_budget_share,
        compression=variables.sync_compression,
        attributes=variables.sync_attributes,
        max_value_bytes=variables.sync_max_value_bytes,
        max_attributes=variables.sync_max_attributes,
        max_batch_spans=variables.sync_max_batch_spans,
        max_batch_bytes=variables.sync_max_batch_bytes,
        max_dead_letters=variables.sync_max_dead_letters,
        media_hosts=variables.sync_media_hosts,
        max_response_bytes=variables.sync_max_response_bytes,
        log_format=variables.sync_log_format,
        log_level=variables.sync_log_level,
        allow_plain_http=variables.sync_allow_plain_http,
        allow_default_project=variables.sync_allow_default_project,
        warnings=report.warnings,
        shown=(*_rows(variables, plain, report), *builder.rows),
    )


def _near_misses(found: Mapping[str, Iterable[str]], report: Report) -> dict[str, str]:
    """Warn of names that are no settings, by the place where they stand; return the nearest miss of each setting.

    A setting that is required and has no value is refused with it, by its name in lower case.
    """
    nearest: dict[str, str] = {}
    for place, names in found.items():
        for name, near in misspelled(names):
            meant = f" Did you mean {near}?" if near else ""
            report.warn(f"{name} in {place} is not a setting and is ignored.{meant}")
            nearest.setdefault(near.lower().removesuffix("_file"), f"{name} in {place}")
    return nearest


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError(
            f"the working directory cannot be used ({places.reason(error)}). Try: cd to a folder that exists"
        ) from None


def _path(field: str, whereabouts: list[dict[str, Found]], directory: Path) -> Path | None:
    """Return the path that somebody gave for `field`, or None.

    The config file and the secrets folder are needed before the settings as a whole. A path that is none is reported
    with all other values.
    """
    found = next((texts[field] for texts in whereabouts if field in texts), None)
    try:
        if found is None:
            return None
        refuse_leftovers(found, path=True)
        return directory / parse_path(found.text)
    except WrongValueError:
        return None


def _secrets_folder(folder: Path | None, report: Report) -> list[places.Place]:
    try:
        return [] if folder is None else [places.SecretsFolder(folder)]
    except OSError as error:
        report.refuse(
            "SYNC_SECRETS_DIR", WrongValueError(f"the folder {folder} cannot be read: {places.reason(error)}")
        )
        return []


def _understand(plain: places.Resolution, report: Report) -> Variables:
    """Return the variables; those that are wrong are reported and have their defaults, so that the checks can go on."""
    try:
        return plain.variables()
    except ValidationError as error:
        for field, wrong in _wrongs(error).items():
            report.refuse(field.upper(), wrong, plain.found.get(field))
            plain.drop(field)
    return plain.variables()


def _wrongs(error: ValidationError) -> dict[str, WrongValueError]:
    """Return what is wrong, by field, in our words."""
    wrongs = {}
    for detail in error.errors(include_url=False, include_input=False):
        cause = detail.get("ctx", {}).get("error")
        wrongs[str(detail["loc"][0])] = (
            cause if isinstance(cause, WrongValueError) else WrongValueError("cannot be used")
        )
    return wrongs


def _warn_of_contradictions(variables: Variables, report: Report) -> None:
    if variables.sync_max_open < variables.sync_settle:
        report.warn(
            f"SYNC_MAX_OPEN ({format_duration(variables.sync_max_open)}) is shorter than SYNC_SETTLE "
            f"({format_duration(variables.sync_settle)}), so traces are sent before they are quiet."
        )


def _rows(variables: Variables, plain: places.Resolution, report: Report) -> list[SettingRow]:
    rows = []
    for field in FIELDS:
        written = plain.written(field)
        value = getattr(variables, field)
        shown = mask(value.get_secret_value()) if field in SECRETS and value is not None else _shown(value, written)
        rows.append(SettingRow(field.upper(), shown if field in SECRETS else report.show(shown), written.origin))
    return rows


def _shown(value: Any, written: Found) -> str:
    """Return a value as text; durations as they were written, since 60s and 1m are the same."""
    match value:
        case None | SecretStr():
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case str() | int() | Path():
            return str(value)
    return written.text.strip()
