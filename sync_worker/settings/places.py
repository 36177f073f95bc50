"""The places where values are looked for, and the order in which they win.

Command line, environment, files named by `*_FILE` in the environment, `.env`, files named by `*_FILE` there, the
secrets folder, `sync.toml`; then the default. Each place hands out values as they are written, with a word on where
they stood. A value that is empty in the environment or in `.env` counts as not given, since that is what an unset
variable becomes in Compose files and Helm charts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from dotenv.parser import Binding, parse_stream
from dotenv.variables import parse_variables
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from sync_worker.settings.model import (
    FIELDS,
    PATHS,
    SECRETS,
    WHEREABOUTS,
    Variables,
    default_text,
    file_name_of,
    names_of,
)
from sync_worker.settings.names import suggestion
from sync_worker.settings.values import parse_path, refuse_leftovers
from sync_worker.settings.wrong import Found, Report, WrongValueError, looks_like_key

DEFAULT_ORIGIN = "default"
_LARGEST_SECRET_FILE = 65536  # bytes; a larger file is no key but a wrong path
_SPECIAL_FLAGS = {"sync_state_path": "--state"}


class Place(Protocol):
    """One place where values stand."""

    def find(self, field: str) -> Found | None:
        """Return the value of `field` in this place, or None; raises WrongValueError if it cannot be read."""


class Texts:
    """A place that is known in full: the command line, the environment, `.env`, `sync.toml`."""

    def __init__(self, found: Mapping[str, Found]) -> None:
        self._found = {field: found[name] for field in FIELDS for name in reversed(names_of(field)) if name in found}

    def find(self, field: str) -> Found | None:
        """Return the value of `field`, or None."""
        return self._found.get(field)


class KeyFiles:
    """Files that hold one secret each; `paths` maps names such as `kelet_api_key_file` to their paths as written.

    They are read only when asked for, so a file that is overruled need not exist.
    """

    def __init__(self, paths: Mapping[str, Found], directory: Path) -> None:
        self._paths = paths
        self._directory = directory
        self._read: dict[str, Found] = {}  # once only: a path may be a pipe, such as Bash makes of <(command)

    def find(self, field: str) -> Found | None:
        """Return the content of the file named for `field`, or None; raises WrongValueError."""
        path = self._paths.get(file_name_of(field)) if field in SECRETS else None
        if path is None:
            return None
        if field not in self._read:
            try:
                refuse_leftovers(path, path=True)
            except WrongValueError as wrong:
                raise WrongValueError(f"the path in {path.origin} {wrong.problem}", hint=wrong.hint) from None
            file = self._directory / parse_path(path.text)
            shown = str(file)
            if looks_like_key(path.text) or not path.text.strip().startswith(("/", "./", "../", "~")):
                # Somebody may have put the key itself there.
                shown = "named there, which must be a path and not the key itself,"
            self._read[field] = Found(
                read_secret_file(file, path.origin, shown), f"file {file} ({path.origin})", secret=True, file=file
            )
        return self._read[field]


class SecretsFolder:
    """A folder of files that are named like settings, in any case, as Docker and Kubernetes mount secrets."""

    def __init__(self, folder: Path) -> None:
        """List the folder; raises OSError."""
        self._folder = folder
        self._files: dict[str, list[Path]] = {}
        for file in sorted(folder.iterdir()):
            self._files.setdefault(file.name.lower(), []).append(file)

    def find(self, field: str) -> Found | None:
        """Return the content of the file of `field`, or None; raises WrongValueError."""
        if field in WHEREABOUTS:
            return None
        for name in names_of(field):
            files = self._files.get(name, [])
            if len(files) > 1:
                listed = " and ".join(file.name for file in files)
                raise WrongValueError(
                    f"two files in the secrets folder {self._folder} hold it: {listed}", hint="remove one"
                )
            if files:
                text = read_secret_file(files[0], "secrets folder", str(files[0]))
                return Found(text, f"secrets folder {files[0]}", secret=field in SECRETS, file=files[0])
        return None


class Resolution:
    """What the places gave for each field: the winner's text and place, and which fields could not be read."""

    def __init__(self, places: list[Place], report: Report, *, tolerate_unreadable: bool) -> None:
        self._places = places
        self._report = report
        self._tolerate = tolerate_unreadable
        self.found: dict[str, Found] = {}
        self.broken: set[str] = set()  # reported already: neither used nor called missing

    def variables(self) -> Variables:
        """Ask the places and understand what they say.

        Problems go to the report; a setting that is wrong has its default in the answer and is listed in `broken`.
        """
        sources = [_Source(Variables, place, self) for place in self._places]

        class Bound(Variables):
            @classmethod
            def settings_customise_sources(
                cls, settings_cls: type[BaseSettings], *_: Any, **__: Any
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return tuple(sources)

        return Bound()

    def ask(self, place: Place, field: str) -> Found | None:
        """Return what `place` has for `field`, unless a place before had it."""
        if field in self.broken:
            return None
        found = None
        try:
            found = place.find(field)
            if found is not None:
                self._keep_secret(found)
                refuse_leftovers(found, path=field in PATHS)
        except WrongValueError as wrong:
            self.broken.add(field)
            if self._tolerate and field in SECRETS:
                self._report.warn(f"{field.upper()}: {wrong.problem}.")
            else:
                self._report.refuse(field.upper(), wrong, found)
            return None
        if found is not None:
            self.found[field] = found
        return found

    def _keep_secret(self, found: Found) -> None:
        if found.secret:
            self._report.keep_secret(found.text)

    def drop(self, field: str) -> None:
        """Go on as if the value of `field`, which turned out wrong, had not been given."""
        self.broken.add(field)
        self.found.pop(field, None)

    def written(self, field: str) -> Found:
        """Return the text of `field` and its origin; the default's if no place gave one."""
        return self.found.get(field) or Found(default_text(field), DEFAULT_ORIGIN, secret=field in SECRETS)


class _Source(PydanticBaseSettingsSource):
    """A place, as pydantic-settings asks for it."""

    def __init__(self, settings_cls: type[BaseSettings], place: Place, resolution: Resolution) -> None:
        super().__init__(settings_cls)
        self._place = place
        self._resolution = resolution

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of one field, its key, and that it is no JSON."""
        found = None if field_name in self.current_state else self._resolution.ask(self._place, field_name)
        if found is None:
            return None, field_name, False
        # Wrapped, so that no repr and no debug log of pydantic-settings shows it.
        return SecretStr(found.text) if found.secret else found.text, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values of this place that no place before it has."""
        given = {name: self.get_field_value(field, name)[0] for name, field in Variables.model_fields.items()}
        return {name: value for name, value in given.items() if value is not None}


def command_line(overrides: Mapping[str, str], report: Report) -> dict[str, Found]:
    """Return what the command line gives: keys are variables (`SYNC_STATE_PATH`, any case) or flags (`--state`)."""
    flags = {field: _SPECIAL_FLAGS.get(field, _flag(field)) for field in FIELDS}
    fields = {flag: field for field, flag in flags.items()}
    found = {}
    for name, text in overrides.items():
        field = fields.get(name, name.lower())
        if field in flags:
            found[field] = Found(text, f"command line {flags[field]}", secret=field in SECRETS)
        else:
            near = suggestion(name, flags.values() if name.startswith("-") else (field.upper() for field in flags))
            report.refuse(name, WrongValueError("not a setting", hint=near))
    return found


def variables_of(environ: Mapping[str, str]) -> dict[str, Found]:
    """Return what the environment gives, by names in lower case."""
    return _named({name: (text, f"environment variable {name}") for name, text in environ.items()}, bare=True)


def dotenv_texts(file: Path, environ: Mapping[str, str], report: Report) -> dict[str, tuple[str, str]]:
    """All of `.env`: name to value and place; empty if there is no such file. Problems go to the report.

    `${NAME}` and `${NAME:-default}` in a value are replaced, from lines above and from the environment.
    """
    try:
        with file.open(encoding="utf-8-sig") as stream:
            bindings = list(parse_stream(stream))
    except FileNotFoundError:
        return {}
    except OSError as error:
        report.refuse(str(file), WrongValueError(f"cannot be read ({reason(error)})"))
        return {}
    except UnicodeDecodeError:
        report.refuse(str(file), WrongValueError("cannot be read, since it is not UTF-8 text"))
        return {}
    texts: dict[str, tuple[str, str]] = {}
    known = dict(environ)
    for binding in bindings:
        line = _line_of(binding)
        if binding.error:
            # The line itself is not shown: it may hold a key.
            report.refuse(
                f"{file} line {line}", WrongValueError("cannot be read", expected="NAME=value, and closed quotes")
            )
        elif binding.key is not None and binding.value is not None:
            text = "".join(atom.resolve(known) for atom in parse_variables(binding.value))
            known[binding.key] = text
            texts[binding.key] = (text, f".env line {line} ({file})")
    return texts


def dotenv_variables(texts: Mapping[str, tuple[str, str]]) -> dict[str, Found]:
    """Return what `.env` gives, by names in lower case."""
    return _named(texts)


def empty_origins(environ: Mapping[str, str], dotenv: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Where a name, in lower case, is written but has no value: worth a word when the setting is missing."""
    empty = {name: origin for name, (text, origin) in dotenv.items() if not text.strip()}
    empty |= {name: f"environment variable {name}" for name, text in environ.items() if not text.strip()}
    return {name.lower(): origin for name, origin in empty.items()}


def read_secret_file(file: Path, origin: str, shown: str) -> str:
    """Return the stripped content of a file that holds one value; raises WrongValueError without the content."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_SECRET_FILE + 1)
    except FileNotFoundError:
        raise WrongValueError(f"the file {shown} does not exist ({origin})") from None
    except OSError as error:
        raise WrongValueError(f"the file {shown} cannot be read ({origin}): {reason(error)}") from None
    if len(content) > _LARGEST_SECRET_FILE:
        raise WrongValueError(f"the file {shown} is too large ({origin})", expected="a file that holds the value alone")
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise WrongValueError(f"the file {shown} is not UTF-8 text ({origin})") from None
    if not text:
        raise WrongValueError(f"the file {shown} is empty ({origin})", expected="a file that holds the value alone")
    return text


def reason(error: OSError) -> str:
    """Return why a file cannot be used, in the system's words and without its path."""
    return (error.strerror or type(error).__name__).lower()


def _flag(field: str) -> str:
    return "--" + field.removeprefix("sync_").replace("_", "-")


def _named(texts: Mapping[str, tuple[str, str]], *, bare: bool = False) -> dict[str, Found]:
    # Only upper case is ours, as in a shell; a name in another case is warned of as unknown.
    return {
        name.lower(): Found(text, origin, secret=name.lower() in SECRETS, bare=bare)
        for name, (text, origin) in texts.items()
        if name.isupper() and text.strip()
    }


def _line_of(binding: Binding) -> int:
    # The parser counts blank lines before a statement as part of it.
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    return binding.original.line + len(re.findall(r"\r\n|\n|\r", blank))
