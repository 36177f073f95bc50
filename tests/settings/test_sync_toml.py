"""Several sources and routes in `sync.toml`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sync_worker.configured import Route, ScoreOverride
from sync_worker.errors import ConfigError
from sync_worker.settings import Settings, load

TWO = """
kelet_api_key = "sk-kelet-hidden-shared-0001"
sync_interval = "10s"
sync_late_horizons = ["20m", "2h"]

[[sources]]
name = "shop"
langfuse_public_key = "pk-lf-hidden-shop-0001"
langfuse_secret_key_file = "./shop-secret"
kelet_project = "shop"

[[sources.routes]]
project = "shop-eu"
environment = "prod*"
trace_name = "checkout"
tags = ["vip", "eu"]
user = "*@example.com"
session = "s-*"
release = "v2"
metadata = { team = "search", tier = "a?" }

[[sources.routes]]
project = "shop-rest"
tags = ["rest"]

[[sources]]
name = "support_2"
langfuse_base_url = "http://langfuse:3000/"
langfuse_public_key = "pk-lf-hidden-support-0002"
langfuse_secret_key = "sk-lf-hidden-support-0003"
kelet_api_url = "https://kelet.example/api"
kelet_api_key = "sk-kelet-hidden-support-0004"
"""


def read(directory: Path, toml: str, environ: dict[str, str] | None = None, *, need_sources: bool = True) -> Settings:
    (directory / "sync.toml").write_text(toml)
    (directory / "shop-secret").write_text("sk-lf-hidden-shop-0002\n")
    return load(environ or {}, directory, need_sources=need_sources)


def refusal(directory: Path, toml: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(directory, toml, environ)
    assert "hidden" not in str(caught.value)
    return str(caught.value).splitlines()


def source(*lines: str, name: str = "shop", **changed: str) -> str:
    """Return a `[[sources]]` table that is right unless `lines` or `changed` make it wrong."""
    values = {
        "name": name,
        "langfuse_public_key": "pk-lf-hidden-0001",
        "langfuse_secret_key": "sk-lf-hidden-0002",
        "kelet_api_key": "sk-kelet-hidden-0003",
        "kelet_project": "shop",
        **changed,
    }
    return "\n".join(["[[sources]]", *(f'{key} = "{value}"' for key, value in values.items()), *lines, ""])


def route(*lines: str) -> str:
    return source("[[sources.routes]]", *lines)


def test_sources_take_what_they_do_not_say_from_the_rest(tmp_path: Path) -> None:
    """A source would be synced with another one's keys, or to another one's project."""
    settings = read(tmp_path, TWO, {"KELET_PROJECT": "from-environment"})
    assert [
        (
            one.name,
            one.langfuse_base_url,
            one.langfuse_public_key,
            one.langfuse_secret_key.get_secret_value(),
            one.kelet_api_url,
            one.kelet_api_key.get_secret_value(),
            one.kelet_project,
        )
        for one in settings.sources
    ] == [
        (
            "shop",
            "https://cloud.langfuse.com",
            "pk-lf-hidden-shop-0001",
            "sk-lf-hidden-shop-0002",
            "https://api.kelet.ai",
            "sk-kelet-hidden-shared-0001",
            "shop",
        ),
        (
            "support_2",
            "http://langfuse:3000",
            "pk-lf-hidden-support-0002",
            "sk-lf-hidden-support-0003",
            "https://kelet.example",
            "sk-kelet-hidden-support-0004",
            "from-environment",
        ),
    ]
    assert [horizon.total_seconds() for horizon in settings.late_horizons] == [1200.0, 7200.0]


def test_routes(tmp_path: Path) -> None:
    """Traces would go to another project than the file says."""
    expected = (
        Route(
            project="shop-eu",
            environment="prod*",
            trace_name="checkout",
            tags=("vip", "eu"),
            user="*@example.com",
            session="s-*",
            release="v2",
            metadata=(("team", "search"), ("tier", "a?")),
        ),
        Route(project="shop-rest", tags=("rest",)),
    )
    settings = read(tmp_path, TWO, {"KELET_PROJECT": "x"})
    assert (expected, ()) == (settings.sources[0].routes, settings.sources[1].routes)


def test_the_rows_say_what_each_source_uses_and_from_where(tmp_path: Path) -> None:
    """The operator could not see which key a source uses; or could see all of it."""
    settings = read(tmp_path, TWO, {"KELET_PROJECT": "from-environment"})
    rows = {row.name: (row.value, row.origin) for row in settings.shown}
    assert rows["sources.shop.kelet_project"] == ("shop", "sync.toml [[sources]] #1")
    assert rows["sources.support_2.kelet_project"] == ("from-environment", "environment variable KELET_PROJECT")
    assert ("sk-lf-…0002", f"file {tmp_path / 'shop-secret'} (sync.toml [[sources]] #1)") == (
        rows["sources.shop.langfuse_secret_key"]
    )
    assert ("sk-kel…0001", f"sync.toml ({tmp_path / 'sync.toml'})") == rows["sources.shop.kelet_api_key"]
    assert rows["sources.shop.langfuse_base_url"] == ("https://cloud.langfuse.com", "default")
    assert rows["sources.shop.routes.1"] == (
        (
            "shop-eu if environment=prod*, trace_name=checkout, user=*@example.com, session=s-*, release=v2, "
            "tags=[vip, eu], metadata.team=search, metadata.tier=a?"
        ),
        "sync.toml [[sources]] #1 routes #1",
    )
    assert ("10s", f"sync.toml ({tmp_path / 'sync.toml'})") == rows["SYNC_INTERVAL"]
    assert "hidden-" not in repr(settings.shown) + repr(settings)


def test_a_plain_value_that_no_source_uses_is_not_judged(tmp_path: Path) -> None:
    """A variable of the time with one source would stop a file in which every source has its own project."""
    assert read(tmp_path, source(), {"KELET_PROJECT": "default"}).sources[0].kelet_project == "shop"


def test_what_is_missing_is_reported_for_each_source(tmp_path: Path) -> None:
    """The operator would not know which source lacks what."""
    toml = '[[sources]]\nname = "a"\nkelet_project = "a"\n' + source(name="b").replace("kelet_project", "#")
    assert [line.partition(": missing")[0] for line in refusal(tmp_path, toml)] == [
        "sync.toml [[sources]] #1 langfuse_public_key",
        "sync.toml [[sources]] #1 langfuse_secret_key",
        "sync.toml [[sources]] #1 kelet_api_key",
        "sync.toml [[sources]] #2 kelet_project",
    ]
    assert [one.name for one in read(tmp_path, toml, {"KELET_PROJECT": "b"}, need_sources=False).sources] == ["b"]


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ('sync_intervall = "60s"\n', "sync.toml sync_intervall: not a known key. Try: sync_interval."),
        ('KELET_PROJECT = "x"\n', "sync.toml KELET_PROJECT: not a known key. Try: kelet_project."),
        ('interval = "60s"\n', "sync.toml interval: not a known key. Try: sync_interval."),
        ('sync_config = "x"\n', "sync.toml sync_config: cannot be set in this file. Try: set SYNC_CONFIG instead."),
        (source(kelet_projekt="x"), "#1 kelet_projekt: not a known key. Try: kelet_project."),
        (source(sync_patience="1s"), "#1 sync_patience: not a known key. Try: "),
        (
            route('project = "x"', 'tag = ["x"]', 'user = "x"'),
            "routes #1 tag: not a known key. Try: tags.",
        ),
        ('kelet_project = ["x"]\n', 'sync.toml kelet_project: a list; expected a string, such as key = "value".'),
        ("sync_settle = 1.5\n", "sync.toml sync_settle: a number with a fraction; expected a string"),
        ('sync_settle = ""\n', "sync.toml sync_settle: empty. Try: give a value or remove the line."),
        ("sync_late_horizons = [1, 2]\n", "sync.toml sync_late_horizons: a list; expected a list of strings"),
        ("sync_interval = 60\n", "SYNC_INTERVAL: a number without a unit; got '60' from sync.toml ("),
        ("sync_start = 2026-01-31T00:00:00\n", "SYNC_START: a time without an offset means another moment"),
        ("sync_start = 2026-01-31\n", "sync.toml sync_start: a date or a time; expected a string"),
        ('sync_scores = ["csat", ""]\n', "SYNC_SCORES: a name is empty"),
        ("sources = []\n", "sync.toml sources: empty. Try: remove it or add [[sources]]."),
        ('[sources]\nname = "x"\n', "sync.toml sources: not a list of tables. Try: write [[sources]]."),
        ("sources = [1]\n", "sync.toml sources: not a list of tables. Try: write [[sources]]."),
        (source(name="Shop"), "#1 name: not a name; got 'Shop' from sync.toml [[sources]] #1"),
        (source().replace('name = "shop"', "name = 1"), "#1 name: not a name; expected a short name"),
        (source().replace('name = "shop"', ""), "#1 name: missing; expected a short name"),
        (
            source() + source(langfuse_public_key="pk-lf-hidden-0009"),
            "sync.toml [[sources]] #2: the same name as sync.toml [[sources]] #1",
        ),
        (
            source() + source(name="b", langfuse_base_url="https://Cloud.Langfuse.com:443/api/public"),
            "sync.toml [[sources]] #2: the same Langfuse project and target as sync.toml [[sources]] #1",
        ),
        (source(kelet_project="Default"), "#1 kelet_project: Kelet puts data with a missing project there"),
        (source(kelet_project=""), "#1 kelet_project: empty; a wrong project is silent loss"),
        (source(langfuse_secret_key="pk-lf-hidden-0002"), "#1 langfuse_secret_key: this is a Langfuse public key"),
        (source(kelet_api_key="hidden key"), "#1 kelet_api_key: holds spaces"),
        (
            source(langfuse_host="http://langfuse.example"),
            "#1 langfuse_base_url: http:// would send the key in the clear",
        ),
        (source(langfuse_base_url="https://u:hidden@host.example"), "#1 langfuse_base_url: holds a user or a password"),
        (source(kelet_api_key_file="./x"), "#1 kelet_api_key: given twice, as kelet_api_key and as kelet_api_key_file"),
        (
            source().replace('kelet_api_key = "sk-kelet-hidden-0003"', 'kelet_api_key_file = "/nowhere"'),
            "#1 kelet_api_key: the file /nowhere does not exist (sync.toml [[sources]] #1)",
        ),
        (source().replace('"sk-kelet-hidden-0003"', "[1]"), "#1 kelet_api_key: a list; expected a string"),
        (source("routes = 1"), "#1 routes: not a list of tables. Try: write [[sources.routes]]."),
        (source("routes = [1]"), "#1 routes #1: not a table; expected [[sources.routes]]."),
        (route('project = "x"'), "routes #1: no condition, so it would take every trace"),
        (route('project = "x"', "tags = []"), "routes #1 tags: no condition, so it would take every trace"),
        (route('project = "x"', "metadata = {}"), "routes #1 metadata: no condition"),
        (route('user = "x"'), "routes #1 project: missing; expected the name of a Kelet project."),
        (route("project = 1", 'user = "x"'), "routes #1 project: not a string"),
        (route('project = ""', 'user = "x"'), "routes #1 project: empty; a wrong project is silent loss"),
        (route('project = "default"', 'user = "x"'), "routes #1 project: Kelet puts data with a missing project there"),
        (route('project = "x"', 'user = ""'), "routes #1 user: empty; got ''"),
        (route('project = "x"', "user = 1"), "routes #1 user: not a string"),
        (route('project = "x"', 'tags = "vip"'), "routes #1 tags: not a list of strings"),
        (route('project = "x"', "metadata = { a = 1 }"), "routes #1 metadata: not a table of strings"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line_with_its_place(tmp_path: Path, toml: str, line: str) -> None:
    """A mistake in the file would be ignored, sync to the wrong place, or end in a traceback."""
    environ = (
        {}
        if "[[sources]]" in toml
        else {
            "LANGFUSE_PUBLIC_KEY": "pk-lf-hidden-0005",
            "LANGFUSE_SECRET_KEY": "sk-lf-hidden-0006",
            "KELET_API_KEY": "sk-kelet-hidden-0007",
            "KELET_PROJECT": "shop",
        }
    )
    lines = refusal(tmp_path, toml, environ)
    assert len(lines) == 1
    assert line in lines[0]


def test_key_files_of_a_source_need_not_be_readable_where_no_source_is_needed(tmp_path: Path) -> None:
    """`status` could not be run by a user who may not read the keys."""
    toml = source().replace('kelet_api_key = "sk-kelet-hidden-0003"', 'kelet_api_key_file = "/nowhere"')
    settings = read(tmp_path, toml + source(name="b", langfuse_public_key="pk-lf-hidden-b"), need_sources=False)
    expected = ("sync.toml [[sources]] #1 kelet_api_key: the file /nowhere does not exist (sync.toml [[sources]] #1).",)
    assert expected == settings.warnings
    assert [one.name for one in settings.sources] == ["b"]


def test_default_projects_are_allowed_by_the_file_too(tmp_path: Path) -> None:
    """The permission would count for one way of naming a project and not for another."""
    toml = "sync_allow_default_project = true\n" + source("[[sources.routes]]", 'project = "default"', 'user = "x"')
    assert read(tmp_path, toml).sources[0].routes[0].project == "default"


def test_an_inherited_mistake_is_reported_once(tmp_path: Path) -> None:
    """Ten sources would repeat one wrong variable ten times."""
    toml = "".join(
        source(name=name, langfuse_public_key=f"pk-lf-hidden-{name}").replace('kelet_project = "shop"', "")
        for name in ("a", "b", "c")
    )
    lines = refusal(tmp_path, toml, {"KELET_PROJECT": "default"})
    assert [line.partition(":")[0] for line in lines] == ["KELET_PROJECT"]


def test_a_publishable_key_of_a_source_is_warned_of(tmp_path: Path) -> None:
    """The warning would not say which source is meant."""
    (warning,) = read(tmp_path, source(kelet_api_key="pk_hidden")).warnings
    assert warning.startswith("sync.toml [[sources]] #1 kelet_api_key: ")
    assert "hidden" not in warning


def test_a_source_sets_for_itself(tmp_path: Path) -> None:
    """Two organisations would have to agree on every interval and limit."""
    text = TWO.replace('name = "support_2"', 'name = "support_2"\nsync_interval = "5m"\nsync_late_horizons = ["1h"]')
    settings = read(tmp_path, text, {"KELET_PROJECT": "x", "SYNC_SETTLE": "7s"})
    shop, support = (settings.of(source) for source in settings.sources)
    assert (shop.interval.total_seconds(), support.interval.total_seconds()) == (10.0, 300.0)
    assert [len(one.late_horizons) for one in (shop, support)] == [2, 1]
    assert support.settle.total_seconds() == 7.0
    assert ("sources.support_2.sync_interval", "5m") in [(row.name, row.value) for row in settings.shown]
    assert not [row for row in settings.shown if row.name == "sources.shop.sync_interval"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('sync_settle = "soon"', "sync.toml [[sources]] #2 sync_settle: "),
        ('sync_state_path = "x.db"', "sync.toml [[sources]] #2 sync_state_path: not a known key"),
    ],
)
def test_a_source_sets_what_it_cannot(tmp_path: Path, line: str, message: str) -> None:
    """A setting would look as if it had an effect."""
    text = TWO.replace('name = "support_2"', f'name = "support_2"\n{line}')
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(tmp_path, text, {"KELET_PROJECT": "x"})


def test_overrides_of_scores(tmp_path: Path) -> None:
    """What a table says of scores would not reach them, or another source's would."""
    tables = (
        '[[sources.scores]]\nmatch = "stars*"\nkind = "feedback"\nsource = "human"\ntrigger = "user-stars"\n'
        'range = [1, 5]\ninvert = false\n[[sources.scores]]\nmatch = "debug-*"\nskip = true\n'
    )
    settings = read(tmp_path, f'{TWO}\nkelet_project = "x"\nsync_scores = ["csat", "!x"]\n{tables}')
    shop, support = settings.sources
    assert (settings.of(shop).scores, settings.of(support).scores) == ((), ("csat", "!x"))
    assert shop.scores == ()
    assert support.scores == (
        ScoreOverride("stars*", "feedback", "human", "user-stars", (1.0, 5.0), invert=False),
        ScoreOverride("debug-*", skip=True),
    )
    shown = {row.name: row.value for row in settings.shown}
    assert shown["sources.support_2.scores.1"] == (
        "stars*: kind=feedback, source=human, trigger=user-stars, range=[1, 5], invert=false"
    )


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('match = "a"', "says nothing"),
        ("skip = true", "match: missing"),
        ('match = "a"\nkind = "thumb"', "feedback, edit, event, metric, arbitrary"),
        ('match = "a"\nrange = [5, 1]', "the lowest and the highest value"),
        ('match = "a"\ninvert = "yes"', "true or false"),
        ('match = "a"\nranges = [1, 5]', "not a known key"),
    ],
)
def test_wrong_overrides_of_scores_name_their_place(tmp_path: Path, table: str, expected: str) -> None:
    """An override with a slip would have no effect, and nobody would see it."""
    (line,) = refusal(tmp_path, f'{TWO}\nkelet_project = "x"\n[[sources.scores]]\n{table}\n')
    assert "sync.toml [[sources]] #2 scores #1" in line
    assert expected in line
