"""The scripts that set up the environment and start the program; no test here runs pip or touches the network."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "runtime.txt"
SHELL_SCRIPTS = [
    "scripts/sync",
    "scripts/test",
    "scripts/lint",
    "scripts/lock",
    "scripts/completions",
    "scripts/sbom",
    "scripts/test-packages",
    "scripts/docs",
    "scripts/docs-site",
    "scripts/fidelity",
    "scripts/simulate",
    "scripts/mutate",
    "scripts/soak",
    "scripts/bench",
    ".ci/run",
]

# Stands in for the environment's Python: tells, as JSON on stdout, how it was started.
REPORTER = f"""#!{sys.executable} -S
import json, os, sys
keys = ("PYTHONPATH", "SYNC_VENV")
print(json.dumps({{"args": sys.argv[1:], "cwd": os.getcwd(), **{{k: os.environ.get(k) for k in keys}}}}))
"""


def program(path: Path, text: str) -> Path:
    """Write an executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def start(
    script: Path, *arguments: str, cwd: Path | None = None, **variables: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run a script with a few variables set and the ones that it reads otherwise unset."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in {"PYTHON", "PYTHONPATH", "SYNC_VENV", "SYNC_VENV_DEV", "SYNC_VENV_BENCH", "UV"}
    }
    environ = kept | {name: str(value) for name, value in variables.items()}
    return subprocess.run(
        [str(script), *arguments], cwd=cwd, env=environ, capture_output=True, text=True, timeout=120, check=False
    )


def sync(*arguments: str, cwd: Path | None = None, **variables: str | Path) -> subprocess.CompletedProcess[str]:
    """Run scripts/sync."""
    return start(ROOT / "scripts" / "sync", *arguments, cwd=cwd, **variables)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Return an environment that is whole, with the reporter in the place of its Python."""
    place = tmp_path / "made"
    program(place / "bin" / "python", REPORTER)
    (place / ".made-from").write_bytes(LOCK.read_bytes())
    return place


class TestStart:
    def test_goes_straight_to_the_program(self, made: Path) -> None:
        """A whole environment would be made again, or stdout would carry talk that breaks `--json`."""
        outcome = sync("status", "--json", SYNC_VENV=made, PYTHON="/nowhere/python")
        assert (outcome.returncode, outcome.stderr) == (0, "")
        assert json.loads(outcome.stdout)["args"] == ["-P", "-S", f"{ROOT}/scripts/lib/start.py", "status", "--json"]

    def test_arguments_arrive_as_they_were_typed(self, made: Path) -> None:
        """Spaces, empty arguments or stars would be split, dropped or expanded on the way."""
        arguments = ["explain", "two words", "", "*", "--from=2026-01-01", "$HOME"]
        outcome = sync(*arguments, SYNC_VENV=made)
        assert json.loads(outcome.stdout)["args"][3:] == arguments

    def test_working_directory_stays(self, made: Path, tmp_path: Path) -> None:
        """The user's .env would not be found, or a module lying beside it would shadow one of ours."""
        elsewhere = tmp_path / "else where"
        elsewhere.mkdir()
        report = json.loads(sync("once", cwd=elsewhere, SYNC_VENV=made).stdout)
        assert report["cwd"] == str(elsewhere)
        assert report["PYTHONPATH"] == str(ROOT)

    def test_pythonpath_is_kept(self, made: Path) -> None:
        """A PYTHONPATH that was set would be lost, or an empty one would put the working directory on the path."""
        kept = json.loads(sync("once", SYNC_VENV=made, PYTHONPATH="/one:/two").stdout)
        empty = json.loads(sync("once", SYNC_VENV=made, PYTHONPATH="").stdout)
        assert (kept["PYTHONPATH"], empty["PYTHONPATH"]) == (f"{ROOT}:/one:/two", str(ROOT))

    def test_own_setting_is_not_handed_on(self, made: Path) -> None:
        """The program would meet a SYNC_ variable that is none of its settings."""
        assert json.loads(sync("once", SYNC_VENV=made).stdout)["SYNC_VENV"] is None

    def test_place_relative_to_the_working_directory(self, made: Path) -> None:
        """SYNC_VENV=venv would be looked for somewhere else than where the user stands."""
        assert sync("once", cwd=made.parent, SYNC_VENV=made.name).returncode == 0

    def test_through_a_link(self, made: Path, tmp_path: Path) -> None:
        """A link in ~/bin would take ~ for the checkout."""
        link = tmp_path / "bin" / "sync-worker"
        link.parent.mkdir()
        link.symlink_to(ROOT / "scripts" / "sync")
        assert json.loads(start(link, "once", SYNC_VENV=made).stdout)["PYTHONPATH"] == str(ROOT)

    def test_exit_code_of_the_program(self, made: Path) -> None:
        """Cron and systemd would not learn that credentials were refused."""
        program(made / "bin" / "python", "#!/bin/sh\nexit 4\n")
        assert sync("once", SYNC_VENV=made).returncode == 4


class TestSetUp:
    MAKER = """#!/bin/sh
case $1 in
    -c) echo 3.12.4 ;;
    -I) echo "talk of $2"; mkdir -p "$3/bin"; cp "$REPORTER" "$3/bin/python"; exit "${FAIL:-0}" ;;
esac
"""

    @pytest.mark.parametrize("lacks", ["everything", "lock", "whole lock", "python"])
    def test_made_when_not_whole(self, made: Path, tmp_path: Path, lacks: str) -> None:
        """A half-made or outdated environment would be started, or talk would go to stdout."""
        reporter = program(tmp_path / "reporter", REPORTER)
        match lacks:
            case "everything":
                made = tmp_path / "new"
            case "lock":
                (made / ".made-from").write_bytes(b"")
            case "whole lock":
                (made / ".made-from").write_bytes(LOCK.read_bytes()[:-1])
            case _:
                (made / "bin" / "python").unlink()
        maker = program(tmp_path / "maker", self.MAKER)
        outcome = sync("status", SYNC_VENV=made, PYTHON=maker, REPORTER=reporter)
        assert outcome.returncode == 0
        assert outcome.stderr.startswith("talk of ")
        assert json.loads(outcome.stdout)["args"][-1] == "status"

    def test_failed_set_up_starts_nothing(self, tmp_path: Path) -> None:
        """The program would be started in an environment that lacks packages, and fail with a traceback."""
        maker = program(tmp_path / "maker", self.MAKER)
        reporter = program(tmp_path / "reporter", REPORTER)
        outcome = sync("status", SYNC_VENV=tmp_path / "new", PYTHON=maker, REPORTER=reporter, FAIL="1")
        assert (outcome.returncode, outcome.stdout) == (1, "")

    @pytest.mark.parametrize("to", ["the script", "all"])
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_stopped_while_it_is_made(self, tmp_path: Path, to: str, number: int, code: int) -> None:
        """A stop would leave pip at work behind a script that is gone, or show a traceback."""
        maker = program(
            tmp_path / "maker",
            f"#!/bin/sh\n[ $1 = -c ] && echo 3.12.4 && exit\nexec {sys.executable} -I -c '\n"
            "import runpy, subprocess, sys, time\n"
            'subprocess.run = lambda *_, **__: (print("at work", flush=True), time.sleep(60))\n'
            "sys.argv = sys.argv[2:]\n"
            'runpy.run_path(sys.argv[0], run_name="__main__")\' "$@"\n',
        )
        environ = {**os.environ, "SYNC_VENV": str(tmp_path / "new"), "PYTHON": str(maker)}
        with subprocess.Popen(
            [str(ROOT / "scripts" / "sync"), "once"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        ) as process:  # fmt: skip
            assert process.stderr is not None
            printed = process.stderr.readline() + process.stderr.readline()
            assert printed.endswith("at work\n")
            started = time.monotonic()
            (os.kill if to == "the script" else os.killpg)(process.pid, number)
            out, err = process.communicate(timeout=120)
        assert time.monotonic() - started < 45
        assert (process.returncode, out) == (code, "")
        assert err == f"Interrupted; the next start makes {tmp_path / 'new'} anew.\n"

    def test_nobody_to_say_anything_to(self, made: Path, tmp_path: Path) -> None:
        """Cron jobs with a closed stderr would not start, and nobody would know why."""
        program(made / "bin" / "python", "#!/bin/sh\necho started >&2\nexit 4\n")
        script = ["sh", "-c", f'"{ROOT}/scripts/sync" once 2>&-']
        assert subprocess.run(script, env={**os.environ, "SYNC_VENV": str(made)}, check=False).returncode == 4
        maker = program(tmp_path / "maker", self.MAKER)
        environ = {
            **os.environ,
            "SYNC_VENV": str(tmp_path / "new"),
            "PYTHON": str(maker),
            "REPORTER": str(made / "bin" / "python"),
        }
        assert subprocess.run(script, env=environ, check=False).returncode == 4


class TestPython:
    NAMES = ("python3.13", "python3.12", "python3.11", "python3", "python3.14", "python3.15", "python")

    def search(self, tmp_path: Path, **found: str) -> subprocess.CompletedProcess[str]:
        """Run with a PATH on which each name of a Python is a stand-in."""
        for name in self.NAMES:
            program(tmp_path / "bin" / name, found.get(name.replace(".", "_"), "#!/bin/sh\nexit 127\n"))
        return sync("once", SYNC_VENV=tmp_path / "new", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def test_too_old(self, tmp_path: Path) -> None:
        """A machine with an old Python would get a traceback, or an environment that cannot work."""
        outcome = self.search(tmp_path, python3="#!/bin/sh\necho 3.10.4\n")
        assert outcome.returncode == 2
        assert outcome.stdout == ""
        assert outcome.stderr == (
            "No Python 3.11 or later found (python3 is 3.10.4). "
            "Try: install one, or name it with PYTHON=/path/to/python3.12.\n"
        )
        assert not (tmp_path / "new").exists()

    def test_none_at_all(self, tmp_path: Path) -> None:
        """Without any Python the shell's own words would be all that is said."""
        outcome = self.search(tmp_path)
        assert outcome.returncode == 2
        assert outcome.stderr.startswith("No Python 3.11 or later found. Try: ")
        assert outcome.stderr.count("\n") == 1

    def test_without_venv(self, tmp_path: Path) -> None:
        """Debian without python3-venv would fail inside venv, with a page of advice about another command."""
        outcome = self.search(tmp_path, python3="#!/bin/sh\necho 3.12.3\nexit 1\n")
        assert outcome.returncode == 2
        assert outcome.stderr == (
            "Python 3.12 (python3) lacks venv or ensurepip. "
            "Try: install them (Debian and Ubuntu: apt install python3.12-venv).\n"
        )

    def test_an_incomplete_one_is_passed_over(self, tmp_path: Path) -> None:
        """A complete python3.11 would not be used, because a newer one without venv stands before it."""
        complete = '#!/bin/sh\n[ "$1" = -c ] && echo 3.11.2 && exit 0\necho "made by $0" >&2; exit 1\n'
        outcome = self.search(tmp_path, python3_12="#!/bin/sh\necho 3.12.3\nexit 1\n", python3_11=complete)
        assert outcome.stderr == f"made by {tmp_path}/bin/python3.11\n"

    def test_the_named_one_or_none(self, tmp_path: Path) -> None:
        """A PYTHON that was named and does not do would be replaced by another one in silence."""
        old = program(tmp_path / "old", "#!/bin/sh\necho 2.7.18\n")
        outcome = sync("once", SYNC_VENV=tmp_path / "new", PYTHON=old)
        assert outcome.returncode == 2
        assert outcome.stderr == (
            f"PYTHON={old} is not a Python 3.11 or later ({old} is 2.7.18). "
            "Try: PYTHON=/path/to/python3.12, or leave PYTHON unset.\n"
        )


@pytest.fixture
def environment() -> ModuleType:
    """Load scripts/lib/environment.py."""
    spec = importlib.util.spec_from_file_location("environment_script", ROOT / "scripts" / "lib" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestMaking:
    def install(
        self, module: ModuleType, monkeypatch: pytest.MonkeyPatch, during: Callable[[list[str]], None] | None = None
    ) -> list[list[str]]:
        """Put a stand-in before venv and pip; returns the list in which their commands turn up."""
        commands: list[list[str]] = []

        def run(command: list[str], **_: Any) -> None:
            commands.append(command)
            if "venv" in command:
                program(Path(command[-1]) / "bin" / "python", "#!/bin/sh\n")
            if during is not None:
                during(command)

        monkeypatch.setattr(module.subprocess, "run", run)
        return commands

    def test_whole_only_at_the_end(
        self, environment: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """An environment whose making was killed would be taken for a whole one."""
        place, seen = tmp_path / "env", []
        commands = self.install(
            environment, monkeypatch, lambda _: seen.append((place / ".made-from").read_bytes() == LOCK.read_bytes())
        )
        assert environment.main(place, LOCK, "SYNC_VENV") == 0
        assert seen == [False, False, False]
        assert (place / ".made-from").read_bytes() == LOCK.read_bytes()
        assert {"--require-hashes", "--no-deps", "-I"} <= set(commands[1])

    def test_an_older_one_is_emptied(
        self, environment: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Packages of an older lock would stay importable beside the new ones."""
        place = tmp_path / "env"
        (place / "lib" / "python3.11" / "site-packages" / "left_over").mkdir(parents=True)
        (place / ".made-from").write_text("an older lock\n")
        self.install(environment, monkeypatch)
        assert environment.main(place, LOCK, "SYNC_VENV") == 0
        assert not (place / "lib").exists()

    def test_folder_of_somebody_else(
        self,
        environment: ModuleType,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """SYNC_VENV=$HOME would lose its bin and lib."""
        commands = self.install(environment, monkeypatch)
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "mine").touch()
        assert environment.main(tmp_path, LOCK, "SYNC_VENV") == 2
        assert commands == []
        assert [path.name for path in tmp_path.rglob("*")] == ["bin", "mine"]
        assert "Try: SYNC_VENV=" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "fault", [subprocess.CalledProcessError(1, ["pip"]), KeyboardInterrupt()], ids=["pip", "Ctrl-C"]
    )
    def test_broken_off(
        self,
        environment: ModuleType,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        fault: BaseException,
    ) -> None:
        """The next start would use what a failed install left, or nobody would say what to try."""

        def fail(_: list[str]) -> None:
            raise fault

        self.install(environment, monkeypatch, fail)
        place = tmp_path / "env"
        code = environment.main(place, LOCK, "SYNC_VENV")
        assert code == (130 if isinstance(fault, KeyboardInterrupt) else 1)
        captured = capsys.readouterr()
        assert (place / ".made-from").read_bytes() == b""
        assert captured.out == ""
        assert captured.err.count("\n") == 2

    def test_two_at_the_same_time(
        self,
        environment: ModuleType,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Two starts would delete and install over each other."""
        working, go_on = threading.Event(), threading.Event()

        def during(_: list[str]) -> None:
            working.set()
            assert go_on.wait(45)

        commands = self.install(environment, monkeypatch, during)
        codes: list[int] = []
        starts = [
            threading.Thread(target=lambda: codes.append(environment.main(tmp_path / "env", LOCK, "SYNC_VENV")))
            for _ in range(2)
        ]
        starts[0].start()
        assert working.wait(45)
        monkeypatch.setattr(environment, "say", lambda _: go_on.set())  # the second one says that it waits
        starts[1].start()
        for one in starts:
            one.join(45)
        assert codes == [0, 0]
        assert len(commands) == 3  # venv, the lock, and what has no build for every system
        assert go_on.is_set()


class TestOthers:
    @pytest.mark.parametrize("name", [*SHELL_SCRIPTS, "scripts/lib/environment.sh"])
    def test_plain_shell(self, name: str) -> None:
        """A script would fail on a machine whose sh is not bash, or not start at all."""
        assert subprocess.run(["sh", "-n", ROOT / name], check=False).returncode == 0
        assert os.access(ROOT / name, os.X_OK) == (name in SHELL_SCRIPTS)

    def test_lock_without_uv(self) -> None:
        """Whoever wants to lock would see `not found` and no way on."""
        outcome = start(ROOT / "scripts" / "lock", UV="/nowhere/uv")
        assert outcome.returncode == 2
        assert "Try: pipx install uv" in outcome.stderr

    @pytest.mark.parametrize(
        ("typed", "arguments"),
        [
            ([], ["-n", "auto", "--dist", "worksteal"]),
            (["tests/unit", "-k", "a or b"], ["-n", "auto", "--dist", "worksteal", "tests/unit", "-k", "a or b"]),
            (["--quick", "-x"], ["-p", "no:xdist", "--quick", "-x"]),
            (
                ["--coverage"],
                ["-n", "auto", "--dist", "worksteal", "--cov", "--cov-report=term:skip-covered"],
            ),
        ],
    )
    def test_what_pytest_gets(self, tmp_path: Path, typed: list[str], arguments: list[str]) -> None:
        """An option of pytest would be lost, or the tests would run on one core."""
        place = tmp_path / "made"
        program(place / "bin" / "python", REPORTER)
        (place / ".made-from").write_bytes((ROOT / "requirements" / "dev.txt").read_bytes())
        outcome = start(ROOT / "scripts" / "test", *typed, SYNC_VENV_DEV=place)
        assert json.loads(outcome.stdout)["args"] == ["-m", "pytest", *arguments]

    @pytest.mark.parametrize(
        ("lint", "tests", "site", "code"), [(0, 0, 0, 0), (1, 0, 0, 1), (0, 5, 0, 1), (0, 0, 1, 1), (1, 1, 1, 1)]
    )
    def test_each_fails_the_whole(self, tmp_path: Path, lint: int, tests: int, site: int, code: int) -> None:
        """A failing change would pass, or the other steps would be left out after one fails."""
        run = program(tmp_path / ".ci" / "run", (ROOT / ".ci" / "run").read_text())
        program(tmp_path / "scripts" / "lint", f"#!/bin/sh\necho looked; exit {lint}\n")
        program(tmp_path / "scripts" / "test", f"#!/bin/sh\necho tested; exit {tests}\n")
        program(tmp_path / "scripts" / "docs-site", f"#!/bin/sh\necho built; exit {site}\n")
        outcome = start(run)
        assert outcome.returncode == code
        assert "looked" in outcome.stdout
        assert "tested" in outcome.stdout
        assert "built" in outcome.stdout
