"""The bill of materials: all that the locks pin, and nothing that changes from one run to the next."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sync_worker import __version__

ROOT = Path(__file__).resolve().parents[2]
LOCKS = [ROOT / "requirements" / name for name in ("runtime.txt", "redaction.txt")]


def made(*locks: Path) -> str:
    """Return what the script prints for some locks."""
    script = ROOT / "scripts" / "lib" / "sbom.py"
    done = subprocess.run(
        [sys.executable, "-I", script, *locks], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    return json.loads(made(*LOCKS))  # type: ignore[no-any-return]


def test_every_pin_with_its_hashes(bill: dict[str, Any]) -> None:
    """A package would be shipped that no scanner hears of, or one be checked under another version."""
    text = "\n".join(lock.read_text() for lock in LOCKS)
    pins = {f"pkg:pypi/{name}@{version}" for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)}
    assert {component["purl"] for component in bill["components"]} == pins
    hashes = [one["content"] for component in bill["components"] for one in component["hashes"]]
    assert sorted(hashes) == sorted(re.findall(r"sha256:([0-9a-f]{64})", text))


def test_licences(bill: dict[str, Any]) -> None:
    """Nobody could say under which licences the image is."""
    assert [component["name"] for component in bill["components"] if not component.get("licenses")] == []


def test_everything_is_reached_from_the_worker(bill: dict[str, Any]) -> None:
    """A dependency would hang in the air, or a reference lead nowhere."""
    needs = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    own = bill["metadata"]["component"]
    assert (own["name"], own["version"]) == ("langfuse-kelet-sync", __version__)
    reached: set[str] = set()
    waiting = [own["bom-ref"]]
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += needs[ref]
    assert reached == {own["bom-ref"]} | {component["bom-ref"] for component in bill["components"]}


def test_repeatable_and_of_no_registry(bill: dict[str, Any]) -> None:
    """Two builds of one version would differ, or the document name where somebody's packages come from."""
    text = made(*LOCKS)
    assert json.loads(text) == bill
    assert re.findall(r"https?://\S+", text) == []


def test_versions_for_some_platforms_only(tmp_path: Path) -> None:
    """Of two versions with markers, one would be lost."""
    lock = tmp_path / "lock.txt"
    pins = (f'some_thing=={version} ; {marker} \\\n    --hash=sha256:{version * 64}\n' for version, marker in (
        ("1", "python_full_version < '3.12'"), ("2", "python_full_version >= '3.12'"),
    ))  # fmt: skip
    lock.write_text("".join(pins))
    first, second = json.loads(made(lock))["components"]
    assert (first["purl"], second["purl"]) == ("pkg:pypi/some-thing@1", "pkg:pypi/some-thing@2")
    assert first["properties"] == [{"name": "python:marker", "value": "python_full_version < '3.12'"}]
    assert [len(one["hashes"]) for one in (first, second)] == [1, 1]


def test_a_reader_that_stops_is_no_error() -> None:
    """`scripts/sbom | head` would end with a traceback."""
    script = ROOT / "scripts" / "lib" / "sbom.py"
    with subprocess.Popen(
        [sys.executable, "-I", script, LOCKS[0]], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert (running.stderr.read(), running.wait(60)) == (b"", 0)
