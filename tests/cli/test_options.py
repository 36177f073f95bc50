"""The options of every command: what is logged and shown, where settings stand, colours and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sync_worker.clock import SystemClock
from sync_worker.errors import ExitCode
from sync_worker.ledger import open_ledger
from tests.cli.program import on_terminal, run

KEYS = {
    "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
    "LANGFUSE_SECRET_KEY": "sk-lf-1",
    "KELET_API_KEY": "key-of-kelet",
    "KELET_PROJECT": "shop",
}


def _rows(out: str) -> dict[str, tuple[str, str]]:
    rows = [line.split("\t") for line in out.splitlines()]
    return {name: (value, origin) for name, value, origin in rows}


@pytest.mark.parametrize("arguments", ["-v config show", "config -v show", "config show -v", "config show --verbose"])
def test_an_option_of_every_command_stands_anywhere(tmp_path: Path, arguments: str) -> None:
    """-v is only taken in one place, or is forgotten where it stands before the command."""
    code, out, err = run(tmp_path, *arguments.split(), environ={"SYNC_LOG_LEVEL": "warning"})
    assert (code, err, _rows(out)["SYNC_LOG_LEVEL"]) == (0, "", ("debug", "command line -v"))


@pytest.mark.parametrize("arguments", ["-q config show", "config show --quiet"])
def test_the_flag_wins_over_the_level(tmp_path: Path, arguments: str) -> None:
    """SYNC_LOG_LEVEL=debug in .env cannot be turned down for one run."""
    (tmp_path / ".env").write_text("SYNC_LOG_LEVEL=debug\n")
    assert _rows(run(tmp_path, *arguments.split())[1])["SYNC_LOG_LEVEL"] == ("error", "command line -q")


def test_loud_and_quiet_at_once(tmp_path: Path) -> None:
    """One of two opposite wishes is followed, whichever comes last."""
    code, out, err = run(tmp_path, "-v", "config", "show", "-q")
    assert (code, out, err.count("\n")) == (ExitCode.USAGE, "", 1)


def test_quiet_leaves_the_result_alone(tmp_path: Path) -> None:
    """Cron sends a mail for each run that went well, or -q hides what was asked for."""
    code, out, err = run(tmp_path, "demo", "-q")
    assert (code, err, "trace " in out) == (0, "", True)
    code, out, err = run(tmp_path, "-q", "status")
    assert (code, out, "there is no state file" in err) == (ExitCode.USAGE, "", True)


def test_verbose_logs_every_request(tmp_path: Path) -> None:
    """-v says no more than the default."""
    _, _, err = run(tmp_path, "demo", "-v")
    assert "debug: " in err
    assert "debug: " not in run(tmp_path, "demo")[2]


def test_settings_from_other_files(tmp_path: Path) -> None:
    """--config or --env-file reads the usual file, or that too; the environment no longer wins."""
    (tmp_path / ".env").write_text("SYNC_INTERVAL=1m\nSYNC_SETTLE=1s\n")
    (tmp_path / "sync.toml").write_text('sync_updates = "ignore"\n')
    (tmp_path / "prod").mkdir()
    (tmp_path / "prod" / "vars").write_text("SYNC_INTERVAL=2m\nSYNC_MAX_OPEN=2h\nSYNC_CONFIG=nowhere.toml\n")
    (tmp_path / "prod" / "sync.toml").write_text('sync_max_open = "3h"\nsync_patience = "9m"\n')
    options = ["--env-file", "prod/vars", "config", "show", "--config", "prod/sync.toml"]
    code, out, err = run(tmp_path, *options, environ={"SYNC_MAX_OPEN": "4h"})
    rows = _rows(out)
    assert (code, err) == (0, "")
    assert rows["SYNC_INTERVAL"] == ("2m", f"vars line 1 ({tmp_path}/prod/vars)")
    assert rows["SYNC_MAX_OPEN"] == ("4h", "environment variable SYNC_MAX_OPEN")
    assert rows["SYNC_PATIENCE"] == ("9m", f"sync.toml ({tmp_path}/prod/sync.toml)")
    assert rows["SYNC_CONFIG"] == ("prod/sync.toml", "command line --config")
    assert [rows[name][1] for name in ("SYNC_SETTLE", "SYNC_UPDATES")] == ["default", "default"]


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (["--config", "no.toml"], "--config: the file {0}/no.toml does not exist. Try: another path, or without it."),
        (["--env-file", "no.env"], "--env-file: the file {0}/no.env does not exist. Try: another path, or without it."),
        (["--env-file", "."], "{0}: cannot be read (is a directory). Try: a text file that this user may read."),
        (["--env-file", ""], "--env-file: empty; expected a path."),
        (["--env-file="], "--env-file: empty; expected a path."),
        (["--config="], "SYNC_CONFIG: empty; got '' from command line --config; expected a path."),
    ],
)
def test_a_file_that_was_named_must_exist(tmp_path: Path, options: list[str], printed: str) -> None:
    """A mistyped file name is passed over in silence, and the settings of somewhere else are used."""
    for arguments in (["once", *options], [*options, "config", "show"]):
        code, out, err = run(tmp_path, *arguments, environ=KEYS)
        assert (code, out, err) == (ExitCode.USAGE, "", f"sync-worker: {printed.format(tmp_path)}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "\udcff"], ["send", "\udcff"], ["convert", "--trace", "\udcff"],
        ["privacy", "test", "--trace", "\udcff"], ["dead-letters", "list", "--reason", "\udcff"],
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    """Bytes of another encoding end as an unexpected error, which asks for a report."""
    code, _, err = run(tmp_path, *arguments, environ=KEYS)
    assert (code, "not UTF-8 text" in err, len(err.splitlines())) == (ExitCode.USAGE, True, 1), err


@pytest.mark.parametrize("path", ["", "x" * 300])
@pytest.mark.parametrize("command", [["convert"], ["privacy", "test"], ["state", "merge"], ["once", "--metrics-file"]])
def test_what_is_no_path_is_refused(tmp_path: Path, command: list[str], path: str) -> None:
    """An empty variable in a script is the working directory, or a name that is too long an unexpected error."""
    code, _, err = run(tmp_path, *command, path, environ=KEYS)
    assert (code, " path" in err, len(err.splitlines())) == (ExitCode.USAGE, True, 1), err


@pytest.mark.parametrize(
    "arguments",
    [
        ["once"], ["backfill", "--from", "1d", "--to", "now"], ["check", "--offline"],
        ["dead-letters", "drop", "--all", "--yes"], ["dead-letters", "list"],
    ],
)  # fmt: skip
def test_a_source_without_a_name_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    """An empty variable in a script syncs every source, or drops the dead letters of all."""
    open_ledger(tmp_path / "sync-state.db", SystemClock()).close()
    code, _, err = run(tmp_path, *arguments, "--source", "", environ=KEYS)
    assert (code, "--source '': there is no such source. Try: one of default" in err) == (ExitCode.USAGE, True), err


@pytest.mark.parametrize("arguments", ["status x", "dead-letters list --after x", "backfill", "once x"])
def test_wrong_arguments_are_an_object_too(tmp_path: Path, arguments: str) -> None:
    """A script that reads the JSON of a command finds nothing there where its arguments are wrong."""
    code, out, err = run(tmp_path, *arguments.split(), "--json")
    assert json.loads(out) == {"error": err.strip().partition(": ")[2], "exit_code": ExitCode.USAGE}
    assert (code, len(err.splitlines())) == (ExitCode.USAGE, 1)
    assert run(tmp_path, *arguments.split())[1] == ""


def test_a_pipe_may_hold_the_variables(tmp_path: Path) -> None:
    """`--env-file /dev/stdin`, for keys that should be in no file, is not read."""
    given = tmp_path / "given"
    given.write_text("SYNC_INTERVAL=7m\n")
    code, shown = on_terminal(
        tmp_path, "config", "show", "--env-file", "/dev/stdin", dialog=[("", "SYNC_INTERVAL=7m\n\x04")]
    )
    assert (code, "7m" in shown) == (0, True)


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_an_empty_time_is_not_left_out(tmp_path: Path, option: str) -> None:
    """An empty variable in a script tests the routes of another hour than was meant."""
    nowhere = {"LANGFUSE_BASE_URL": "http://127.0.0.1:1", "SYNC_PATIENCE": "1s"}
    code, _, err = run(tmp_path, "routes", "test", option, "", environ=KEYS | nowhere)
    assert (code, f"{option} '': not a time" in err) == (ExitCode.USAGE, True)


def test_a_table_in_a_pipe_has_tabs(tmp_path: Path) -> None:
    """`cut` cannot find the columns of a table, since cells are empty or have spaces in them."""
    _, out, _ = run(tmp_path, "config", "show", environ={"SYNC_INCLUDE_TAGS": "two words,b"})
    lines = out.splitlines()
    assert {line.count("\t") for line in lines} == {2}
    assert lines[0] == "setting\tvalue\tfrom"
    assert _rows(out)["SYNC_INCLUDE_TAGS"] == ("two words,b", "environment variable SYNC_INCLUDE_TAGS")


def test_a_table_on_a_terminal_is_aligned(tmp_path: Path) -> None:
    """A table is not aligned for a reader, or its last column breaks its lines."""
    code, shown = on_terminal(tmp_path, "config", "show", size=(24, 100), environ={"SYNC_STATE_PATH": "x" * 30})
    lines = shown.splitlines()
    assert (code, "\t" in shown) == (0, False)
    assert lines[0].startswith("\x1b[1msetting ")
    at = {line.index(word) for line, word in ((lines[5], "default"), (lines[0].removeprefix("\x1b[1m"), "from"))}
    assert len(at) == 1
    assert max(map(len, lines[1:])) <= 100


@pytest.mark.parametrize(
    ("environ", "options", "colored"),
    [
        ({}, (), True),
        ({"NO_COLOR": "1"}, (), False),
        ({"NO_COLOR": ""}, (), True),
        ({"TERM": "dumb"}, (), False),
        ({}, ("--no-color",), False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, (), False),
        ({"FORCE_COLOR": "1"}, ("--no-color",), False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, (), True),
    ],
)
def test_colours_on_a_terminal(
    tmp_path: Path, environ: dict[str, str], options: tuple[str, ...], colored: bool
) -> None:
    """Somebody who asked for no colours gets them, or nobody does."""
    for command in (("config", "show"), ("demo", "-q")):
        _, shown = on_terminal(tmp_path, *command, *options, environ=environ)
        assert ("\x1b[" in shown) == colored, command


def test_no_colours_in_a_pipe(tmp_path: Path) -> None:
    """A file gets escape sequences, or FORCE_COLOR (a CI that shows colours) has no effect."""
    assert "\x1b" not in "".join(run(tmp_path, "demo")[1:])
    assert "\x1b[1m" in run(tmp_path, "demo", environ={"FORCE_COLOR": "1"})[1]
