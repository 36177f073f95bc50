"""Every command and every setting that the files in deploy/ name, held against those that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for path in (ROOT / "deploy").rglob("*") if path.is_file())
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
    assert set().union(*map(started, FILES)) >= {"once", "run", "backfill", "check", "demo", "status"}
    starting = {path.name for path in FILES if started(path)}
    assert {
        "Dockerfile",
        "cronjob.yaml",
        "worker.yaml",
        "backfill-job.yaml",
        "backfill-shards.yaml",
        "merge-job.yaml",
        "README.md",
    } <= starting
    assert {"sync-worker", "sync-worker.service", "sync-worker-run.service"} <= starting


def test_readme_names_files_that_exist() -> None:
    """The deployment page would send its reader to a file that is not there."""
    text = (ROOT / "deploy" / "README.md").read_text()
    named = set(re.findall(r"(?:/opt/sync-worker/|deploy/)((?:deploy|kubernetes|systemd|cron)/[\w.-]+)", text))
    assert named
    for name in named:
        path = name if name.startswith("deploy/") else f"deploy/{name}"
        assert list(ROOT.glob(path + "*")), name
    for name in yaml.safe_load((ROOT / "deploy/kubernetes/kustomization.yaml").read_text())["resources"]:
        assert (ROOT / "deploy" / "kubernetes" / name).is_file()
