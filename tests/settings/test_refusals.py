"""Values that are refused, and what the operator reads about them."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from sync_worker.errors import ConfigError, ExitCode
from sync_worker.settings import load
from sync_worker.settings.values import parse_patterns

KEYS = {
    "LANGFUSE_PUBLIC_KEY": "pk-lf-00000000-0001",
    "LANGFUSE_SECRET_KEY": "sk-lf-00000000-0002",
    "KELET_API_KEY": "sk-kelet-00000000-0003",
    "KELET_PROJECT": "shop",
}


def refusal(directory: Path, **changed: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load({**KEYS, **changed}, directory)
    assert caught.value.exit_code == ExitCode.USAGE
    # The chain of causes would show pydantic's words, and the values, in a traceback.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value)


def accepted(directory: Path, **changed: str) -> tuple[str, ...]:
    return load({**KEYS, **changed}, directory).warnings


def test_missing_settings_say_where_to_find_them(tmp_path: Path) -> None:
    """A newcomer would not know what to set, or would learn of one missing setting at a time."""
    with pytest.raises(ConfigError) as caught:
        load({}, tmp_path)
    lines = str(caught.value).splitlines()
    assert [line.partition(": missing")[0] for line in lines] == [
        "LANGFUSE_PUBLIC_KEY",
        "LANGFUSE_SECRET_KEY",
        "KELET_API_KEY",
        "KELET_PROJECT",
    ]
    assert "Project settings → API keys" in lines[0]
    assert "Project settings → API keys" in lines[1]
    assert "console.kelet.ai → API keys" in lines[2]
    assert "silent loss" in lines[3]


def test_missing_keys_are_tolerated_where_no_source_is_needed(tmp_path: Path) -> None:
    """`status` could not be run on a machine without keys, or by a user who may not read them."""
    settings = load({"SYNC_STATE_PATH": "/data/state.db"}, tmp_path, need_sources=False)
    assert ((), Path("/data/state.db")) == (settings.sources, settings.state_path)
    unreadable = load({**KEYS, "KELET_API_KEY": "", "KELET_API_KEY_FILE": "/nowhere"}, tmp_path, need_sources=False)
    assert unreadable.sources == ()
    assert (unreadable.warnings) == (
        "KELET_API_KEY: the file /nowhere does not exist (environment variable KELET_API_KEY_FILE).",
    )
    assert len(load(KEYS, tmp_path, need_sources=False).sources) == 1


def test_wrong_values_are_refused_even_where_no_source_is_needed(tmp_path: Path) -> None:
    """A mistake would stay hidden until the next start of the worker."""
    with pytest.raises(ConfigError, match="SYNC_INTERVAL"):
        load({"SYNC_INTERVAL": "60"}, tmp_path, need_sources=False)


def test_all_problems_are_reported_at_once_in_one_line_each(tmp_path: Path) -> None:
    """The operator would correct one mistake per start."""
    (tmp_path / ".env").write_text("SYNC_LOG_LEVEL=warn\n")
    message = refusal(tmp_path, SYNC_INTERVAL="60", SYNC_MAX_ATTRIBUTES="3", KELET_API_KEY="", KELET_PROJECT="default")
    assert {"SYNC_INTERVAL", "SYNC_MAX_ATTRIBUTES", "SYNC_LOG_LEVEL", "KELET_API_KEY", "KELET_PROJECT"} == {
        line.partition(":")[0] for line in message.splitlines()
    }
    assert len(message.splitlines()) == 5
    assert f"got 'warn' from .env line 1 ({tmp_path / '.env'})" in message
    assert (
        "SYNC_INTERVAL: a number without a unit; got '60' from environment variable SYNC_INTERVAL; expected a duration "
        "such as 500ms, 30s, 20m, 48h, 7d or 1h30m. Try: 60s for seconds or 60m for minutes."
    ) in message.splitlines()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("SYNC_START", "2026-01-31T00:00:00", "add Z"),
        ("SYNC_START", "tomorrow", "a duration back from the first run"),
        ("SYNC_START", "24", "Try: 24h for hours or 24d for days."),
        ("SYNC_START", "2026", "Try: write 2026-01-01T00:00:00Z."),
        ("SYNC_START", "20260131", "Try: write 2026-01-31T00:00:00Z."),
        ("SYNC_PATIENCE", "5", "Try: 5s for seconds or 5m for minutes."),
        ("SYNC_INTERVAL", "0s", "longer than nothing"),
        ("SYNC_LATE_HORIZONS", "2h,20m", "20m,2h"),
        ("SYNC_UPDATES", "resnd", "Try: resend"),
        ("SYNC_LANGFUSE_API", "v3", "auto or v2 or v1"),
        ("SYNC_REQUESTS_PER_MINUTE", "0", "at least 1"),
        ("SYNC_REQUESTS_PER_MINUTE", "1e3", "not a whole number"),
        ("SYNC_BUDGET_SHARE", "0.8", "Try: write 80%"),
        ("SYNC_BUDGET_SHARE", "80", "Try: write 80%"),
        ("SYNC_BUDGET_SHARE", "0%", "from 1% to 100%"),
        ("SYNC_BUDGET_SHARE", "101%", "too large"),
        ("SYNC_BUDGET_SHARE", "12.5%", "a whole percentage"),
        ("SYNC_BUDGET_SHARE", "-5%", "not a share"),
        ("SYNC_BUDGET_SHARE", "most", "not a share"),
        ("SYNC_SAMPLE", "0.1", "Try: write 10%"),
        ("SYNC_SAMPLE", "100.5%", "too large"),
        ("SYNC_SAMPLE", "some", "not a share"),
        ("SYNC_EXCLUDE_TAGS", "a,re:(", "not a regular expression"),
        ("SYNC_SESSION_FROM", "session,agent", "agent is no field"),
        ("SYNC_AGENT_FROM", "agent,metadata.", "metadata. is no field"),
        ("SYNC_COMPRESSION", "zstd", "auto or gzip or none"),
        ("SYNC_ATTRIBUTES", "all", "both or genai or langfuse"),
        ("SYNC_SCORES", "csat,,nps", "a name is empty"),
        ("SYNC_SCORE_HORIZONS", "48h,2h", "2h,2d"),
        ("SYNC_SCORE_UPDATES", "resend", "send or ignore"),
        ("SYNC_MAX_VALUE_BYTES", "255", "at least 256"),
        ("SYNC_MAX_ATTRIBUTES", "31", "at least 32"),
        ("SYNC_MAX_DEAD_LETTERS", "0", "at least 1"),
        ("SYNC_MEDIA_HOSTS", "https://minio", "is no host"),
        ("SYNC_MEDIA_HOSTS", "minio:70000", "is no host"),
        ("SYNC_MAX_BATCH_SPANS", "0", "from 1 to 4096"),
        ("SYNC_MAX_BATCH_SPANS", "4097", "from 1 to 4096"),
        ("SYNC_MAX_BATCH_BYTES", "4MiB", "not a whole number"),
        ("SYNC_ALLOW_DEFAULT_PROJECT", "ja", "true or false"),
        ("SYNC_LOG_FORMAT", "jsn", "Try: json"),
        ("SYNC_LOG_LEVEL", "verbose", "debug or info or warning or error"),
    ],
)
def test_refused_values_name_the_setting_the_value_and_what_to_do(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    """A typing mistake would change what the worker does, or would be explained in the words of a library."""
    message = refusal(tmp_path, **{name: text})
    assert message.startswith(f"{name}: ")
    assert f"got {text!r} from environment variable {name}" in message
    assert words in message
    assert len(message.splitlines()) == 1
    for jargon in ("pydantic", "validation", "input_value", "type="):
        assert jargon not in message.lower()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SYNC_LANGFUSE_API", "v1"),
        ("SYNC_SCORES", "False"),
        ("SYNC_LOG_LEVEL", "WARNING"),
        ("SYNC_MAX_BATCH_SPANS", "4096"),
        ("SYNC_SETTLE", "0s"),
        ("SYNC_REQUESTS_PER_MINUTE", "1"),
        ("SYNC_BUDGET_SHARE", "1%"),
        ("SYNC_BUDGET_SHARE", "100 %"),
    ],
)
def test_values_at_the_limit_are_accepted(tmp_path: Path, name: str, text: str) -> None:
    """A documented value would be refused."""
    assert accepted(tmp_path, **{name: text}) == ()


@pytest.mark.parametrize("project", ["default", "DEFAULT", " Default "])
def test_the_default_project_needs_permission(tmp_path: Path, project: str) -> None:
    """Spans would end up in a project that nobody looks at, without an error from Kelet."""
    message = refusal(tmp_path, KELET_PROJECT=project)
    assert "silent loss on Kelet's side" in message
    assert "SYNC_ALLOW_DEFAULT_PROJECT=true" in message
    assert accepted(tmp_path, KELET_PROJECT=project, SYNC_ALLOW_DEFAULT_PROJECT="true") == ()


def test_an_empty_project_is_refused_even_with_permission(tmp_path: Path) -> None:
    """An empty project is the default project to Kelet, which nobody asked for."""
    assert "silent loss" in refusal(tmp_path, KELET_PROJECT=" ", SYNC_ALLOW_DEFAULT_PROJECT="true")
    (tmp_path / "sync.toml").write_text('kelet_project = ""\n')
    assert "silent loss" in refusal(tmp_path, KELET_PROJECT="", SYNC_ALLOW_DEFAULT_PROJECT="true")


@pytest.mark.parametrize("project", [".", "..", " .. "])
def test_a_project_is_no_step_in_an_address(tmp_path: Path, project: str) -> None:
    """Signals would go, with the key, to another address of Kelet."""
    assert refusal(tmp_path, KELET_PROJECT=project).startswith("KELET_PROJECT: a step in an address and no name")


@pytest.mark.parametrize("project", ["shop\r\nX-Evil: 1", "bücher", "shop\x00", "tab\tbed"])
def test_a_project_must_fit_a_header(tmp_path: Path, project: str) -> None:
    """A request would break in the HTTP client, or carry a header that was smuggled in."""
    message = refusal(tmp_path, KELET_PROJECT=project)
    assert message.startswith("KELET_PROJECT: holds characters that an HTTP header cannot carry")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("name", ["LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "KELET_API_KEY"])
@pytest.mark.parametrize("key", ["hidden key-0001", "hidden\nkey-0001", "hidden\x07key-0001", "hidden–key-0001"])
def test_keys_that_no_header_can_carry_are_refused_unseen(tmp_path: Path, name: str, key: str) -> None:
    """Every request would fail, or the message would repeat the key."""
    message = refusal(tmp_path, **{name: key})
    assert message.startswith(f"{name}: holds spaces, control characters or characters outside ASCII")
    assert "hidden" not in message
    assert "0001" not in message


def test_quotes_around_a_key_are_found(tmp_path: Path) -> None:
    """`docker --env-file` keeps quotes, and the key would be refused by the server with no reason given."""
    message = refusal(tmp_path, KELET_API_KEY='"hidden-key-0001"')
    assert "remove the quotes" in message
    assert "hidden" not in message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KELET_PROJECT", '"lab"'),
        ("KELET_PROJECT", "'lab'\r"),
        ("KELET_PROJECT", '""'),
        ("KELET_PROJECT", "“lab”"),
        ("LANGFUSE_BASE_URL", '"https://langfuse.example"'),
        ("KELET_API_URL", "'https://kelet.example'"),
        ("SYNC_STATE_PATH", '"./state.db"'),
        ("SYNC_CONFIG", '"sync.toml"'),
        ("SYNC_SECRETS_DIR", "'/run/secrets'"),
        ("SYNC_START", '"24h"'),
        ("SYNC_INTERVAL", "`60s`"),
        ("SYNC_LATE_HORIZONS", '"20m,2h"'),
        ("SYNC_UPDATES", '"ignore"'),
        ("SYNC_BUDGET_SHARE", '"80%"'),
        ("SYNC_MAX_ATTRIBUTES", '"256"'),
        ("SYNC_SCORES", '"false"'),
    ],
)
def test_quotes_around_any_value_are_found(tmp_path: Path, name: str, text: str) -> None:
    """Spans would go to a project with quotes in its name, state to a file of such a name; nothing would say why."""
    message = refusal(tmp_path, **{name: text})
    assert message.startswith(f"{name}: stands in quotes that belong to the value; got ")
    assert message.endswith(f"from environment variable {name}; expected the value alone. Try: remove the quotes.")


def test_quotes_in_files_are_found(tmp_path: Path) -> None:
    """A secrets folder, a route or a source could hold what the environment may not."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "kelet_project").write_text('"lab"\n')
    message = refusal(tmp_path, KELET_PROJECT="", SYNC_SECRETS_DIR="secrets", KELET_API_KEY_FILE="'/run/key'")
    assert f"from secrets folder {tmp_path / 'secrets' / 'kelet_project'}" in message
    assert "remove the quotes" in message
    message = refusal(tmp_path, KELET_API_KEY="", KELET_API_KEY_FILE="'/run/key'")
    assert "the path in environment variable KELET_API_KEY_FILE stands in quotes" in message
    (tmp_path / "sync.toml").write_text(
        "[[sources]]\nname = 'a'\nkelet_project = \"'lab'\"\n[[sources.routes]]\nproject = '\"b\"'\nuser = '\"u\"'\n"
    )
    message = refusal(tmp_path)
    assert [line.partition(":")[0] for line in message.splitlines()] == [
        "sync.toml [[sources]] #1 kelet_project", "sync.toml [[sources]] #1 routes #1 project",
    ]  # fmt: skip
    assert message.count("remove the quotes") == 2


def test_quotes_that_a_file_reader_takes_away_do_no_harm(tmp_path: Path) -> None:
    """A correct `.env` would be refused, or a name with quotes within."""
    (tmp_path / ".env").write_text("SYNC_INTERVAL=\"30s\" # often\nSYNC_STATE_PATH='team #1/state.db'\r\n")
    assert load({**KEYS, "KELET_PROJECT": 'the "lab"'}, tmp_path).sources[0].kelet_project == 'the "lab"'
    assert load(KEYS, tmp_path).state_path == tmp_path / "team #1" / "state.db"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("KELET_PROJECT", "lab # mine", "holds a comment"),
        ("SYNC_START", "24h\t# a day", "holds a comment"),
        ("SYNC_STATE_PATH", "./state.db # here", "holds a comment"),
        ("KELET_PROJECT", "\ufefflab", "an HTTP header cannot carry"),
        ("SYNC_STATE_PATH", "\ufeffstate.db", "cannot be seen"),
        ("LANGFUSE_BASE_URL", "https://langfuse.example/x\u200b", "control characters"),
    ],
)
def test_what_an_env_file_leaves_is_found(tmp_path: Path, name: str, text: str, words: str) -> None:
    """A project, a file or an address of another name would be used, and look right in every message."""
    message = refusal(tmp_path, **{name: text})
    assert message.startswith(f"{name}: ")
    assert words in message
    assert message.isascii()


def test_white_space_around_a_value_does_no_harm(tmp_path: Path) -> None:
    """A file that was written on Intervals, or copied from a page, would be refused or taken as it stands."""
    texts = {
        "KELET_PROJECT": "lab\r",
        "SYNC_START": "\xa024h ",
        "SYNC_STATE_PATH": " state.db\r\n",
        "SYNC_SCORES": "false\r",
    }
    settings = load({**KEYS, **texts}, tmp_path)
    assert (settings.sources[0].kelet_project, settings.state_path) == ("lab", tmp_path / "state.db")
    assert load({**KEYS, "SYNC_STATE_PATH": "/data/team #1/state.db"}, tmp_path).state_path.parent.name == "team #1"


@pytest.mark.parametrize("name", ["KELET_PROJEKT", "KELET_PROJECTS", "\ufeffKELET_PROJECT", "Kelet_Project"])
def test_a_near_miss_counts_only_where_its_setting_is_missing(tmp_path: Path, name: str) -> None:
    """A stray variable would stop the worker, or a missing setting be told without the reason."""
    (warning,) = accepted(tmp_path, **{name: "lab"})
    assert warning.endswith("is not a setting and is ignored. Did you mean KELET_PROJECT?")
    message = refusal(tmp_path, KELET_PROJECT="", **{name: "lab"})
    assert "in the environment is not a setting" in message
    assert message.endswith("Try: write KELET_PROJECT there.")
    assert message.isascii()


@pytest.mark.parametrize(
    "name",
    [
        "SYNC_WORKER_SERVICE_HOST", "SYNC_SERVICE_PORT_HTTP", "KELET_PORT_443_TCP", "LANGFUSE_WEB_PORT",
        "LANGFUSE_HOST_PORT", "LANGFUSE_HOSTS_SERVICE_HOST", "KELET_PROJECTS_PORT_80_TCP_ADDR", "KELET_API_PORT",
        "LANGFUSE_TRACING_ENVIRONMENT", "LANGFUSE_SAMPLE_RATE", "LANGFUSE_RELEASE", "LANGFUSE_DEBUG",
        "LANGFUSE_MEDIA_UPLOAD_ENABLED", "LANGFUSE_INIT_PROJECT_SECRET_KEY",
    ],
)  # fmt: skip
def test_names_of_others_are_nobody_s_mistake(tmp_path: Path, name: str) -> None:
    """Each start in a cluster, or beside an application with the SDK, would warn of what is right."""
    assert accepted(tmp_path, **{name: "tcp://10.0.0.1:80"}) == ()


def test_no_name_of_the_sdk_is_a_mistake(tmp_path: Path) -> None:
    """A newer SDK would have a name that is warned of."""
    from langfuse._client import environment_variables

    names = [name for name in vars(environment_variables) if name.startswith("LANGFUSE_")]
    assert len(names) > 15
    own = {"LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "LANGFUSE_BASE_URL", "LANGFUSE_HOST"}
    assert accepted(tmp_path, **{name: "x" for name in names if name not in own}) == ()


def test_where_langfuse_is_by_the_name_of_an_sdk(tmp_path: Path) -> None:
    """The keys would go to the cloud, as if nobody had said where Langfuse is; or a right setting be warned of."""
    (warning,) = accepted(tmp_path, LANGFUSE_BASEURL="https://langfuse.example")
    assert "Did you mean LANGFUSE_BASE_URL?" in warning
    assert accepted(tmp_path, LANGFUSE_BASEURL="https://a.example", LANGFUSE_BASE_URL="https://a.example") == ()


def test_swapped_langfuse_keys_are_found_unseen(tmp_path: Path) -> None:
    """Langfuse would answer 401, and the secret key would be sent as a user name that proxies log."""
    message = refusal(
        tmp_path, LANGFUSE_PUBLIC_KEY="sk-lf-hidden-00000001", LANGFUSE_SECRET_KEY="pk-lf-hidden-00000002"
    )
    assert [line.partition(";")[0] for line in message.splitlines()] == [
        "LANGFUSE_PUBLIC_KEY: this is a Langfuse secret key",
        "LANGFUSE_SECRET_KEY: this is a Langfuse public key",
    ]
    assert message.count("swap LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY") == 2
    assert "hidden" not in message


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("KELET_API_KEY", "sk-lf-hidden-1", "a Langfuse key, which must not be sent to Kelet"),
        ("KELET_API_KEY", "pk-lf-hidden-1", "a Langfuse key, which must not be sent to Kelet"),
        ("LANGFUSE_SECRET_KEY", "sk-kelet-hidden-1", "a Kelet key, which must not be sent to Langfuse"),
        ("LANGFUSE_PUBLIC_KEY", "kelet_sk_hidden", "a Kelet key, which must not be sent to Langfuse"),
        ("LANGFUSE_PUBLIC_KEY", "pk-lf-hidden:sk-lf-hidden", "holds a colon"),
    ],
)
def test_keys_of_the_other_side_are_found_unseen(tmp_path: Path, name: str, key: str, words: str) -> None:
    """A key would be shown to the company that must not have it."""
    message = refusal(tmp_path, **{name: key})
    assert words in message
    assert "hidden" not in message


def test_a_publishable_kelet_key_is_only_warned_of(tmp_path: Path) -> None:
    """Kelet would refuse the traces and the operator would not know why; or a good key of another form be refused."""
    (warning,) = accepted(tmp_path, KELET_API_KEY="pk_hidden_0001")
    assert warning.startswith(
        "KELET_API_KEY: the key from environment variable KELET_API_KEY starts like a publishable key"
    )
    assert "hidden" not in warning


def test_a_key_in_another_setting_is_not_shown(tmp_path: Path) -> None:
    """A key that was pasted into the wrong line would be repeated in the message or by `config show`."""
    for text in ("bearer sk-lf-hidden\n", "hidden-of-any-form\n"):
        message = refusal(tmp_path, KELET_API_KEY="hidden-of-any-form", KELET_PROJECT=f"x{text}x")
        assert "hidden" not in message
    rows = load({**KEYS, "SYNC_INCLUDE_USERS": "sk-kelet-hidden"}, tmp_path).shown
    assert "hidden" not in repr(rows)
    for name in ("LANGFUSE_BASE_URL", "KELET_API_URL"):  # the hint adds https:// to what has none
        message = refusal(tmp_path, **{name: "sk-lf-hidden"})
        assert ("hidden" in message, "not an address that starts with" in message) == (False, True)


def test_a_key_is_no_project(tmp_path: Path) -> None:
    """The key of one side is sent to the other one with each request, and what arrives there is lost."""
    message = refusal(tmp_path, KELET_PROJECT="sk-lf-hidden")
    assert message == (
        "KELET_PROJECT: this is a key (from environment variable KELET_PROJECT); expected the name of a Kelet project."
    )


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("LANGFUSE_BASE_URL", "https://langfuse.example/", "https://langfuse.example"),
        ("LANGFUSE_BASE_URL", "https://langfuse.example/api/public/", "https://langfuse.example"),
        ("LANGFUSE_BASE_URL", " HTTPS://Langfuse.Example:443/base// ", "https://langfuse.example/base"),
        ("LANGFUSE_BASE_URL", "http://[::1]:3000", "http://[::1]:3000"),
        ("KELET_API_URL", " https://kelet.example/api/\n", "https://kelet.example"),
        ("KELET_API_URL", "https://kelet.example/api", "https://kelet.example"),
        ("KELET_API_URL", "https://kelet.example:8443/", "https://kelet.example:8443"),
    ],
)
def test_addresses_are_brought_into_one_form(tmp_path: Path, name: str, text: str, expected: str) -> None:
    """Requests would go to `…/api/api/traces`, and one project would be taken for two."""
    source = load({**KEYS, name: text}, tmp_path).sources[0]
    assert expected == (source.langfuse_base_url if name == "LANGFUSE_BASE_URL" else source.kelet_api_url)


@pytest.mark.parametrize("name", ["LANGFUSE_BASE_URL", "KELET_API_URL"])
@pytest.mark.parametrize(
    "text",
    [
        "ftp://host.example",
        "https://",
        "https:///path",
        "https://.",
        "https://host.example:99999",
        "https://host.example:port",
        "https://[::1",
        "https://ho st.example",
        "https://host.example\\@evil.example",
        "https://host.example\nx",
        "https://host.example?key=hidden",
        "https://host.example/#hidden",
        "host.example/?key=hidden",
        "https://user:hidden@host.example",
        "https://hidden@host.example",
        "user:hidden@host.example",
        "https://user:hi/hidden@host.example",
        "//host.example",
        "not an address",
    ],
)
def test_what_is_no_address_is_refused(tmp_path: Path, name: str, text: str) -> None:
    """Every request would fail or go elsewhere, or the message would repeat a password."""
    message = refusal(tmp_path, **{name: text})
    assert message.startswith(f"{name}: ")
    assert "hidden" not in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("LANGFUSE_BASE_URL", "langfuse.example", "Try: https://langfuse.example."),
        ("LANGFUSE_BASE_URL", "localhost:3000/x", "Try: https://localhost:3000/x."),
        ("LANGFUSE_BASE_URL", "https://langfuse.example/api/public/otel", "Try: https://langfuse.example."),
        ("KELET_API_URL", "https://api.kelet.ai/api/traces", "Try: https://api.kelet.ai."),
        ("KELET_API_URL", "https://api.kelet.ai/v1/traces/", "Try: https://api.kelet.ai."),
    ],
)
def test_near_addresses_get_the_right_one(tmp_path: Path, name: str, text: str, hint: str) -> None:
    """An address that was copied from an exporter's settings would end in 404."""
    assert refusal(tmp_path, **{name: text}).endswith(hint)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "app.localhost",
        "langfuse-web:3000",
        "nas.local",
        "host.docker.internal",
        "langfuse.prod.svc",
        "langfuse.prod.svc.cluster.local.",
        "router.lan",
        "127.0.0.1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.0.1:80",
        "169.254.1.1",
        "[::1]:3000",
        "[fd00::1]",
        "[fe80::1]",
        "[::ffff:10.0.0.1]",
    ],
)
def test_plain_http_is_fine_in_private(tmp_path: Path, host: str) -> None:
    """A self-hosted Langfuse in the same cluster could not be reached."""
    assert accepted(tmp_path, LANGFUSE_BASE_URL=f"http://{host}", KELET_API_URL=f"http://{host}") == ()


@pytest.mark.parametrize(
    "host",
    [
        "cloud.langfuse.com",
        "8.8.8.8",
        "172.32.0.1",
        "134744072",
        "0x08080808",
        "8.2056",
        "[2001:4860:4860::8888]",
        "[::ffff:8.8.8.8]",
        "local.example",
        "evillocal.com",
        "100.64.0.1",
        "192.0.2.1",
    ],
)
def test_plain_http_to_others_needs_permission(tmp_path: Path, host: str) -> None:
    """The keys would go over the internet in the clear."""
    message = refusal(tmp_path, LANGFUSE_BASE_URL=f"http://{host}", KELET_API_URL=f"http://{host}")
    assert [line.partition(":")[0] for line in message.splitlines()] == ["LANGFUSE_BASE_URL", "KELET_API_URL"]
    assert "SYNC_ALLOW_PLAIN_HTTP=true" in message
    assert (
        accepted(
            tmp_path, LANGFUSE_BASE_URL=f"http://{host}", KELET_API_URL=f"http://{host}", SYNC_ALLOW_PLAIN_HTTP="true"
        )
        == ()
    )


def test_long_values_are_cut_in_messages(tmp_path: Path) -> None:
    """A file that was pasted into a variable would flood the log."""
    assert len(refusal(tmp_path, SYNC_LOG_LEVEL="x" * 10000)) < 400


def test_contradictions_are_warned_of(tmp_path: Path) -> None:
    """Traces would be sent before they are quiet, which nobody would notice."""
    (warning,) = accepted(tmp_path, SYNC_MAX_OPEN="10s", SYNC_SETTLE="1m")
    assert "SYNC_MAX_OPEN (10s) is shorter than SYNC_SETTLE (1m)" in warning


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("SYNC_INTERVALL", "SYNC_INTERVAL"),
        ("SYNC_LOGLEVEL", "SYNC_LOG_LEVEL"),
        ("sync_settle", "SYNC_SETTLE"),
        ("LANGFUSE_BASEURL", "LANGFUSE_BASE_URL"),
        ("LANGFUSE_SECRET", "LANGFUSE_SECRET_KEY"),
        ("KELET_KEY", "KELET_API_KEY"),
        ("KELET_PROJECT_ID", "KELET_PROJECT"),
        ("KELLET_PROJECT", "KELET_PROJECT"),
        ("KELET_APIKEY_FILE", "KELET_API_KEY_FILE"),
    ],
)
def test_misspelled_variables_are_warned_of_with_the_right_name(tmp_path: Path, name: str, near: str) -> None:
    """A setting would be ignored in silence; or its value, perhaps a key, would be in the warning."""
    (from_environment,) = accepted(tmp_path, **{name: "hidden"})
    assert f"{name} in the environment is not a setting and is ignored. Did you mean {near}?" == from_environment
    (tmp_path / ".env").write_text(f"{name}=hidden\n")
    (from_dotenv,) = accepted(tmp_path)
    assert f"{name} in {tmp_path / '.env'} is not a setting and is ignored. Did you mean {near}?" == from_dotenv


def test_an_unknown_sync_variable_without_a_near_name_is_warned_of(tmp_path: Path) -> None:
    """A setting of another version would be ignored in silence."""
    assert accepted(tmp_path, SYNC_QUANTUM="1") == ("SYNC_QUANTUM in the environment is not a setting and is ignored.",)


@pytest.mark.parametrize(
    "name",
    [
        "LANGFUSE_RELEASE",
        "LANGFUSE_TRACING_ENVIRONMENT",
        "LANGFUSE_INIT_PROJECT_PUBLIC_KEY",
        "LANGFUSE_SAMPLE_RATE",
        "SYNC_WORKER_SERVICE_HOST",
        "SYNC_WORKER_SERVICE_PORT_HTTP",
        "SYNC_WORKER_PORT",
        "SYNC_WORKER_PORT_8080_TCP_ADDR",
        "PATH",
        "API_KEY",
        "PROJECT",
    ],
)
def test_variables_of_others_are_left_alone(tmp_path: Path, name: str) -> None:
    """Every start beside Langfuse's own settings, or in Kubernetes, would warn of what is right."""
    assert accepted(tmp_path, **{name: "x"}) == ()


def test_load_says_that_it_raises() -> None:
    """A caller would not know which error to expect."""
    assert "ConfigError" in (inspect.getdoc(load) or "")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("SYNC_INCLUDE_LEVELS", "ERR", "fits no level"),  # would leave out everything
        ("SYNC_EXCLUDE_LEVELS", "debug", "fits no level"),
        ("SYNC_EXCLUDE_TAGS", "none,load", "none stands beside others"),
    ],
)
def test_filters_that_do_something_else_than_they_seem_to(tmp_path: Path, name: str, value: str, why: str) -> None:
    """A filter would leave out all traces, or none, without a word."""
    assert why in refusal(tmp_path, **{name: value})


def test_commas_within_patterns() -> None:
    """A repetition was cut at its comma into two patterns that fit other things."""
    patterns = ("re:^a{2,3}$", "b[x,y]", "c*", "d{")
    assert parse_patterns(", ".join(patterns)) == patterns


def test_commas_in_items_of_lists(tmp_path: Path) -> None:
    """One item of a list became two."""
    (tmp_path / "sync.toml").write_text('sync_exclude_tags = ["re:^a{2,3}$", "re:^(a|b)$"]\n')
    accepted(tmp_path)
    (tmp_path / "sync.toml").write_text('sync_exclude_tags = ["re:^(a,b)$"]\n')
    assert "a comma in an item" in refusal(tmp_path)
