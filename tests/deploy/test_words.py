"""Every command and every setting that the files in deploy/ name, held against those that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([ROOT / "compose.yaml", *(path for path in (ROOT / "deploy").rglob("*") if path.is_file())])
#: Pages that say how to deploy.
PAGES = [ROOT / "docs" / f"{name}.md" for name in ("running", "systemd", "docker", "kubernetes", "backfill")]
COMMANDS = {
    *("demo", "check", "once", "run", "backfill", "plan", "status", "verify", "explain", "send"),
    *("dead-letters list", "dead-letters retry", "dead-letters drop", "config show", "state merge"),
}
STARTS = re.compile(
    r"(?:scripts/sync|-m sync_worker|sync-worker:[\d.]+) ((?:dead-letters |config |state )?[a-z][\w-]*)"
)
VARIABLES = re.compile(r"\b(?:SYNC|LANGFUSE|KELET)_[A-Z_]*[A-Z]\b")


def started(path: Path) -> set[str]:
    """Return the commands that a file starts."""
    text = path.read_text()
    words = set(STARTS.findall(text))
    if path.suffix == ".yaml":
        words |= {args.split(",")[0].strip() for args in re.findall(r"^ *args: \[(.*)\]$", text, re.MULTILINE)}
        words |= set(re.findall(r"^ *args:\n *- ([a-z-]+)$", text, re.MULTILINE))
    if path.name == "Dockerfile":
        words |= {json.loads(found)[0] for found in re.findall(r"^CMD (.*)$", text, re.MULTILINE)}
    return words


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
class TestWords:
    def test_commands(self, path: Path) -> None:
        """A file would start a command that does not exist, and fail with 2 on the customer's machine."""
        assert started(path) <= COMMANDS

    def test_settings(self, path: Path) -> None:
        """A setting would be misspelt, and silently have no effect."""
        known = set(VARIABLES.findall((ROOT / ".env.example").read_text()))
        assert set(VARIABLES.findall(path.read_text())) <= known

    def test_tabs_and_ends(self, path: Path) -> None:
        """Tabs break YAML, and cron ignores a last line without an end."""
        text = path.read_text()
        assert "\t" not in text
        assert text.endswith("\n")


def test_every_way_starts_something() -> None:
    """The patterns above would match nothing, and let every mistake pass."""
    assert set().union(*map(started, [*FILES, *PAGES])) >= {"once", "run", "backfill", "check", "demo", "status"}
    starting = {path.name for path in FILES if started(path)}
    assert {
        "Dockerfile",
        "cronjob.yaml",
        "worker.yaml",
        "job.yaml",
    } <= starting
    assert {"sync-worker", "sync-worker.service", "sync-worker-run.service"} <= starting


def test_pages_name_files_that_exist() -> None:
    """A page on deployment would send its reader to a file that is not there."""
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?:/opt/sync-worker/|\b)deploy/([\w./-]*\w)", text))
    named |= set(re.findall(r"`((?:kubernetes|systemd|cron|monitoring)/[\w./-]*)`", text))
    assert len(named) > 5
    for name in named - {"sync-worker"}:  # the Deployment, as in `kubectl exec deploy/sync-worker`
        assert list(ROOT.glob(f"deploy/{name}*")), name
