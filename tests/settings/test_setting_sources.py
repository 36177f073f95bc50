"""Where values come from, which of them wins, and how that is told."""

from __future__ import annotations

import os
import threading
from fractions import Fraction
from pathlib import Path

import pytest

from sync_worker.errors import ConfigError
from sync_worker.settings import Settings, file_reading, load

KEYS = {
    "LANGFUSE_PUBLIC_KEY": "pk-lf-environment-0001",
    "LANGFUSE_SECRET_KEY": "sk-lf-environment-0002",
    "KELET_API_KEY": "sk-kelet-environment-0003",
    "KELET_PROJECT": "shop",
}


def origin(settings: Settings, name: str) -> str:
    return next(row.origin for row in settings.shown if row.name == name)


def shown(settings: Settings, name: str) -> str:
    return next(row.value for row in settings.shown if row.name == name)


def kelet_key(settings: Settings) -> str:
    return settings.sources[0].kelet_api_key.get_secret_value()


def refusal(environ: dict[str, str], directory: Path, *, need_sources: bool = True) -> str:
    with pytest.raises(ConfigError) as caught:
        load(environ, directory, need_sources=need_sources)
    return str(caught.value)


def test_each_place_wins_over_the_next(tmp_path: Path) -> None:
    """A value that the operator overrode would still be used, or `config show` would name another place."""
    environ = {name: value for name, value in KEYS.items() if name != "KELET_API_KEY"}
    (tmp_path / "sync.toml").write_text('sync_interval = "1s"\nkelet_api_key = "key-of-the-toml"\n')
    seen = [load(environ, tmp_path)]

    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "kelet_api_key").write_text("key-of-the-folder\n")
    (secrets / "Sync_Interval").write_text("2s")
    environ["SYNC_SECRETS_DIR"] = "secrets"
    seen.append(load(environ, tmp_path))

    (tmp_path / ".env").write_text("# comment\n\nSYNC_INTERVAL=3s\nexport KELET_API_KEY='key-of-dotenv'\n")
    seen.append(load(environ, tmp_path))

    (tmp_path / "key").write_text("\nkey-of-the-file\n")
    environ |= {"KELET_API_KEY_FILE": "./key", "SYNC_INTERVAL": "4s"}
    seen.append(load(environ, tmp_path))

    environ["KELET_API_KEY"] = "key-of-the-environment"
    seen.append(load(environ, tmp_path, {"SYNC_INTERVAL": "5s"}))

    assert [kelet_key(settings) for settings in seen] == [
        "key-of-the-toml",
        "key-of-the-folder",
        "key-of-dotenv",
        "key-of-the-file",
        "key-of-the-environment",
    ]
    assert [
        f"sync.toml ({tmp_path / 'sync.toml'})",
        f"secrets folder {secrets / 'kelet_api_key'}",
        f".env line 4 ({tmp_path / '.env'})",
        f"file {tmp_path / 'key'} (environment variable KELET_API_KEY_FILE)",
        "environment variable KELET_API_KEY",
    ] == [origin(settings, "KELET_API_KEY") for settings in seen]
    assert [settings.interval.total_seconds() for settings in seen] == [1, 2, 3, 4, 5]
    assert [
        f"sync.toml ({tmp_path / 'sync.toml'})",
        f"secrets folder {secrets / 'Sync_Interval'}",
        f".env line 3 ({tmp_path / '.env'})",
        "environment variable SYNC_INTERVAL",
        "command line --interval",
    ] == [origin(settings, "SYNC_INTERVAL") for settings in seen]


def test_defaults(tmp_path: Path) -> None:
    """A default would differ from the documented one, or would not be called a default."""
    settings = load(KEYS, tmp_path)
    source = settings.sources[0]
    assert (
        source.name,
        source.langfuse_base_url,
        source.kelet_api_url,
        source.kelet_project,
        source.routes,
    ) == ("default", "https://cloud.langfuse.com", "https://api.kelet.ai", "shop", ())
    assert tmp_path / "sync-state.db" == settings.state_path
    assert tuple(
        duration.total_seconds()  # type: ignore[union-attr]  # the default is a duration
        for duration in (settings.start, settings.interval, settings.settle, settings.max_open, settings.patience)
    ) == (86400.0, 60.0, 30.0, 1800.0, 300.0)
    assert [horizon.total_seconds() for horizon in settings.late_horizons] == [1200.0, 7200.0, 172800.0]
    assert (
        settings.updates,
        settings.langfuse_api,
        settings.requests_per_minute,
        settings.compression,
        settings.attributes,
    ) == ("resend", "auto", None, "auto", "both")
    assert (settings.budget_share, shown(settings, "SYNC_BUDGET_SHARE")) == (Fraction(4, 5), "80%")
    assert (
        settings.max_value_bytes,
        settings.max_attributes,
        settings.max_batch_spans,
        settings.max_batch_bytes,
        settings.log_format,
        settings.log_level,
    ) == (1048576, 256, 512, 4194304, "text", "info")
    assert (settings.max_dead_letters, settings.media_hosts) == (10_000, ())
    assert settings.warnings == ()
    assert (shown(settings, "SYNC_INTERVAL"), origin(settings, "SYNC_INTERVAL")) == ("60s", "default")
    assert (
        shown(settings, "SYNC_REQUESTS_PER_MINUTE"),
        origin(settings, "SYNC_REQUESTS_PER_MINUTE"),
    ) == ("", "default")


@pytest.mark.parametrize("name", ["--state", "SYNC_STATE_PATH", "sync_state_path"])
def test_the_command_line_comes_first_by_flag_or_by_variable(tmp_path: Path, name: str) -> None:
    """An option would be ignored because a variable is set too."""
    settings = load({**KEYS, "SYNC_STATE_PATH": "/data/environment.db"}, tmp_path, {name: "here.db"})
    assert (tmp_path / "here.db", "command line --state") == (settings.state_path, origin(settings, "SYNC_STATE_PATH"))


def test_an_unknown_override_is_refused(tmp_path: Path) -> None:
    """A command could pass on an option that nothing reads."""
    with pytest.raises(ConfigError, match=r"^--stat: not a setting. Try: --state\.$"):
        load(KEYS, tmp_path, {"--stat": "x"})


def test_an_empty_option_is_refused(tmp_path: Path) -> None:
    """`--state ""` from an unset shell variable would quietly use another state file."""
    with pytest.raises(ConfigError, match="SYNC_STATE_PATH: empty; got '' from command line --state"):
        load(KEYS, tmp_path, {"--state": ""})


def test_the_process_is_read_if_nothing_is_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program would not see its environment or its working directory."""
    for name in list(os.environ):
        if name.startswith(("SYNC_", "LANGFUSE_", "KELET_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".env").write_text("SYNC_SETTLE=7s\n")
    settings = load()
    assert (7.0, tmp_path / "sync-state.db") == (settings.settle.total_seconds(), settings.state_path)


def test_langfuse_host_is_the_second_name(tmp_path: Path) -> None:
    """Who sets the older name would be synced from Langfuse Cloud."""
    older = load({**KEYS, "LANGFUSE_HOST": "https://older.example"}, tmp_path)
    both = load({**KEYS, "LANGFUSE_HOST": "https://older.example", "LANGFUSE_BASE_URL": "https://eu.example"}, tmp_path)
    assert (
        older.sources[0].langfuse_base_url,
        origin(older, "LANGFUSE_BASE_URL"),
    ) == ("https://older.example", "environment variable LANGFUSE_HOST")
    assert both.sources[0].langfuse_base_url == "https://eu.example"


def test_a_nearer_place_wins_whatever_the_name(tmp_path: Path) -> None:
    """`.env` would win over the environment because it uses the first name."""
    (tmp_path / ".env").write_text("LANGFUSE_BASE_URL=https://dotenv.example\n")
    settings = load({**KEYS, "LANGFUSE_HOST": "https://environment.example"}, tmp_path)
    assert settings.sources[0].langfuse_base_url == "https://environment.example"


def test_empty_variables_count_as_not_given(tmp_path: Path) -> None:
    """An unset variable of a Compose file, which arrives empty, would hide the value in `.env` or the default."""
    (tmp_path / ".env").write_text("KELET_PROJECT=dotenv\nSYNC_REQUESTS_PER_MINUTE=\n")
    settings = load({**KEYS, "KELET_PROJECT": " ", "SYNC_INTERVAL": ""}, tmp_path)
    assert (
        settings.sources[0].kelet_project,
        settings.interval.total_seconds(),
        settings.requests_per_minute,
    ) == ("dotenv", 60.0, None)


def test_an_empty_required_variable_is_named(tmp_path: Path) -> None:
    """The operator would be told to set what is, to all appearances, set."""
    message = refusal({**KEYS, "KELET_PROJECT": ""}, tmp_path)
    assert message.startswith("KELET_PROJECT: missing, since environment variable KELET_PROJECT is empty")


def test_dotenv_fills_in_references(tmp_path: Path) -> None:
    """`${HOME}/state.db` would become a folder of that name."""
    (tmp_path / ".env").write_text("DATA=/data\nSYNC_STATE_PATH=${DATA}/${NAME:-state}.db\n")
    assert Path("/data/state.db") == load(KEYS, tmp_path).state_path


def test_dotenv_file_variants_are_read(tmp_path: Path) -> None:
    """A path to a key in `.env` would be ignored."""
    (tmp_path / "key").write_text("key-of-the-file")
    (tmp_path / ".env").write_text("KELET_API_KEY_FILE=./key\n")
    settings = load({name: value for name, value in KEYS.items() if name != "KELET_API_KEY"}, tmp_path)
    assert f"file {tmp_path / 'key'} (.env line 1 ({tmp_path / '.env'}))" == origin(settings, "KELET_API_KEY")


def test_an_overruled_file_need_not_exist(tmp_path: Path) -> None:
    """A leftover `_FILE` variable would stop a worker that has its key from elsewhere."""
    assert KEYS["KELET_API_KEY"] == kelet_key(load({**KEYS, "KELET_API_KEY_FILE": "/nowhere"}, tmp_path))


def test_a_byte_order_mark_is_no_part_of_a_value(tmp_path: Path) -> None:
    """Files from a Intervals editor would give a wrong key and an unreadable `sync.toml`."""
    mark = "\ufeff"
    (tmp_path / "key").write_text(f"{mark}key-of-the-file")
    (tmp_path / "sync.toml").write_text(f'{mark}sync_settle = "9s"\n')
    (tmp_path / ".env").write_text(f"{mark}KELET_API_KEY_FILE=./key\n")
    settings = load({name: value for name, value in KEYS.items() if name != "KELET_API_KEY"}, tmp_path)
    assert (kelet_key(settings), settings.settle.total_seconds()) == ("key-of-the-file", 9.0)


def test_a_key_is_read_from_a_pipe_once(tmp_path: Path) -> None:
    """A key from `<(…)` of a shell would be gone at the second look, here caused by another setting that is wrong."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"sk-kelet-from-a-pipe\n")
        os.close(writer)
        environ = {name: value for name, value in KEYS.items() if name != "KELET_API_KEY"}
        message = refusal({**environ, "KELET_API_KEY_FILE": f"/dev/fd/{reader}", "SYNC_INTERVAL": "60"}, tmp_path)
    finally:
        os.close(reader)
    assert [line.partition(":")[0] for line in message.splitlines()] == ["SYNC_INTERVAL"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe\xfa", "is not UTF-8 text"),
        (b"x" * 70000, "is too large"),
    ],
)
def test_a_key_file_that_cannot_be_used(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """The worker would start with no key or with a wrong one, or the message would not say which file is meant."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    environ = {name: value for name, value in KEYS.items() if name != "KELET_API_KEY"}
    message = refusal({**environ, "KELET_API_KEY_FILE": str(file)}, tmp_path)
    assert message.startswith(f"KELET_API_KEY: the file {file} {problem} (environment variable KELET_API_KEY_FILE)")
    assert len(message.splitlines()) == 1


def test_a_folder_is_no_key_file(tmp_path: Path) -> None:
    """A folder in the place of a file, as Docker makes of a missing mount, would end in a traceback."""
    environ = {name: value for name, value in KEYS.items() if name != "KELET_API_KEY"}
    message = refusal({**environ, "KELET_API_KEY_FILE": str(tmp_path)}, tmp_path)
    assert "cannot be read" in message
    assert "is a directory" in message


@pytest.mark.parametrize("key", ["sk-kelet-1234567890", "a1b2c3d4e5f6a7b8", "x" * 5000])
def test_a_key_in_the_place_of_its_path_is_not_shown(tmp_path: Path, key: str) -> None:
    """Who puts the key itself into the `_FILE` variable would find it in the logs."""
    environ = {name: value for name, value in KEYS.items() if name != "KELET_API_KEY"}
    message = refusal({**environ, "KELET_API_KEY_FILE": key}, tmp_path)
    assert "must be a path and not the key itself" in message
    assert key not in message


def test_secrets_folder_problems_are_one_line_each(tmp_path: Path) -> None:
    """A secret that was mounted wrongly would pass for one that was never given."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "KELET_API_KEY").write_text("")
    (folder / "kelet_project").write_text("one")
    (folder / "Kelet_Project").write_text("two")
    environ = {name: value for name, value in KEYS.items() if not name.startswith("KELET_")}
    message = refusal({**environ, "SYNC_SECRETS_DIR": str(folder)}, tmp_path)
    assert [
        (
            f"KELET_API_KEY: the file {folder / 'KELET_API_KEY'} is empty (secrets folder); "
            "expected a file that holds the value alone."
        ),
        (
            f"KELET_PROJECT: two files in the secrets folder {folder} hold it: Kelet_Project and kelet_project. "
            "Try: remove one."
        ),
    ] == message.splitlines()


def test_a_missing_secrets_folder_is_refused(tmp_path: Path) -> None:
    """A folder that was not mounted would pass for one without secrets."""
    message = refusal({**KEYS, "SYNC_SECRETS_DIR": "/nowhere/secrets"}, tmp_path)
    assert message == "SYNC_SECRETS_DIR: the folder /nowhere/secrets cannot be read: no such file or directory."


def test_the_secrets_folder_may_be_named_in_dotenv_and_hold_other_files(tmp_path: Path) -> None:
    """Files of other programs, or the folders that Kubernetes makes beside the files, would be in the way."""
    folder = tmp_path / "secrets"
    (folder / "..data").mkdir(parents=True)
    (folder / "LANGFUSE_HOST").write_text("https://folder.example")
    (tmp_path / ".env").write_text("SYNC_SECRETS_DIR=./secrets\n")
    assert load(KEYS, tmp_path).sources[0].langfuse_base_url == "https://folder.example"


def test_unreadable_dotenv_lines_are_named_and_not_shown(tmp_path: Path) -> None:
    """A quote that was left open would swallow the settings below, or the message would repeat a key."""
    (tmp_path / ".env").write_text("\n# comment\n\nKELET_API_KEY='sk-kelet-unclosed\nSYNC_SETTLE=1s\n")
    message = refusal(KEYS, tmp_path)
    assert f"{tmp_path / '.env'} line 4: cannot be read; expected NAME=value, and closed quotes." == message


def test_a_file_that_is_none_of_variables(tmp_path: Path) -> None:
    """Each line of a wrong file is reported, and then each key that is missing because of it."""
    (tmp_path / ".env").write_text('"a table"\n' * 40)
    first, second, third = refusal({}, tmp_path).splitlines()
    assert [first.partition(":")[0], second.partition(":")[0], third.partition(":")[0]] == [
        f"{tmp_path / '.env'} line {line}" for line in ("1", "2", "3, and 37 more")
    ]


@pytest.mark.parametrize("environ", [KEYS, {}])
def test_a_secrets_folder_that_cannot_be_read(tmp_path: Path, environ: dict[str, str]) -> None:
    """What would be in it is reported as missing, beside the reason."""
    message = refusal({**environ, "SYNC_SECRETS_DIR": str(tmp_path / "gone")}, tmp_path)
    assert message == f"SYNC_SECRETS_DIR: the folder {tmp_path / 'gone'} cannot be read: no such file or directory."


@pytest.mark.parametrize("environ", [KEYS, {}])  # what is missing may be in the file
@pytest.mark.parametrize("name", [".env", "sync.toml"])
def test_files_that_are_no_text(tmp_path: Path, name: str, environ: dict[str, str]) -> None:
    """A file in another encoding, or a folder of that name, would end in a traceback."""
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    assert f"{tmp_path / name}: cannot be read, since it is not UTF-8 text. Try: save it as UTF-8." == refusal(
        environ, tmp_path
    )
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    hint = "Try: a text file that this user may read."
    assert f"{tmp_path / name}: cannot be read (is a directory). {hint}" == refusal(environ, tmp_path)


@pytest.mark.parametrize("name", [".env", "sync.toml", "key"])
def test_files_that_never_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A pipe that nobody writes to is waited for without an end, or a device fills the memory."""
    environ = {"KELET_API_KEY_FILE": "./key"} | {key: text for key, text in KEYS.items() if key != "KELET_API_KEY"}
    environ = environ if name == "key" else KEYS
    (tmp_path / name).symlink_to("/dev/zero")
    assert ("is too large" if name == "key" else "cannot be read (larger than 1,048,576 bytes)") in refusal(
        environ, tmp_path
    )
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    monkeypatch.setattr(file_reading, "PIPE_SECONDS", 0.0)
    assert "nothing was written to this pipe" in refusal(environ, tmp_path)


def test_settings_from_a_pipe(tmp_path: Path) -> None:
    """What a command prints cannot be the settings, or only where it prints at once: `--env-file <(command)`."""
    os.mkfifo(tmp_path / "sync.toml")
    reader = os.open(tmp_path / "sync.toml", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "sync.toml", os.O_WRONLY)
    os.close(reader)

    def write() -> None:
        with os.fdopen(writer, "w") as stream:
            stream.write('sync_interval = "17s"\r\n')
            stream.flush()
            stream.write("sync_max_attributes = 300\n")

    writing = threading.Timer(0.1, write)
    writing.start()
    settings = load(KEYS, tmp_path)
    writing.join()
    assert (shown(settings, "SYNC_INTERVAL"), settings.max_attributes) == ("17s", 300)


def test_invalid_toml_names_the_line(tmp_path: Path) -> None:
    """The operator would have to search the file for the mistake."""
    (tmp_path / "sync.toml").write_text('sync_settle = "1s"\nsync_interval = 60s\n')
    message = refusal(KEYS, tmp_path)
    assert message.startswith(f"{tmp_path / 'sync.toml'}: not valid TOML: ")
    assert "line 2" in message


def test_a_named_config_file_must_exist(tmp_path: Path) -> None:
    """A wrong SYNC_CONFIG would mean: no sources but the default one."""
    message = refusal({**KEYS, "SYNC_CONFIG": "etc/other.toml"}, tmp_path)
    assert (
        f"SYNC_CONFIG: the file {tmp_path / 'etc' / 'other.toml'} does not exist. Try: another path, or without it."
        == message
    )


def test_a_named_config_file_is_read_and_called_by_its_name(tmp_path: Path) -> None:
    """`config show` would point to a file that was not read."""
    (tmp_path / "other.toml").write_text("sync_max_attributes = 300\nsync_allow_plain_http = true\n")
    (tmp_path / "sync.toml").write_text("sync_max_attributes = 400\n")
    settings = load({**KEYS, "SYNC_CONFIG": "other.toml"}, tmp_path)
    assert (300, f"other.toml ({tmp_path / 'other.toml'})") == (
        settings.max_attributes,
        origin(settings, "SYNC_MAX_ATTRIBUTES"),
    )
    assert settings.allow_plain_http


def test_a_path_that_is_none_is_refused(tmp_path: Path) -> None:
    """A home folder that does not exist would end in a traceback."""
    message = refusal({**KEYS, "SYNC_CONFIG": "~nobody-of-this-name/sync.toml"}, tmp_path)
    assert message.startswith("SYNC_CONFIG: the home folder is not known")


def test_keys_are_stripped_and_masked(tmp_path: Path) -> None:
    """A line break from a secret store would be sent in a header, or `config show` would show a key."""
    settings = load(
        {**KEYS, "KELET_API_KEY": " sk-kelet-0123456789abcd\r\n", "LANGFUSE_SECRET_KEY": "short-key"}, tmp_path
    )
    assert kelet_key(settings) == "sk-kelet-0123456789abcd"
    assert (shown(settings, "KELET_API_KEY"), shown(settings, "LANGFUSE_SECRET_KEY")) == ("sk-kel…abcd", "***")


def test_no_secret_in_a_repr_or_a_row(tmp_path: Path) -> None:
    """A key would reach a log with the settings or with an error that holds them."""
    settings = load(KEYS, tmp_path)
    text = f"{settings!r} {settings} {settings.sources!r} {settings.shown!r}"
    for name in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "KELET_API_KEY"):
        assert KEYS[name] not in text


def test_the_debug_log_of_the_library_shows_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its debug switch, which may be set for another program, would write the keys to the log."""
    monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "true")
    with caplog.at_level("DEBUG"):
        load(KEYS, tmp_path)
    for name in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "KELET_API_KEY"):
        assert KEYS[name] not in caplog.text


def test_rows_have_every_setting_once(tmp_path: Path) -> None:
    """`config show` would hide a setting."""
    names = [row.name for row in load(KEYS, tmp_path).shown]
    assert sorted(set(names)) == sorted(names)
    assert {"KELET_PROJECT", "SYNC_SCORES", "SYNC_CONFIG", "SYNC_ALLOW_PLAIN_HTTP"} <= set(names)


def test_a_start_time_is_shown_in_utc(tmp_path: Path) -> None:
    """The operator could not see how an offset was understood."""
    settings = load({**KEYS, "SYNC_START": "2026-01-31T12:00:00+02:00"}, tmp_path)
    assert shown(settings, "SYNC_START") == "2026-01-31T10:00:00Z"


def test_media_hosts(tmp_path: Path) -> None:
    """A host in capitals, with a port or in brackets would never match an address."""
    hosts = "Minio.Internal, 10.0.0.5:9000,[fd00::1]:443 ,store"
    assert load({**KEYS, "SYNC_MEDIA_HOSTS": hosts}, tmp_path).media_hosts == (
        "minio.internal", "10.0.0.5:9000", "[fd00::1]:443", "store",
    )  # fmt: skip
