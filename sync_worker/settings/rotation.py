"""Keys that change while the worker runs: those that stand in files are read again.

Kubernetes swaps a link for all files of a mounted secret, a minute or so after the secret was changed; others write one
file after the other. So a file may be missing, empty or half written, and one key be new while the other is still old.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from sync_worker.settings.places import read_secret_file
from sync_worker.settings.result import Source
from sync_worker.settings.values import parse_kelet_key, parse_langfuse_public_key, parse_langfuse_secret_key
from sync_worker.settings.wrong import WrongValueError

_PARSERS: Final[dict[str, Callable[[str], SecretStr]]] = {
    "langfuse_public_key": parse_langfuse_public_key,
    "langfuse_secret_key": parse_langfuse_secret_key,
    "kelet_api_key": parse_kelet_key,
}


@dataclass(frozen=True, slots=True)
class Reread:
    """A source with its keys as their files hold them now; `changed` are the files whose key is another one.

    It is not `settled` while a file holds no key, or only one of Langfuse's two keys has changed.
    """

    source: Source
    changed: tuple[Path, ...]
    settled: bool


def reread(source: Source) -> Reread:
    """Read the files of a source's keys again; a key whose file cannot be read, or holds none, stays what it was."""
    keys: dict[str, str] = {}
    changed: dict[str, Path] = {}
    for field, file in source.key_files:
        key = _key(field, file)
        if key is not None:
            keys[field] = key
            if key != _plain(getattr(source, field)):
                changed[field] = file
    pair = [field for field, _ in source.key_files if field.startswith("langfuse_")]
    settled = len(keys) == len(source.key_files) and (
        len(pair) < 2 or len([field for field in pair if field in changed]) != 1
    )
    if not changed:
        return Reread(source, (), settled)
    new = replace(
        source,
        langfuse_public_key=keys.get("langfuse_public_key", source.langfuse_public_key),
        langfuse_secret_key=SecretStr(keys.get("langfuse_secret_key", _plain(source.langfuse_secret_key))),
        kelet_api_key=SecretStr(keys.get("kelet_api_key", _plain(source.kelet_api_key))),
    )
    return Reread(new, tuple(dict.fromkeys(changed.values())), settled)


def _key(field: str, file: Path) -> str | None:
    try:
        if not file.is_file():  # a pipe gives its key once, and would then be waited for
            return None
        return _PARSERS[field](read_secret_file(file, "", str(file))).get_secret_value()
    except (WrongValueError, OSError):
        return None


def _plain(key: str | SecretStr) -> str:
    return key if isinstance(key, str) else key.get_secret_value()
