"""`init`: writes `.env` by asking for what a first run needs. It sends nothing."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sync_worker.cli.asking import ask, can_ask, confirm
from sync_worker.cli.output import say
from sync_worker.errors import ConfigError, ExitCode
from sync_worker.settings import WrongValueError, values
from sync_worker.settings.setting_errors import looks_like_key, mask
from sync_worker.wording import counted

#: What needs no quotes for any of those who read such a file: a shell, Docker, systemd, python-dotenv.
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+=,-]*")


class _Question(NamedTuple):
    setting: str
    text: str
    parse: Callable[[str], Any]
    default: str = ""


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if not can_ask():
        raise ConfigError(
            "init asks on a terminal, and there is none. Try: cp .env.example .env and fill it in, or set the variables"
        )
    file = _file(arguments.env_file)
    if file.exists() and not confirm(f"{file} exists. Replace it?"):
        say(f"sync-worker: {file} is as it was")
        return ExitCode.USAGE
    say(f"Four answers and a project make {file}; keys are not shown. Enter takes what is in brackets.")
    answers = {question.setting: _answer(question) for question in _QUESTIONS}
    _write(file, "".join(f"{setting}={_quoted(text)}\n" for setting, text in answers.items()))
    say(f"{file} is written, readable by you alone")
    for setting in answers:
        if os.environ.get(setting):
            say(f"sync-worker: {setting} is set in the environment too, which wins over the file. Try: unset {setting}")
    option = "" if arguments.env_file is None else f" --env-file {arguments.env_file}"
    say(f"Next: sync-worker check{option}")
    return ExitCode.OK


def _file(given: str | None) -> Path:
    """Return the file to write; raises ConfigError where it cannot be written, before anything is asked."""
    try:
        file = (Path.cwd() / (".env" if given is None else values.parse_path(given))).resolve()
    except (WrongValueError, OSError) as error:
        raise ConfigError(f"--env-file: {error}. Try: the path of a file") from None
    if file.is_dir() or not os.access(file.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{file} cannot be written. Try: another folder, or --env-file with a path")
    return file


def _answer(question: _Question) -> str:
    """Ask until there is an answer that can be used, and return it."""
    default = f" [{question.default}]" if question.default else ""
    while True:
        text = ask(f"{question.text}{default}", hidden=_is_hidden(question)) or question.default
        try:
            if "${" in text:
                raise WrongValueError("holds ${, which such a file replaces", hint="a variable of the environment")
            value = question.parse(text)
        except WrongValueError as wrong:
            hint = f". Try: {wrong.hint}" if wrong.hint and not looks_like_key(wrong.hint) else ""
            say(f"  {wrong.problem}{f'; expected {wrong.expected}' if wrong.expected else ''}{hint}")
            continue
        if _is_hidden(question):
            text = str(value.get_secret_value())
            say(f"  {mask(text)}, {counted(len(text), 'character')}")
            return text
        return str(value)


def _is_hidden(question: _Question) -> bool:
    """Whether a key is asked for. The public one is: who mistakes the two would see the secret one."""
    return question.setting.endswith("_KEY")


def _address(text: str) -> str:
    url = values.parse_langfuse_url(text)
    if values.is_plain_and_public(url):
        raise WrongValueError("http:// would send the keys in the clear", expected="https://")
    return url


def _project(text: str) -> str:
    project = values.parse_project(text)
    if values.is_default_project(project):
        raise WrongValueError(
            "Kelet puts data with a missing project there", expected="the name of your own Kelet project"
        )
    return project


_QUESTIONS = (
    _Question("LANGFUSE_BASE_URL", "Address of Langfuse", _address, "https://cloud.langfuse.com"),
    _Question(
        "LANGFUSE_PUBLIC_KEY", f"Langfuse public key, {values.LANGFUSE_KEYS_ARE_AT}", values.parse_langfuse_public_key
    ),
    _Question("LANGFUSE_SECRET_KEY", "Langfuse secret key, beside it", values.parse_langfuse_secret_key),
    _Question("KELET_API_KEY", f"Kelet secret key, {values.KELET_KEYS_ARE_AT}", values.parse_kelet_key),
    _Question("KELET_PROJECT", "Kelet project, from the console's address bar", _project),
)


def _quoted(text: str) -> str:
    """Return a value as python-dotenv reads it."""
    if _PLAIN.fullmatch(text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _write(file: Path, text: str) -> None:
    """Replace the file by one that nobody else can read, at no moment. Raises ConfigError."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)  # whatever the umask
            stream.write(text)
        draft.replace(file)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written ({(error.strerror or 'unknown error').lower()}). Try: another folder"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
