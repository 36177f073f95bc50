"""Setting sources: where values are looked for, and the order in which they win.

Command line, environment, files named by `*_FILE` in the environment, `.env`, files named by `*_FILE` there, the
secrets folder, `sync.toml`; then the default. pydantic-settings asks the sources in this order and merges what they
have. What they hand out are raw values, which know where they stood; its own sources do not. A value that is empty in
the environment or in `.env` counts as not given, since that is what an unset variable becomes in Compose files and
Helm charts.
"""

from __future__ import annotations

import io
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from dotenv.parser import Binding, parse_stream
from dotenv.variables import parse_variables
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from sync_worker.settings import setting_errors
from sync_worker.settings.file_reading import read_bytes, read_text
from sync_worker.settings.model import FIELDS, INFO, PATHS, SECRETS, WHEREABOUTS, Settings, file_name_of, names_of
from sync_worker.settings.setting_errors import Problems, RawValue, WrongValueError
from sync_worker.settings.values import parse_path
from sync_worker.wording import nearest

#: What to try where a file of settings is not there.
ANOTHER_PATH: Final = "another path, or without it"
_MOST_LINES = 3  # of a file of variables that are each reported
_LARGEST_SECRET_FILE = 65536  # bytes; a larger file is no key but a wrong path
_SPECIAL_FLAGS = {"sync_state_path": "--state"}
_SHORT_FLAGS = {"-v": "sync_log_level", "-q": "sync_log_level"}
#: Pairs of quotes that a shell, an editor or a word processor puts around a value.
_QUOTES: Final = ('""', "''", "``", "“”", "„“", "‘’", "«»")


class SettingSource(PydanticBaseSettingsSource):
    """One place where values stand."""

    def __init__(self, toml_table: str = "") -> None:
        """`toml_table` is the table of `sync.toml` that this is, if it is one."""
        super().__init__(Settings)
        self._toml_table = toml_table

    @abstractmethod
    def find(self, name: str) -> RawValue | None:
        """Return the value of a setting in this place, or None; raises WrongValueError if it cannot be read."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the raw value of one setting, its key, and that it is no JSON."""
        try:
            raw = self.find(field_name)
        except WrongValueError as error:
            raw = RawValue("", "", self._toml_table, error=error)
        if raw is not None and (wrong := leftovers(raw, path=field_name in PATHS)):
            raw = replace(raw, error=wrong)
        return raw, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the raw values of this source that no source before it has, by setting."""
        asked = (name for name in FIELDS if name not in self.current_state)
        found = {name: self.get_field_value(INFO[name], name)[0] for name in asked}
        return {name: raw for name, raw in found.items() if raw is not None}


class Texts(SettingSource):
    """A source that is known in full: the command line, the environment, `.env`, `sync.toml`."""

    def __init__(self, raws: Mapping[str, RawValue], toml_table: str = "") -> None:
        super().__init__(toml_table)
        self._raws = raws

    def find(self, name: str) -> RawValue | None:
        """Return the value that stands under the first of the setting's names."""
        return next((self._raws[one] for one in names_of(name) if one in self._raws), None)


class KeyFiles(SettingSource):
    """Files that hold one secret each; `paths` maps names such as `kelet_api_key_file` to their paths as written.

    They are read only when asked for, so a file that is overruled need not exist.
    """

    def __init__(self, paths: Mapping[str, RawValue], directory: Path, toml_table: str = "") -> None:
        super().__init__(toml_table)
        self._paths = paths
        self._directory = directory

    def find(self, name: str) -> RawValue | None:
        """Return the content of the file that is named for the setting."""
        path = self._paths.get(file_name_of(name)) if name in SECRETS else None
        if path is None:
            return None
        if wrong := leftovers(path, path=True):
            raise WrongValueError(f"the path in {path.origin} {wrong.problem}", hint=wrong.hint)
        file = self._directory / parse_path(path.text)
        shown = str(file)
        if setting_errors.looks_like_key(path.text) or not path.text.strip().startswith(("/", "./", "../", "~")):
            # Somebody may have put the key itself there.
            shown = "named there, which must be a path and not the key itself,"
        text = read_secret_file(file, path.origin, shown)
        return RawValue(text, f"file {file} ({path.origin})", self._toml_table, secret=True, file=file)


class SecretsFolder(SettingSource):
    """A folder of files that are named like settings, in any case, as Docker and Kubernetes mount secrets."""

    def __init__(self, folder: Path, problems: Problems) -> None:
        super().__init__()
        self._folder = folder
        self._files: dict[str, list[Path]] = {}
        try:
            for file in sorted(folder.iterdir()):
                self._files.setdefault(file.name.lower(), []).append(file)
        except OSError as error:
            wrong = WrongValueError(f"the folder {folder} cannot be read: {reason(error)}")
            problems.refuse("SYNC_SECRETS_DIR", wrong)

    def find(self, name: str) -> RawValue | None:
        """Return the content of the file that is named like the setting."""
        files = next((self._files[one] for one in names_of(name) if one in self._files), [])
        if not files or name in WHEREABOUTS:
            return None
        if len(files) > 1:
            listed = " and ".join(file.name for file in files)
            raise WrongValueError(
                f"two files in the secrets folder {self._folder} hold it: {listed}", hint="remove one"
            )
        text = read_secret_file(files[0], "secrets folder", str(files[0]))
        return RawValue(text, f"secrets folder {files[0]}", secret=name in SECRETS, file=files[0])


class _Merged(PydanticBaseSettingsSource):
    """Stands last and keeps what the sources before it have, each with its origin: a parsed value has none."""

    raws: dict[str, RawValue]

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return nothing."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return nothing, too."""
        self.raws = dict(self.current_state)
        return {}


def parse(sources: Iterable[SettingSource]) -> tuple[Settings, dict[str, RawValue], dict[str, WrongValueError]]:
    """Ask the sources, the first that has a value wins; return the settings, the raw values and all that is wrong.

    A setting that is wrong has its default in the settings, so that the checks can go on.
    """
    merged = _Merged(Settings)
    wrong: dict[str, WrongValueError] = {}
    try:
        settings = Settings(setting_sources=[*sources, merged])
    except ValidationError as error:
        wrong = setting_errors.in_our_words(error, INFO)
        right = Texts({name: raw for name, raw in merged.raws.items() if name not in wrong})
        settings = Settings(setting_sources=[right])
    return settings, merged.raws, {name: raw.error for name, raw in merged.raws.items() if raw.error} | wrong


def leftovers(raw: RawValue, *, path: bool = False) -> WrongValueError | None:
    """Return what is wrong where a file of variables was not read as a shell would; None if nothing is.

    `docker run --env-file` and systemd hand on quotes (also around nothing) and, in the environment, what was meant as
    a comment. No setting begins and ends with quotes. ` #` may be part of a path, ` # ` hardly.
    """
    text, expected = raw.text.strip(), "the value alone"
    if any(len(text) > 1 and text[0] == pair[0] and text[-1] == pair[1] for pair in _QUOTES):
        problem, hint = "stands in quotes that belong to the value", "remove the quotes"
    elif raw.bare and re.search(r"\s#\s" if path else r"\s#", text):
        problem, hint = "holds a comment that belongs to the value", "put the comment on a line of its own"
    else:
        return None
    return WrongValueError(problem, expected=expected, hint=hint)


def command_line(overrides: Mapping[str, str], problems: Problems) -> dict[str, RawValue]:
    """Return what the command line gives: keys are variables (`SYNC_STATE_PATH`, any case) or flags (`--state`)."""
    flags = {name: _SPECIAL_FLAGS.get(name, "--" + name.removeprefix("sync_").replace("_", "-")) for name in FIELDS}
    names = {flag: name for name, flag in flags.items()} | _SHORT_FLAGS
    raws = {}
    for given, text in overrides.items():
        name = names.get(given, given.lower())
        if name in flags:
            flag = given if given in names else flags[name]
            raws[name] = RawValue(text, f"command line {flag}", secret=name in SECRETS)
        else:
            near = nearest(given, flags.values() if given.startswith("-") else (one.upper() for one in flags))
            problems.refuse(given, WrongValueError("not a setting", hint=near))
    return raws


def environment(environ: Mapping[str, str]) -> dict[str, RawValue]:
    """Return all of the environment, by the names as they are written there."""
    return {
        name: RawValue(text, f"environment variable {name}", secret=name.lower() in SECRETS, bare=True)
        for name, text in environ.items()
    }


def dotenv(
    file: Path, environ: Mapping[str, str], problems: Problems, *, must_exist: bool = False
) -> dict[str, RawValue]:
    """Return all of a file of variables, by the names as they are written there; empty if there is no such file.

    `${NAME}` and `${NAME:-default}` in a value are replaced, from lines above and from the environment.
    """
    try:
        bindings = list(parse_stream(io.StringIO(read_text(file), newline=None)))
    except FileNotFoundError:
        if must_exist:
            problems.refuse("--env-file", WrongValueError(f"the file {file} does not exist", hint=ANOTHER_PATH))
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.refuse(str(file), unreadable(error))
        return {}
    raws: dict[str, RawValue] = {}
    known = dict(environ)
    wrong: list[int] = []
    for binding in bindings:
        line = _line_of(binding)
        if binding.error:
            wrong.append(line)
        elif binding.key is not None and binding.value is not None:
            text = known[binding.key] = "".join(atom.resolve(known) for atom in parse_variables(binding.value))
            raws[binding.key] = RawValue(
                text, f"{file.name} line {line} ({file})", secret=binding.key.lower() in SECRETS
            )
    # The lines themselves are not shown: they may hold a key.
    for number, line in enumerate(wrong[:_MOST_LINES], 1):
        more = len(wrong) - number if number == _MOST_LINES else 0
        label = f"{file} line {line}{f', and {more} more' if more else ''}"
        problems.refuse(label, WrongValueError("cannot be read", expected="NAME=value, and closed quotes"))
    return raws


def variables(raws: Mapping[str, RawValue]) -> dict[str, RawValue]:
    """Return those that can be settings, by their names in lower case.

    Only upper case is ours, as in a shell; a name in another case is warned of as unknown.
    """
    return {name.lower(): raw for name, raw in raws.items() if name.isupper() and raw.text.strip()}


def read_secret_file(file: Path, origin: str, shown: str) -> str:
    """Return the stripped content of a file that holds one value; raises WrongValueError without the content."""
    try:
        content = read_bytes(file, _LARGEST_SECRET_FILE)
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


def unreadable(error: OSError | UnicodeDecodeError) -> WrongValueError:
    """Return what is wrong with a file of settings that cannot be read."""
    if isinstance(error, OSError):
        return WrongValueError(f"cannot be read ({reason(error)})", hint="a text file that this user may read")
    return WrongValueError("cannot be read, since it is not UTF-8 text", hint="save it as UTF-8")


def reason(error: OSError) -> str:
    """Return why a file cannot be used, in the system's words and without its path."""
    return (error.strerror or type(error).__name__).lower()


def _line_of(binding: Binding) -> int:
    # The parser counts blank lines before a statement as part of it.
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    return binding.original.line + len(re.findall(r"\r\n|\n|\r", blank))
