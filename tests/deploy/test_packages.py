"""The source distribution and the wheel, built as for an index: what is in them, and whether they run."""

from __future__ import annotations

import email
import os
import re
import subprocess
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from sync_worker import __version__
from tests.support.building import NAME, ROOT, WHEEL, build, python


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sdist, its content, and the wheel that was built from that."""
    folder = tmp_path_factory.mktemp("built")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(built / WHEEL)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return email.message_from_bytes(wheel.read(f"{NAME}.dist-info/METADATA"))


def of_the_package() -> set[str]:
    """Return the files of the package in this checkout."""
    files = (file for file in (ROOT / "sync_worker").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(ROOT).as_posix() for file in files}


def test_the_wheel_has_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """The demo would lack its data, or a user's environment would get tests, caches, keys or a state file."""
    own = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    assert set(wheel.namelist()) == of_the_package() | own | {f"{NAME}.dist-info/licenses/LICENSE"}


def test_the_sdist_has_no_more_than_is_documented(built: Path) -> None:
    """A virtual environment, `.env` or a state file of the checkout would be published."""
    found = {file.relative_to(built / NAME).as_posix() for file in (built / NAME).rglob("*") if file.is_file()}
    beside = {name for name in found if not name.startswith(("sync_worker/", "docs/"))}
    assert beside == {
        "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "PKG-INFO", "pyproject.toml", ".gitignore",
        ".env.example", "sync.toml.example", "sync.schema.json", "requirements/runtime.txt",
    }  # fmt: skip
    assert of_the_package() <= found


def test_the_metadata_is_that_of_the_program(metadata: Message) -> None:
    """An index would show another version than `--version` prints, or the README as raw text."""
    assert (metadata["Name"], metadata["Version"]) == ("langfuse-kelet-sync", __version__)
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["License-Expression"] == "Apache-2.0"
    body = metadata.get_payload(decode=True)
    assert isinstance(body, bytes)
    assert body.decode().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()


def test_the_version_is_the_same_everywhere() -> None:
    """An image would be built under one version and deployed under another."""
    pages = [ROOT / "README.md", ROOT / "compose.yaml", *(ROOT / "docs").glob("*.md")]
    pages += [file for file in (ROOT / "deploy").rglob("*") if file.is_file()]
    tags = {
        (page.name, found)
        for page in pages
        for found in re.findall(r"sync-worker:(\d[\w.]*)|newTag: \"(.*)\"", page.read_text(encoding="utf-8"))
    }
    assert {next(filter(None, tag)) for _, tag in tags} == {__version__}
    assert f'version = "{__version__}"' not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_installed_wheel_runs(built: Path, tmp_path: Path) -> None:
    """`pip install` would give a command that does not start."""
    file = built / WHEEL
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", tmp_path, file)
    python(*install, cwd=tmp_path)
    program = [str(tmp_path / "bin" / "sync-worker"), "--version"]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(program, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, f"sync-worker {__version__}\n"), done.stderr
