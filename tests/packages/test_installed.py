"""The wheel, installed with pip, pipx and uv into environments of its own, and used like the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sync_worker import __version__
from tests.support.building import ROOT, WHEEL, build

_TOOLS = Path(os.environ.get("SYNC_TEST_PACKAGES", "/nowhere")) / "bin"
_SECONDS = 300
INSTALLERS = ("pip", "pipx", "uv")


def run(words: list[object], folder: Path, **environ: object) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, with nothing of the checkout in its environment."""
    known = {name: os.environ[name] for name in ("PATH", "LANG", "SSL_CERT_FILE", "HTTPS_PROXY") if name in os.environ}
    known |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}
    return subprocess.run(
        [str(word) for word in words], cwd=folder, capture_output=True, text=True, check=False, timeout=_SECONDS,
        env={**known, "HOME": str(folder), **{name: str(value) for name, value in environ.items()}},
    )  # fmt: skip


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build(folder)
    return folder / WHEEL


@pytest.fixture(scope="session", params=INSTALLERS)
def program(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of the command that one of the installers made."""
    place = tmp_path_factory.mktemp(request.param)
    commands = place / "bin"
    if request.param == "pip":
        done = run([sys.executable, "-m", "venv", place], place)
        done = run([commands / "python", "-m", "pip", "install", "--quiet", wheel], place)
    elif request.param == "pipx":
        variables = {"PIPX_HOME": place / "home", "PIPX_BIN_DIR": commands, "PIPX_MAN_DIR": place / "man"}
        done = run([_TOOLS / "pipx", "install", "--python", sys.executable, wheel], place, **variables)
    else:
        variables = {"UV_TOOL_DIR": place / "home", "UV_TOOL_BIN_DIR": commands, "UV_CACHE_DIR": place / "cache"}
        done = run([_TOOLS / "uv", "tool", "install", "--python", sys.executable, wheel], place, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return commands / "sync-worker"


def test_version(program: Path, tmp_path: Path) -> None:
    """The command would not be there, or be that of another version."""
    done = run([program, "--version"], tmp_path)
    assert (done.returncode, done.stdout) == (0, f"sync-worker {__version__}\n"), done.stderr


def test_demo(program: Path, tmp_path: Path) -> None:
    """The recorded data would not be in the package, or a dependency would be missing."""
    done = run([program, "demo"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "161 spans of 37 traces and 7 signals arrived." in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == [], "the demo leaves nothing behind"


@pytest.mark.parametrize("arguments", [["--help"], ["check"], ["check", "--json"], ["config", "show"], ["chek"]])
def test_like_the_checkout(program: Path, tmp_path: Path, arguments: list[str]) -> None:
    """The installed command would take or say something else than the docs show of `scripts/sync`."""
    installed = run([program, *arguments], tmp_path)
    checkout = run([sys.executable, "-m", "sync_worker", *arguments], tmp_path, PYTHONPATH=ROOT)
    assert (installed.returncode, installed.stdout, installed.stderr) == (
        checkout.returncode,
        checkout.stdout,
        checkout.stderr,
    )


def test_settings_are_found(program: Path, tmp_path: Path) -> None:
    """`.env` of the working directory would not be read, or the state file be written beside the package."""
    (tmp_path / ".env").write_text("KELET_PROJECT=mine\n")
    shown = json.loads(run([program, "config", "show", "--json"], tmp_path).stdout)
    assert "mine" in json.dumps(shown)
    assert str(tmp_path) in json.dumps(shown)


def test_bill_of_materials_is_valid() -> None:
    """A scanner would reject the document."""
    locks = [ROOT / "requirements" / name for name in ("runtime.txt", "redaction.txt")]
    made = subprocess.run(
        [sys.executable, "-I", ROOT / "scripts" / "lib" / "sbom.py", *locks], capture_output=True, text=True,
        check=True, timeout=60,
    ).stdout  # fmt: skip
    code = (
        "import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import *\n"
        "sys.exit(str(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()) or '') or None)"
    )
    for text, code_expected in ((made, 0), (made.replace('"version": 1,', '"version": 0,'), 1)):
        done = subprocess.run(
            [_TOOLS / "python", "-I", "-c", code], input=text, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == code_expected, done.stderr
