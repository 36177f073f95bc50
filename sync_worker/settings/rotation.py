"""Keys that change while the worker runs: those that stand in files are read again.

Kubernetes swaps a link for all files of a mounted secret, a minute or so after the secret was changed; others write one
file after the other. So a file may be missing, empty or half written, and one key be new while the other is still old.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from sync_worker.settings.model import Source, field_of, value_of
from sync_worker.settings.setting_errors import RawValue, WrongValueError
from sync_worker.settings.setting_sources import Texts, parse, read_secret_file


@dataclass(frozen=True, slots=True)
class Reread:
    """A source with its keys as their files hold them now; `changed` are the files whose key is another one.

    It is not `complete` while a file holds no key, or only one of Langfuse's two keys has changed.
    """

    source: Source
    changed: tuple[Path, ...]
    complete: bool


def reread(source: Source) -> Reread:
    """Read the files of a source's keys again; a key whose file cannot be read, or holds none, stays what it was."""
    raws: dict[str, RawValue] = {}
    for name, file in source.key_files:
        with contextlib.suppress(WrongValueError, OSError):
            if file.is_file():  # a pipe gives its key once, and would then be waited for
                raws[name] = RawValue(read_secret_file(file, "", str(file)), "", secret=True, file=file)
    if all(raw.text == _key_of(source, name).get_secret_value() for name, raw in raws.items()):
        return Reread(source, (), complete=len(raws) == len(source.key_files))  # parsing takes longer than the rest
    settings, _, wrong = parse([Texts(raws)])
    keys: dict[str, SecretStr] = {name: value_of(settings, name) for name in raws if name not in wrong}
    changed = [name for name, key in keys.items() if key != _key_of(source, name)]
    one_of_two = len({name for name, _ in source.key_files if name.startswith("langfuse_")}) == 2 and (
        len({name for name in changed if name.startswith("langfuse_")}) == 1
    )
    complete = len(keys) == len(source.key_files) and not one_of_two
    new: dict[str, SecretStr | str] = {field_of(name): keys[name] for name in changed}
    if "langfuse_public_key" in changed:
        new["langfuse_public_key"] = keys["langfuse_public_key"].get_secret_value()
    files = dict(source.key_files)
    current = replace(source, **new) if new else source  # type: ignore[arg-type]  # by name
    return Reread(current, tuple(dict.fromkeys(files[name] for name in changed)), complete)


def _key_of(source: Source, name: str) -> SecretStr:
    key: SecretStr | str = getattr(source, field_of(name))
    return SecretStr(key) if isinstance(key, str) else key
