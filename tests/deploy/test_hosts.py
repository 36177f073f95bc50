"""systemd units, the crontab and the image: the parts that a typing mistake would break without a word."""

from __future__ import annotations

import re
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from sync_worker.errors import ExitCode
from sync_worker.ledger.lease import WATCH_PAUSE, WATCH_POLLS
from sync_worker.watch.pages import HANGS_AFTER

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = ROOT / "deploy" / "systemd"
SERVICES = ("sync-worker.service", "sync-worker-run.service")


def unit(name: str) -> RawConfigParser:
    """Read a unit file; a key that stands twice in a section is an error."""
    parser = RawConfigParser(strict=True, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((SYSTEMD / name).read_text())
    return parser


def codes(value: str) -> set[int]:
    """Read a list of exit codes."""
    return {int(word) for word in value.split()}


class TestSystemd:
    @pytest.mark.parametrize(("name", "command"), [(SERVICES[0], "once"), (SERVICES[1], "run")])
    def test_starts_what_it_says(self, name: str, command: str) -> None:
        """The unit would start another command, or keep its settings and state somewhere else than the docs say."""
        service = unit(name)["Service"]
        assert service["ExecStart"] == f"/opt/sync-worker/scripts/sync {command}"
        assert service["EnvironmentFile"] == "/etc/sync-worker/env"
        assert service["StateDirectory"] == "sync-worker"
        assert service["WorkingDirectory"] == "/var/lib/sync-worker"
        assert "SYNC_STATE_PATH=/var/lib/sync-worker/state.db" in service["Environment"].split()

    def test_what_needs_nobody(self) -> None:
        """A refused key would pass as success, or a shutdown and a hand-started run would raise an alarm."""
        success = codes(unit("sync-worker.service")["Service"]["SuccessExitStatus"])
        assert success == {ExitCode.DEAD_LETTERS, ExitCode.LEASE, ExitCode.SIGINT, ExitCode.SIGTERM}

    def test_what_is_not_started_again(self) -> None:
        """A worker whose key is refused would knock every thirty seconds for ever."""
        service = unit("sync-worker-run.service")["Service"]
        assert service["Restart"] == "on-failure"
        assert codes(service["RestartPreventExitStatus"]) == {ExitCode.USAGE, ExitCode.CREDENTIALS}
        assert "SuccessExitStatus" not in service, "a lease that is held must be tried again"

    def test_a_hung_worker_is_noticed(self) -> None:
        """A worker that hangs would run for ever, or one that starts would be killed before it has its lease."""
        service = unit("sync-worker-run.service")["Service"]
        assert service["Type"] == "notify"
        assert "NotifyAccess" not in service, "the script must become the program, and speak for itself"
        assert int(service["WatchdogSec"].removesuffix("s")) > HANGS_AFTER
        watched = WATCH_POLLS * WATCH_PAUSE  # of another machine's lease, before it is taken over
        assert int(service["TimeoutStartSec"].removesuffix("s")) > 2 * watched

    def test_same_walls(self) -> None:
        """One of the two services would be sandboxed less than the other."""
        own = {"Type", "ExecStart", "SuccessExitStatus", "TimeoutStartSec", "WatchdogSec"}
        own |= {"Restart", "RestartSec", "RestartPreventExitStatus"}
        once, run = ({k: v for k, v in unit(name)["Service"].items() if k not in own} for name in SERVICES)
        assert once == run
        assert once["NoNewPrivileges"] == "yes"
        assert once["ProtectSystem"] == "strict"
        assert once["KillSignal"] == "SIGTERM"

    def test_timer(self) -> None:
        """The timer would start nothing, or would not be enabled at boot."""
        timer = unit("sync-worker.timer")
        assert timer["Timer"]["OnCalendar"] == "*:0/5"
        assert timer["Install"]["WantedBy"] == "timers.target"
        assert (SYSTEMD / "sync-worker.service").exists(), "a timer starts the service of its own name"

    def test_one_or_the_other(self) -> None:
        """Timer and worker would be at work on the same state file in turns."""
        assert unit("sync-worker-run.service")["Unit"]["Conflicts"] == "sync-worker.timer"
        assert "Install" not in unit("sync-worker.service")


class TestCron:
    def line(self) -> str:
        """Return the only line that cron runs."""
        (line,) = [text for text in (ROOT / "deploy/cron/sync-worker").read_text().splitlines() if text.startswith("*")]
        return line

    def run(self, tmp_path: Path, code: int) -> str:
        """Run that line with everything moved to a folder, and a program that ends with a code; returns cron's mail."""
        command = self.line().split(maxsplit=6)[6]
        for place in ("/etc/sync-worker", "/var/lib/sync-worker", "/opt/sync-worker/scripts", "/var/log/sync-worker"):
            (tmp_path / place[1:]).mkdir(parents=True)
            command = command.replace(place, f"{tmp_path}{place}")
        (tmp_path / "etc/sync-worker/env").write_text("KELET_PROJECT='a project'\n")
        program = tmp_path / "opt/sync-worker/scripts/sync"
        program.write_text(f'#!/bin/sh\necho "$* for $KELET_PROJECT in $PWD"; exit {code}\n')
        program.chmod(0o755)
        outcome = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
        log = (tmp_path / "var/log/sync-worker/sync.log").read_text()
        assert log == f"once for a project in {tmp_path}/var/lib/sync-worker\n"
        return outcome.stdout + outcome.stderr

    def test_form(self) -> None:
        """Cron reads a bare % as the end of the command, and needs the user's name in a file of /etc/cron.d."""
        assert self.line().startswith("*/5 * * * * sync-worker ")
        assert "%" not in self.line()
        assert (ROOT / "deploy/cron/sync-worker").read_text().endswith("\n")

    @pytest.mark.parametrize("code", [ExitCode.OK, ExitCode.DEAD_LETTERS, ExitCode.LEASE])
    def test_silent(self, tmp_path: Path, code: int) -> None:
        """Cron would mail every five minutes although nothing is wrong."""
        assert self.run(tmp_path, code) == ""

    @pytest.mark.parametrize("code", [ExitCode.TRANSIENT, ExitCode.USAGE, ExitCode.CREDENTIALS, ExitCode.PAUSED])
    def test_mail(self, tmp_path: Path, code: int) -> None:
        """Nobody would learn that runs fail, since cron looks at no exit code."""
        assert self.run(tmp_path, code).startswith(f"sync-worker ended with {code}, see ")


class TestImage:
    TEXT = (ROOT / "deploy" / "Dockerfile").read_text()

    def test_only_what_the_lock_pins(self) -> None:
        """The image would hold packages that nobody looked at, or be built from a base that moves between versions."""
        installs = re.findall(r"pip install (.*)", self.TEXT)
        assert installs
        for install in installs:
            assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(install.split())
        base = re.search(r"^ARG BASE=python:(3\.\d+)-slim-\w+@sha256:[0-9a-f]{64}$", self.TEXT, re.MULTILINE)
        assert base is not None
        assert set(re.findall(r"^FROM (\S+)", self.TEXT, re.MULTILINE)) == {"${BASE}"}

    def test_context_holds_no_secrets(self) -> None:
        """A .env or a state file in the checkout would be sent to the builder and could end up in a layer."""
        rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
        wanted = re.findall(r"^COPY (?!--from)(\S+)", self.TEXT, re.MULTILINE)
        assert rules[0] == "*"
        assert {rule[1:] for rule in rules if rule.startswith("!")} == set(wanted)
        assert all((ROOT / path).exists() for path in wanted)

    def test_signals_reach_the_program(self) -> None:
        """Behind a shell SIGTERM would not arrive, and every stop would be a kill."""
        entry = re.search(r"^ENTRYPOINT (.*)$", self.TEXT, re.MULTILINE)
        assert entry is not None
        assert entry[1] == '["python", "-m", "sync_worker"]'
        assert "STOPSIGNAL SIGTERM" in self.TEXT

    def test_owner_of_the_volume(self) -> None:
        """A new volume would belong to root, and the first run could not write its state."""
        user = re.search(r"^USER (\d+):(\d+)$", self.TEXT, re.MULTILINE)
        assert user is not None
        made = self.TEXT.index(f"install -d -o {user[1]} -g {user[2]} -m 0700 /var/lib/sync-worker\n")
        assert made < user.start() < self.TEXT.index("VOLUME /var/lib/sync-worker\n")
