"""All setting sources together: read, parse, check, and hand out the settings with what is synced to where.

There is one source of traces, from the variables, or several from `[[sources]]` in `sync.toml`. What such a source does
not say for itself it takes from the variables and from the top level of the file.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from sync_worker.configured import Route, ScoreOverride
from sync_worker.errors import ConfigError
from sync_worker.settings import model, setting_sources, sync_toml, values
from sync_worker.settings.durations import format_duration
from sync_worker.settings.model import (
    PER_SOURCE,
    SECRETS,
    SOURCE_FIELDS,
    TARGET_FIELDS,
    SettingRow,
    Settings,
    Source,
    field_of,
    value_of,
)
from sync_worker.settings.near_names import warn_of_near_misses
from sync_worker.settings.setting_errors import MASK, Problems, RawValue, WrongValueError, mask
from sync_worker.settings.setting_sources import KeyFiles, SettingSource, Texts
from sync_worker.settings.target_settings import contradictions, needed_settings, secrets_in_use, sends_back
from sync_worker.targets import KELET

_SAME_PAIR: Final = "Langfuse project and target"
_NAME: Final = re.compile(r"[a-z0-9_-]+")
_WHAT_IS_MISSING: Final = {
    "langfuse_public_key": ("the public key of the Langfuse project (pk-lf-…)", values.LANGFUSE_KEYS_ARE_AT),
    "langfuse_secret_key": ("the secret key of the Langfuse project (sk-lf-…)", values.LANGFUSE_KEYS_ARE_AT),
    "kelet_api_key": ("the secret key of your Kelet organisation", values.KELET_KEYS_ARE_AT),
    "kelet_project": ("the Kelet project that receives the spans", "at console.kelet.ai, in its address bar"),
    "sync_target_url": ("the address of the target", "in its documentation, as its OTLP/HTTP endpoint"),
    "sync_target_key": ("the key of the target", "where the target shows its API keys"),
    "sync_target_project": ("the target's project that receives the spans", "in the target; it makes one it lacks"),
}
#: Secrets of which not even the ends are shown: they are no single key.
_HIDDEN: Final = frozenset({"sync_target_headers"})


def load(
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    need_sources: bool = True,
    env_file: str | None = None,
) -> Settings:
    """Read the settings; raise ConfigError with one line for each problem.

    `environ` is the environment (the process's own if None) and `directory` the working directory, where `.env` and
    `sync.toml` are looked for and relative paths begin. `overrides` is what the command line says, by variable
    (`SYNC_STATE_PATH`) or by flag (`--state`), and `env_file` the path of another file than `.env`. With
    `need_sources=False`, for commands that only look at the state file, a source without its keys or its project is
    left out instead of refused, and so is one whose key file cannot be read.
    """
    environ = os.environ if environ is None else environ
    directory = _working_directory() if directory is None else directory.absolute()
    problems = Problems()
    written = setting_sources.environment(environ)
    dotenv_file, must_exist = _dotenv_file(env_file, directory, problems)
    dotenv = setting_sources.dotenv(dotenv_file, environ, problems, must_exist=must_exist)
    near_misses = warn_of_near_misses({"the environment": written, str(dotenv_file): dotenv}, problems)
    empty = {name.lower(): raw.origin for name, raw in (dotenv | written).items() if not raw.text.strip()}
    given = [
        setting_sources.command_line(overrides or {}, problems),
        setting_sources.variables(written),
        setting_sources.variables(dotenv),
    ]
    named_config, folder = (_path(name, given, directory) for name in ("sync_config", "sync_secrets_dir"))
    config = named_config or directory / model.default_text("sync_config")
    named_by = None if named_config is None else "--config" if "sync_config" in given[0] else "SYNC_CONFIG"
    data = sync_toml.read_toml(config, problems, named_by=named_by)
    secrets = [] if folder is None else [setting_sources.SecretsFolder(folder, problems)]
    is_all_read = not problems.are_found  # else what is missing may stand where nothing could be read
    top = sync_toml.top_level(data, config, problems)
    in_order: list[SettingSource] = [
        *(source for raws in given for source in (Texts(raws), KeyFiles(raws, directory))),
        *secrets,
        Texts(top),
        KeyFiles(top, directory),
    ]
    plain = _read(in_order, problems, tolerant=not need_sources)
    label = f"{config.name} [redact]"
    patterns = sync_toml.parse_patterns(data["redact"], label, problems) if "redact" in data else ()
    builder = _SourceBuilder(plain, empty, near_misses, problems, need_sources and is_all_read, patterns)
    tables = data.get("sources")
    sources = builder.from_variables() if tables is None else builder.from_file(tables, config, directory)
    settings = plain.settings
    _warn_of_early_traces(settings, "", problems)
    rows = [SettingRow(f"redact.patterns.{name}", problems.show(pattern), label) for name, pattern in patterns]
    settings = settings.model_copy(update={"patterns": patterns, "sources": sources})
    _check_re2(settings, problems)
    _check_heartbeat(plain, problems)
    problems.raise_if_refused()
    added = {
        "state_path": directory / settings.state_path,
        "warnings": problems.warnings,
        "shown": (*(plain.row(name, name.upper(), problems) for name in model.FIELDS), *rows, *builder.rows),
    }
    return settings.model_copy(update=added)


def _check_re2(settings: Settings, problems: Problems) -> None:
    """Refuse rules where they cannot be followed; without rules, google-re2 is not even looked for."""
    each = [settings.of(source).rules for source in settings.sources] or [settings.rules]
    if not any(rules.finds_something for rules in each):
        return
    from sync_worker.expressions import is_there  # noqa: PLC0415 - only where there are rules

    if not is_there():
        problems.refuse(
            "SYNC_REDACT",
            WrongValueError(
                "needs google-re2, which is not installed, and nothing is sent unredacted instead",
                hint="pip install google-re2, or a system for which it is built (Linux with glibc, macOS)",
            ),
        )


def _check_heartbeat(reading: _Reading, problems: Problems) -> None:
    """Refuse an address that would be called unencrypted: whoever sees it can report that all is well."""
    url, raw = reading.settings.heartbeat_url, reading.raw("sync_heartbeat_url")
    if url is None or reading.settings.allow_plain_http or not values.is_plain_and_public(url.get_secret_value()):
        return
    wrong = _unencrypted("show a secret address on the way", show=False)
    problems.refuse(raw.label("sync_heartbeat_url"), wrong)


def _unencrypted(does: str, *, show: bool = True) -> WrongValueError:
    return WrongValueError(
        f"http:// would {does} to an address that is not private",
        expected="https://",
        hint="use https://, or set SYNC_ALLOW_PLAIN_HTTP=true if the way there is protected",
        show=show,
    )


def _warn_of_early_traces(settings: Settings, before: str, problems: Problems) -> None:
    """Warn of settings by which a trace is sent before it is quiet; `before` goes before the line."""
    if settings.max_open < settings.settle:
        problems.warn(
            f"{before}SYNC_MAX_OPEN ({format_duration(settings.max_open)}) is shorter than SYNC_SETTLE "
            f"({format_duration(settings.settle)}), so traces are sent before they are quiet."
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    """What setting sources had: parsed, and as it was written; what is wrong has its default, and is unusable."""

    settings: Settings
    raws: Mapping[str, RawValue]
    unusable: frozenset[str] = frozenset()

    def without(self, names: set[str]) -> _Reading:
        """Return the same with these unusable too."""
        return replace(self, unusable=self.unusable | names)

    def raw(self, name: str) -> RawValue:
        if name in self.raws and name not in self.unusable:
            return self.raws[name]
        return RawValue(model.default_text(name), "default", secret=name in SECRETS)

    def text(self, name: str) -> str:
        """Return the value as text; durations as they were written, since 60s and 1m are the same."""
        match value_of(self.settings, name):
            case None:
                return ""
            case SecretStr() as secret:
                return secret.get_secret_value()
            case bool() as switch:
                return "true" if switch else "false"
            case datetime() as time:
                return time.isoformat().replace("+00:00", "Z")
            case str() | int() | Path() as value:
                return str(value)
        return self.raw(name).text.strip()

    def row(self, name: str, shown_name: str, problems: Problems) -> SettingRow:
        text = self.text(name)
        shown = problems.show(text) if name not in SECRETS else mask(text) if text and name not in _HIDDEN else ""
        if text and name in _HIDDEN:
            shown = ", ".join(f"{header}={MASK}" for header in values.headers_of(text))
        return SettingRow(shown_name, shown, self.raw(name).origin)


def _read(
    sources: Iterable[SettingSource],
    problems: Problems,
    *,
    tolerant: bool,
    inherited: Mapping[str, RawValue] | None = None,
) -> _Reading:
    """Ask the sources and report what is wrong, but not of what is `inherited`: that was reported before.

    With `tolerant`, a secret that cannot be read is only warned of.
    """
    settings, raws, wrong = setting_sources.parse(sources)
    for raw in raws.values():
        if raw.secret:
            problems.keep_secret(raw.text)
    for name, error in wrong.items():
        raw = raws[name]
        if inherited is not None and raw == inherited.get(name):
            continue
        # A value of a table that stands in quotes is there, though it is not parsed.
        if tolerant and name in SECRETS and raw.error is not None and not (raw.toml_table and raw.text):
            problems.warn(f"{raw.label(name)}: {error.problem}.")
        else:
            problems.refuse(raw.label(name), error, raw if raw.origin else None)
    return _Reading(settings, raws, frozenset(wrong))


def _dotenv_file(given: str | None, directory: Path, problems: Problems) -> tuple[Path, bool]:
    """Return the file of variables, and whether it must exist, as one that was given must."""
    if given is not None:
        try:
            return directory / values.parse_path(given), True
        except WrongValueError as wrong:
            problems.refuse("--env-file", wrong)
    return directory / ".env", False


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError(
            f"the working directory cannot be used ({setting_sources.reason(error)}). Try: cd to a folder that exists"
        ) from None


def _path(name: str, given: list[dict[str, RawValue]], directory: Path) -> Path | None:
    """Return the path that somebody gave for the setting, or None.

    The config file and the secrets folder are needed before the settings as a whole. A path that is none is reported
    with all other values.
    """
    raw = next((raws[name] for raws in given if name in raws), None)
    if raw is None or setting_sources.leftovers(raw, path=True):
        return None
    with contextlib.suppress(WrongValueError):
        return directory / values.parse_path(raw.text)
    return None


@dataclass(slots=True)
class _SourceBuilder:
    """Makes the sources out of the variables and the file. What is missing is a problem only where they are `needed`.

    `empty` and `near_misses` hold, by setting, where it stands without a value, or under nearly its name.
    """

    plain: _Reading
    empty: Mapping[str, str]
    near_misses: Mapping[str, str]
    problems: Problems
    needed: bool
    patterns: tuple[tuple[str, str], ...] = ()
    rows: list[SettingRow] = field(default_factory=list)

    def from_variables(self) -> tuple[Source, ...]:
        """Return the one source named `default`, if nothing is missing."""
        source = self._source("default", (), self.plain, self.plain.unusable, (), (), None)
        return () if source is None else (source,)

    def from_file(self, tables: Any, file: Path, directory: Path) -> tuple[Source, ...]:
        """Return the sources of `[[sources]]` in which nothing is missing."""
        label = f"{file.name} sources"
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.problems.refuse(label, WrongValueError("not a list of tables", hint="write [[sources]]"))
            return ()
        if not tables:
            self.problems.refuse(label, WrongValueError("empty", hint="remove it or add [[sources]]"))
        sources: list[Source] = []
        names: dict[str, str] = {}
        projects: dict[str, str] = {}
        for number, table in enumerate(tables, 1):
            toml_table = f"{file.name} [[sources]] #{number}"
            name = self._name(table.get("name"), toml_table)
            raws, wrong = sync_toml.source_values(table, toml_table, self.problems)
            of_table = [Texts(raws, toml_table), KeyFiles(raws, directory, toml_table), Texts(self.plain.raws)]
            reading = _read(of_table, self.problems, tolerant=not self.needed, inherited=self.plain.raws)
            routes = self._routes(table, toml_table)
            scores = self._scores(table, toml_table)
            if name:
                self._refuse_twin(names, name, toml_table, "name")
            whole = reading.without(wrong)
            patterns = self._patterns(table, name, toml_table) if "redact" in table else None
            for source in self._of_targets(name, toml_table, whole, routes, scores, table, directory):
                project = f"{source.langfuse_base_url} {source.langfuse_public_key} {source.target}"
                self._refuse_twin(projects, project, f"{toml_table}{source.name.removeprefix(name)}", _SAME_PAIR)
                sources.append(source if patterns is None else replace(source, own=(*source.own, patterns)))
        if tables and all("targets" in table for table in tables):
            self._warn_of_unused_target()
        return tuple(sources)

    def _warn_of_unused_target(self) -> None:
        """Warn of settings of a target outside of `[[sources.targets]]`, where each source has those."""
        for one in TARGET_FIELDS:
            if one in self.plain.raws:
                self.problems.warn(
                    f"{one.upper()} has no effect, since each source has targets, which say it themselves."
                )

    def _of_targets(
        self,
        name: str,
        toml_table: str,
        reading: _Reading,
        routes: tuple[Route, ...],
        scores: tuple[ScoreOverride, ...],
        table: Mapping[str, Any],
        directory: Path,
    ) -> Iterator[Source]:
        """Yield the sources of a table, one for each of its targets; the first has the name of the table."""
        targets = sync_toml.target_tables(table, toml_table, self.problems)
        if targets is None:
            source = self._source(name, (toml_table,), reading, reading.unusable, routes, scores, None)
            if source is not None:
                yield source
            return
        # One target's address with another's key would give that key away: each says all of its own.
        common = {one: raw for one, raw in reading.raws.items() if one not in TARGET_FIELDS}
        names: dict[str, str] = {}
        for number, target in enumerate(targets, 1):
            at = f"{toml_table} targets #{number}"
            raws, wrong = sync_toml.target_values(target, at, self.problems)
            layers = [Texts(raws, at), KeyFiles(raws, directory, at), Texts(common)]
            whole = _read(layers, self.problems, tolerant=not self.needed, inherited=reading.raws)
            preset: str = whole.settings.target
            target_name = self._name(target.get("name", preset), at)
            self._refuse_twin(names, target_name, at, "target name")
            shown = name if number == 1 else f"{name}/{target_name}"
            unusable = whole.unusable | reading.unusable.intersection(common) | wrong
            source = self._source(shown, (toml_table, at), whole, unusable, routes, scores, target_name)
            if source is not None:
                yield source

    def _patterns(self, table: Mapping[str, Any], name: str, toml_table: str) -> tuple[str, Any]:
        """Return the patterns of a source as one of the fields that it sets for itself: those of all, and its own."""
        patterns = sync_toml.parse_patterns(table["redact"], f"{toml_table} [redact]", self.problems)
        for one, pattern in patterns:
            row = SettingRow(f"sources.{name}.redact.patterns.{one}", self.problems.show(pattern), toml_table)
            self.rows.append(row)
        return "patterns", tuple((dict(self.patterns) | dict(patterns)).items())

    def _name(self, name: Any, toml_table: str) -> str:
        if isinstance(name, str) and _NAME.fullmatch(name):
            return name
        problem = "missing" if name is None else "not a name"
        wrong = WrongValueError(problem, expected="a short name of the characters a-z, 0-9, _ and -")
        self.problems.refuse(f"{toml_table} name", wrong, RawValue(name, toml_table) if isinstance(name, str) else None)
        return ""

    def _tables(self, table: Mapping[str, Any], toml_table: str, kind: str) -> Iterator[tuple[Any, str]]:
        """Yield the tables of one kind in the table of a source, each with what says which it is."""
        tables = table.get(kind, [])
        if not isinstance(tables, list):
            wrong = WrongValueError("not a list of tables", hint=f"write [[sources.{kind}]]")
            self.problems.refuse(f"{toml_table} {kind}", wrong)
            return
        for number, one in enumerate(tables, 1):
            yield one, f"{toml_table} {kind} #{number}"

    def _routes(self, table: Mapping[str, Any], toml_table: str) -> tuple[Route, ...]:
        routes = []
        for one, at in self._tables(table, toml_table, "routes"):
            route = sync_toml.parse_route(one, at, self.problems)
            if route is not None and not route.drop:
                self._check_project(RawValue(route.project, at, at), "project")
            if route is not None:
                routes.append(route)
        return tuple(routes)

    def _scores(self, table: Mapping[str, Any], toml_table: str) -> tuple[ScoreOverride, ...]:
        tables = self._tables(table, toml_table, "scores")
        found = [sync_toml.parse_score_override(one, at, self.problems) for one, at in tables]
        return tuple(one for one in found if one is not None)

    def _source(
        self,
        name: str,
        tables: tuple[str, ...],
        reading: _Reading,
        unusable: frozenset[str],
        routes: tuple[Route, ...],
        scores: tuple[ScoreOverride, ...],
        target_name: str | None,
    ) -> Source | None:
        """Check a source, which stands in these tables, and return it; None where something is missing or unusable."""
        toml_table, settings = tables[-1] if tables else "", reading.settings
        if "sync_target" in unusable:
            return None
        needed = needed_settings(settings)
        missing = [one for one in needed if one not in unusable and value_of(settings, one) is None]
        for one in missing if self.needed else ():
            self._refuse_missing(one, toml_table)
        used = tuple(dict.fromkeys((*needed, *(("sync_target_url",) if settings.target != KELET else ()))))
        for one in used:
            if one not in unusable and value_of(settings, one) is not None:
                self._check(one, reading)
        written = frozenset(
            one
            for one in TARGET_FIELDS
            if (raw := reading.raw(one)).origin != "default" and raw.toml_table == toml_table
        )
        wrong = [*contradictions(settings, written)]
        for one, error in wrong:
            self.problems.refuse(reading.raw(one).label(one), error)
        if missing or wrong or unusable.intersection((*needed, *TARGET_FIELDS)):
            return None
        parsed: dict[str, Any] = {one: value_of(settings, one) for one in SOURCE_FIELDS}
        parsed |= {field_of(one): value_of(settings, one) for one in TARGET_FIELDS if one != "sync_target_project"}
        parsed |= {"target": target_name or settings.target, "target_preset": settings.target}
        if settings.target != KELET:
            parsed["kelet_project"] = settings.target_project or settings.kelet_project or name.partition("/")[0]
            parsed["kelet_api_key"] = SecretStr("")
        if tables:
            own = [one for one in PER_SOURCE if reading.raw(one).toml_table in tables]
            shown_fields = SOURCE_FIELDS if settings.target == KELET else used
            shown_fields = tuple(dict.fromkeys((*shown_fields, *(one for one in TARGET_FIELDS if one in written))))
            self.rows += [reading.row(one, f"sources.{name}.{one}", self.problems) for one in (*shown_fields, *own)]
            parsed["own"] = tuple((field_of(one), value_of(settings, one)) for one in own)
            if any(one in own for one in ("sync_max_open", "sync_settle")):
                _warn_of_early_traces(reading.settings, f"{name}: ", self.problems)
            for number, route in enumerate(routes, 1):
                shown = self.problems.show(sync_toml.describe(route))
                self.rows.append(SettingRow(f"sources.{name}.routes.{number}", shown, f"{tables[0]} routes #{number}"))
            for number, override in enumerate(scores, 1):
                shown = self.problems.show(sync_toml.describe_override(override))
                self.rows.append(SettingRow(f"sources.{name}.scores.{number}", shown, f"{tables[0]} scores #{number}"))
        parsed["langfuse_public_key"] = reading.text("langfuse_public_key")
        files = tuple((one, file) for one in secrets_in_use(settings) if (file := reading.raw(one).file))
        source = Source(name=name, routes=routes, scores=scores, key_files=files, **parsed)
        if sends_back(source):
            loop = WrongValueError(
                "is the Langfuse project that is read: what is sent there would be read and sent for ever",
                expected="the keys of another project",
            )
            self.problems.refuse(reading.raw("sync_target_key").label("sync_target_key"), loop)
        return source

    def _check(self, name: str, reading: _Reading) -> None:
        raw, text = reading.raw(name), reading.text(name)
        if name in {"langfuse_base_url", "kelet_api_url", "sync_target_url"}:
            if values.is_plain_and_public(text) and not self.plain.settings.allow_plain_http:
                self.problems.refuse(raw.label(name), _unencrypted("send the key in the clear"), raw)
        elif name == "kelet_project":
            self._check_project(raw, name)
        elif name == "kelet_api_key" and values.is_publishable_kelet_key(text):
            self.problems.warn(
                f"{raw.label(name)}: the key from {raw.origin} starts like a publishable key, which Kelet does not "
                f"take for traces. Try: the secret key, {values.KELET_KEYS_ARE_AT}."
            )

    def _check_project(self, raw: RawValue, name: str) -> None:
        if values.is_default_project(raw.text) and not self.plain.settings.allow_default_project:
            wrong = WrongValueError(
                "Kelet puts data with a missing project there, and a wrong project is silent loss on Kelet's side",
                expected="the name of your own Kelet project",
                hint="name it, or set SYNC_ALLOW_DEFAULT_PROJECT=true if that project is meant",
            )
            self.problems.refuse(raw.label(name), wrong, raw)

    def _refuse_missing(self, name: str, toml_table: str) -> None:
        expected, where = _WHAT_IS_MISSING[name]
        variable, label = name.upper(), f"{toml_table} {name}" if toml_table else name.upper()
        ways = f"{variable} or {variable}_FILE" if name in SECRETS else variable
        hint = f"set {ways}{f', or {name} in the source' if toml_table else ''}; find it {where}"
        problem = f"missing, since {self.empty[name]} is empty" if name in self.empty else "missing"
        if missed := self.near_misses.get(name):
            problem += f"; {missed} is not a setting"
            hint = f"write {variable} there"
        if name == "kelet_project":
            problem += "; a wrong project is silent loss on Kelet's side"
        self.problems.refuse(label, WrongValueError(problem, expected=expected, hint=hint))

    def _refuse_twin(self, first: dict[str, str], identity: str, toml_table: str, what: str) -> None:
        if first.setdefault(identity, toml_table) != toml_table:
            wrong = WrongValueError(f"the same {what} as {first[identity]}", expected=f"each {what} once")
            self.problems.refuse(toml_table, wrong)
