"""Keys that stand in files may change while the worker runs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sync_worker.settings import Source, load, reread

OLD = {"LANGFUSE_PUBLIC_KEY": "pk-lf-older-one", "LANGFUSE_SECRET_KEY": "sk-lf-older-one", "KELET_API_KEY": "kelet-old"}
NEW = {"LANGFUSE_PUBLIC_KEY": "pk-lf-newer-one", "LANGFUSE_SECRET_KEY": "sk-lf-newer-one", "KELET_API_KEY": "kelet-new"}


def _write(folder: Path, keys: dict[str, str]) -> None:
    for name, key in keys.items():
        (folder / name).write_text(key + "\n")


def _keys(source: Source) -> tuple[str, str, str]:
    return (
        source.langfuse_public_key,
        source.langfuse_secret_key.get_secret_value(),
        source.kelet_api_key.get_secret_value(),
    )


@pytest.fixture(params=["files", "folder", "toml"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """A source whose keys stand in the folder `keys`, named in each way in which that can be said."""
    folder = tmp_path / "keys"
    folder.mkdir()
    _write(folder, OLD)
    environ = {"KELET_PROJECT": "lab"}
    if request.param == "files":
        environ |= {f"{name}_FILE": str(folder / name) for name in OLD}
    elif request.param == "folder":
        environ["SYNC_SECRETS_DIR"] = str(folder)
    else:
        lines = [f'{name.lower()}_file = "{folder / name}"' for name in OLD]
        (tmp_path / "sync.toml").write_text("\n".join(["[[sources]]", 'name = "one"', *lines]))
    (found,) = load(environ=environ, directory=tmp_path).sources
    assert _keys(found) == tuple(OLD.values())
    return found


def test_keys_that_did_not_change(source: Source) -> None:
    """Each cycle would take the keys for new ones."""
    found = reread(source)
    assert (found.source, found.changed, found.complete) == (source, (), True)


def test_new_keys(source: Source, tmp_path: Path) -> None:
    """The worker would go on with keys that are dead until somebody starts it anew."""
    _write(tmp_path / "keys", NEW)
    found = reread(source)
    assert _keys(found.source) == tuple(NEW.values())
    assert (len(found.changed), found.complete) == (3, True)
    assert reread(found.source).changed == ()
    assert not any(key in repr(found) for key in NEW.values())


@pytest.mark.parametrize("content", [None, "", "\n", "\xff\xfe"])
def test_file_that_is_being_written(source: Source, tmp_path: Path, content: str | None) -> None:
    """A file that is empty or gone for a moment would take the key away that still works."""
    file = tmp_path / "keys" / "LANGFUSE_SECRET_KEY"
    file.unlink()
    if content is not None:
        file.write_text(content)
    found = reread(source)
    assert (_keys(found.source), found.changed, found.complete) == (tuple(OLD.values()), (), False)


def test_key_in_quotes(source: Source, tmp_path: Path) -> None:
    """A key would be taken while the worker runs that it refuses to start with."""
    _write(tmp_path / "keys", {"KELET_API_KEY": '"kelet-new"'})
    found = reread(source)
    assert (_keys(found.source), found.changed, found.complete) == (tuple(OLD.values()), (), False)


def test_one_key_of_two(source: Source, tmp_path: Path) -> None:
    """A pair of which one is new and the other old would be taken for what was written."""
    _write(tmp_path / "keys", {"LANGFUSE_PUBLIC_KEY": NEW["LANGFUSE_PUBLIC_KEY"]})
    assert not reread(source).complete
    _write(tmp_path / "keys", NEW)
    assert reread(source).complete


def test_mounted_secret_is_swapped_by_its_link(tmp_path: Path) -> None:
    """Kubernetes replaces the folder behind `..data`, and never writes to a file."""
    mounted = tmp_path / "mounted"
    for version, keys in (("..1", OLD), ("..2", NEW)):
        (mounted / version).mkdir(parents=True)
        _write(mounted / version, keys)
    (mounted / "..data").symlink_to("..1")
    for name in OLD:
        (mounted / name).symlink_to(Path("..data") / name)
    (source,) = load(environ={"KELET_PROJECT": "lab", "SYNC_SECRETS_DIR": str(mounted)}, directory=tmp_path).sources
    (mounted / "..data_tmp").symlink_to("..2")
    (mounted / "..data_tmp").rename(mounted / "..data")
    assert _keys(reread(source).source) == tuple(NEW.values())


def test_pipe_is_read_once(tmp_path: Path) -> None:
    """A second look at what `<(command)` makes in a shell would wait for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    os.write(writer, OLD["KELET_API_KEY"].encode())
    environ = {name: key for name, key in OLD.items() if name != "KELET_API_KEY"} | {"KELET_PROJECT": "lab"}
    closing = threading.Timer(0.2, os.close, [writer])
    closing.start()
    (source,) = load(environ=environ | {"KELET_API_KEY_FILE": str(pipe)}, directory=tmp_path).sources
    closing.join()
    assert _keys(reread(source).source) == tuple(OLD.values())


def test_keys_of_the_environment_have_no_file(tmp_path: Path) -> None:
    """`run` would wait for ever for keys that nobody can change."""
    (source,) = load(environ={**OLD, "KELET_PROJECT": "lab"}, directory=tmp_path).sources
    assert source.key_files == ()
