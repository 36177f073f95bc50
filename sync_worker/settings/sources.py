"""What is synced to where: one source from the variables, or several from `[[sources]]` in `sync.toml`.

What a source does not say for itself it takes from the variables and from the top level of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from sync_worker.settings import tomlfile
from sync_worker.settings.model import ALIASES, SECRETS, Variables, file_name_of, names_of
from sync_worker.settings.places import KeyFiles, Resolution, Texts
from sync_worker.settings.result import Route, SettingRow, Source
from sync_worker.settings.routes import describe, parse_route
from sync_worker.settings.urls import is_plain_and_public, parse_kelet_url, parse_langfuse_url
from sync_worker.settings.values import (
    KELET_KEYS_ARE_AT,
    LANGFUSE_KEYS_ARE_AT,
    is_default_project,
    is_publishable_kelet_key,
    parse_kelet_key,
    parse_langfuse_public_key,
    parse_langfuse_secret_key,
    parse_project,
    refuse_leftovers,
)
from sync_worker.settings.wrong import Found, Report, WrongValueError, mask

_PARSERS: Final[dict[str, Callable[[str], str | SecretStr]]] = {
    "langfuse_base_url": parse_langfuse_url,
    "langfuse_public_key": parse_langfuse_public_key,
    "langfuse_secret_key": parse_langfuse_secret_key,
    "kelet_api_url": parse_kelet_url,
    "kelet_api_key": parse_kelet_key,
    "kelet_project": parse_project,
}
_KNOWN: Final = (
    "name",
    "routes",
    *_PARSERS,
    *(alias for aliases in ALIASES.values() for alias in aliases),
    *(file_name_of(field) for field in _PARSERS if field in SECRETS),
)
_NAME: Final = re.compile(r"[a-z0-9_-]+")
_WHAT_IS_MISSING: Final = {
    "langfuse_public_key": ("the public key of the Langfuse project (pk-lf-…)", LANGFUSE_KEYS_ARE_AT),
    "langfuse_secret_key": ("the secret key of the Langfuse project (sk-lf-…)", LANGFUSE_KEYS_ARE_AT),
    "kelet_api_key": ("the secret key of your Kelet organisation", KELET_KEYS_ARE_AT),
    "kelet_project": ("the Kelet project that receives the spans", "at console.kelet.ai, in its address bar"),
}


@dataclass(frozen=True, slots=True)
class _Part:
    """One value of a source: understood, as written, and the name under which messages speak of it."""

    value: str
    found: Found
    label: str


@dataclass(slots=True)
class _Draft:
    """A source of `sync.toml` as far as it says something itself."""

    name: str
    place: str  # sync.toml [[sources]] #2
    parts: dict[str, _Part]
    broken: set[str]
    routes: tuple[Route, ...] = ()


class SourceBuilder:
    """Makes the sources out of the variables and the file; problems go to the report."""

    def __init__(
        self,
        variables: Variables,
        plain: Resolution,
        empty: Mapping[str, str],
        near_misses: Mapping[str, str],
        report: Report,
    ) -> None:
        """`empty` and `near_misses` tell, by setting, where it stands without a value, or under nearly its name."""
        self._variables = variables
        self._plain = plain
        self._empty = empty
        self._near_misses = near_misses
        self._report = report
        self.rows: list[SettingRow] = []

    def from_variables(self, *, need: bool) -> tuple[Source, ...]:
        """Return the one source named `default`; none if something is missing, which is a problem only if `need`."""
        source = self._source(_Draft("default", "", {}, set()), need=need)
        return () if source is None else (source,)

    def from_file(self, tables: Any, file: Path, directory: Path, *, need: bool) -> tuple[Source, ...]:
        """Return the sources of `[[sources]]`; those with something missing are left out, a problem only if `need`."""
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._report.refuse(
                f"{file.name} sources", WrongValueError("not a list of tables", hint="write [[sources]]")
            )
            return ()
        if not tables:
            self._report.refuse(f"{file.name} sources", WrongValueError("empty", hint="remove it or add [[sources]]"))
        drafts = [self._draft(table, number, file, directory, need=need) for number, table in enumerate(tables, 1)]
        self._refuse_twins((draft.name, draft.place, "name") for draft in drafts if draft.name)
        sources = []
        for draft in drafts:
            source = self._source(draft, need=need)
            if source is not None:
                sources.append((source, draft.place))
                self._add_rows(source, draft)
        self._refuse_twins(
            (f"{source.langfuse_base_url} {source.langfuse_public_key}", place, "Langfuse project")
            for source, place in sources
        )
        return tuple(source for source, _ in sources)

    def _draft(self, table: dict[str, Any], number: int, file: Path, directory: Path, *, need: bool) -> _Draft:
        place = f"{file.name} [[sources]] #{number}"
        draft = _Draft(self._name(table.get("name"), place), place, {}, set())
        written = {key: value for key, value in table.items() if key not in {"name", "routes"}}
        texts = tomlfile.values(written, _KNOWN, place, place, self._report)
        draft.broken = {
            field for field in _PARSERS for name in _spellings(field) if name in table and name not in texts
        }
        own, files = Texts(texts), KeyFiles(texts, directory)
        for field in _PARSERS:
            label = f"{place} {field}"
            if field in texts and file_name_of(field) in texts:
                draft.broken.add(field)
                twice = f"given twice, as {field} and as {file_name_of(field)}"
                self._report.refuse(label, WrongValueError(twice, hint="remove one"))
                continue
            try:
                found = own.find(field) or files.find(field)
            except WrongValueError as wrong:
                draft.broken.add(field)
                if need:
                    self._report.refuse(label, wrong)
                else:
                    self._report.warn(f"{label}: {wrong.problem}.")
                continue
            if found is not None:
                self._understand(draft, field, found)
        draft.routes = self._routes(table.get("routes", []), place)
        return draft

    def _understand(self, draft: _Draft, field: str, found: Found) -> None:
        label = f"{draft.place} {field}"
        if found.secret:
            self._report.keep_secret(found.text)
        try:
            refuse_leftovers(found)
            draft.parts[field] = _Part(_plain_text(_PARSERS[field](found.text)), found, label)
        except WrongValueError as wrong:
            draft.broken.add(field)
            self._report.refuse(label, wrong, found)

    def _name(self, name: Any, place: str) -> str:
        expected = "a short name of the characters a-z, 0-9, _ and -"
        if name is None:
            self._report.refuse(f"{place} name", WrongValueError("missing", expected=expected))
        elif not isinstance(name, str) or not _NAME.fullmatch(name):
            found = Found(name, place) if isinstance(name, str) else None
            self._report.refuse(f"{place} name", WrongValueError("not a name", expected=expected), found)
        else:
            return name
        return ""

    def _routes(self, tables: Any, place: str) -> tuple[Route, ...]:
        if not isinstance(tables, list):
            self._report.refuse(
                f"{place} routes", WrongValueError("not a list of tables", hint="write [[sources.routes]]")
            )
            return ()
        routes = []
        for number, table in enumerate(tables, 1):
            at = f"{place} routes #{number}"
            route = parse_route(table, at, self._report)
            if route is not None:
                self._check_project(_Part(route.project, Found(route.project, at), f"{at} project"))
                routes.append(route)
        return tuple(routes)

    def _source(self, draft: _Draft, *, need: bool) -> Source | None:
        parts: dict[str, _Part] = {}
        for field in _PARSERS:
            part = draft.parts.get(field) or self._plain_part(field)
            if field in draft.broken or (field not in draft.parts and field in self._plain.broken):
                continue
            if part is not None:
                parts[field] = part
                self._check(field, part)
            elif need:
                self._refuse_missing(field, draft.place)
        if len(parts) < len(_PARSERS):
            return None
        draft.parts = parts
        return Source(
            name=draft.name,
            langfuse_base_url=parts["langfuse_base_url"].value,
            langfuse_public_key=parts["langfuse_public_key"].value,
            langfuse_secret_key=SecretStr(parts["langfuse_secret_key"].value),
            kelet_api_url=parts["kelet_api_url"].value,
            kelet_api_key=SecretStr(parts["kelet_api_key"].value),
            kelet_project=parts["kelet_project"].value,
            routes=draft.routes,
            key_files=tuple(
                (field, part.found.file)
                for field, part in parts.items()
                if field in SECRETS and part.found.file is not None
            ),
        )

    def _plain_part(self, field: str) -> _Part | None:
        value = getattr(self._variables, field)
        return None if value is None else _Part(_plain_text(value), self._plain.written(field), field.upper())

    def _check(self, field: str, part: _Part) -> None:
        if field in {"langfuse_base_url", "kelet_api_url"}:
            self._check_url(part)
        elif field == "kelet_project":
            self._check_project(part)
        elif field == "kelet_api_key" and is_publishable_kelet_key(part.value):
            self._report.warn(
                f"{part.label}: the key from {part.found.origin} starts like a publishable key, which Kelet does not "
                f"take for traces. Try: the secret key, {KELET_KEYS_ARE_AT}."
            )

    def _check_url(self, part: _Part) -> None:
        if is_plain_and_public(part.value) and not self._variables.sync_allow_plain_http:
            wrong = WrongValueError(
                "http:// would send the key in the clear to an address that is not private",
                expected="https://",
                hint="use https://, or set SYNC_ALLOW_PLAIN_HTTP=true if the way there is protected",
            )
            self._report.refuse(part.label, wrong, part.found)

    def _check_project(self, part: _Part) -> None:
        if is_default_project(part.value) and not self._variables.sync_allow_default_project:
            wrong = WrongValueError(
                "Kelet puts data with a missing project there, and a wrong project is silent loss on Kelet's side",
                expected="the name of your own Kelet project",
                hint="name it, or set SYNC_ALLOW_DEFAULT_PROJECT=true if that project is meant",
            )
            self._report.refuse(part.label, wrong, part.found)

    def _refuse_missing(self, field: str, place: str) -> None:
        expected, where = _WHAT_IS_MISSING[field]
        variable = field.upper()
        ways = f"{variable} or {variable}_FILE" if field in SECRETS else variable
        empty = self._empty.get(field)
        missed = self._near_misses.get(field)
        problem = f"missing, since {empty} is empty" if empty else "missing"
        if missed:
            problem += f"; {missed} is not a setting"
        if field == "kelet_project":
            problem += "; a wrong project is silent loss on Kelet's side"
        label = f"{place} {field}" if place else variable
        hint = f"set {ways}{f', or {field} in the source' if place else ''}; find it {where}"
        if missed:
            hint = f"write {variable} there"
        self._report.refuse(label, WrongValueError(problem, expected=expected, hint=hint))

    def _refuse_twins(self, entries: Iterable[tuple[str, str, str]]) -> None:
        first: dict[str, str] = {}
        for identity, place, what in entries:
            if identity in first:
                wrong = WrongValueError(f"the same {what} as {first[identity]}", expected=f"each {what} once")
                self._report.refuse(place, wrong)
            first.setdefault(identity, place)

    def _add_rows(self, source: Source, draft: _Draft) -> None:
        for field, part in draft.parts.items():
            value = mask(part.value) if field in SECRETS else self._report.show(part.value)
            self.rows.append(SettingRow(f"sources.{source.name}.{field}", value, part.found.origin))
        for number, route in enumerate(source.routes, 1):
            row = SettingRow(
                f"sources.{source.name}.routes.{number}",
                self._report.show(describe(route)),
                f"{draft.place} routes #{number}",
            )
            self.rows.append(row)


def _spellings(field: str) -> tuple[str, ...]:
    return (*names_of(field), file_name_of(field))


def _plain_text(value: str | SecretStr) -> str:
    return value if isinstance(value, str) else value.get_secret_value()
