"""Targets: where spans go if not to Kelet alone, by the settings."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from sync_worker.errors import ConfigError
from sync_worker.settings import Settings, load, reread, target_of
from sync_worker.targets import PRESETS, Target

LANGFUSE = {"LANGFUSE_PUBLIC_KEY": "pk-lf-hidden-0001", "LANGFUSE_SECRET_KEY": "sk-lf-hidden-0002"}
KELET = {"KELET_API_KEY": "sk-kelet-hidden-0003", "KELET_PROJECT": "shop"}
SOURCE = """
[[sources]]
name = "prod"
langfuse_public_key = "pk-lf-hidden-0001"
langfuse_secret_key = "sk-lf-hidden-0002"
kelet_api_key = "sk-kelet-hidden-0003"
kelet_project = "shop"
"""


def target(directory: Path, **environ: str) -> Target:
    (source,) = load({**LANGFUSE, **environ}, directory).sources
    return target_of(source)


def refusal(directory: Path, toml: str = "", **environ: str) -> str:
    if toml:
        (directory / "sync.toml").write_text(toml)
    with pytest.raises(ConfigError) as caught:
        load(environ if toml else {**LANGFUSE, **environ}, directory)
    assert "hidden" not in str(caught.value)
    return str(caught.value)


def read(directory: Path, toml: str, **environ: str) -> Settings:
    (directory / "sync.toml").write_text(toml)
    return load(environ, directory)


def test_kelet_is_the_preset(tmp_path: Path) -> None:
    """Who says nothing of targets would be sent elsewhere, or with another key."""
    found = target(tmp_path, **KELET)
    assert (found.name, found.title, found.url) == ("kelet", "Kelet", "https://api.kelet.ai/api/traces")
    assert dict(found.headers) == {"Authorization": "sk-kelet-hidden-0003"}
    assert (found.encoding, found.kelet_attributes) == ("protobuf", True)


@pytest.mark.parametrize(
    ("preset", "url", "endpoint"),
    [
        ("phoenix", "", "http://localhost:6006/v1/traces"),
        ("phoenix", "https://phoenix.example.com/team/", "https://phoenix.example.com/team/v1/traces"),
        ("phoenix", "http://localhost:6006/v1/traces", "http://localhost:6006/v1/traces"),
        ("langfuse", "", "https://cloud.langfuse.com/api/public/otel/v1/traces"),
        ("langfuse", "https://lf.example.com", "https://lf.example.com/api/public/otel/v1/traces"),
        ("otlp", "https://otlp.example.com", "https://otlp.example.com/v1/traces"),
        ("otlp", "https://intake.example.com/api/v0.2/traces", "https://intake.example.com/api/v0.2/traces"),
    ],
)
def test_addresses(preset: str, url: str, endpoint: str, tmp_path: Path) -> None:
    """A base address would get spans itself, or the address of the endpoint a second path."""
    key = {"SYNC_TARGET_KEY": "pk-lf-hidden-9:sk-lf-hidden-9"} if preset == "langfuse" else {}
    found = target(tmp_path, SYNC_TARGET=preset, SYNC_TARGET_URL=url, SYNC_TARGET_PROJECT="lab", **key)
    assert found.url == endpoint
    assert not found.kelet_attributes


def test_keys_of_presets(tmp_path: Path) -> None:
    """Phoenix would get the key without Bearer, Langfuse without Basic."""
    phoenix = target(tmp_path, SYNC_TARGET="phoenix", SYNC_TARGET_PROJECT="lab", SYNC_TARGET_KEY="hidden-key")
    assert phoenix.headers["Authorization"] == "Bearer hidden-key"
    keys = "pk-lf-hidden-9:sk-lf-hidden-9"
    langfuse = target(tmp_path, SYNC_TARGET="langfuse", SYNC_TARGET_KEY=keys)
    scheme, encoded = langfuse.headers["Authorization"].split()
    assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", keys)


@pytest.mark.parametrize(
    "text",
    [
        "Authorization=Basic aGlkZGVu==,x-tenant=shop",
        "Authorization=Basic%20aGlkZGVu==, x-tenant=shop",
        "Authorization: Basic aGlkZGVu==\nx-tenant: shop\n",
    ],
)
def test_headers(text: str, tmp_path: Path) -> None:
    """Headers as they stand in OTEL_EXPORTER_OTLP_HEADERS, or in a file, would be refused or cut."""
    file = tmp_path / "headers"
    file.write_text(text)
    otlp = {"SYNC_TARGET": "otlp", "SYNC_TARGET_URL": "https://otlp.example.com"}
    for given in ({"SYNC_TARGET_HEADERS": text}, {"SYNC_TARGET_HEADERS_FILE": "./headers"}):
        found = target(tmp_path, **otlp, **given)
        assert dict(found.headers) == {"Authorization": "Basic aGlkZGVu==", "x-tenant": "shop"}
        assert "aGlkZGVu==" in found.secrets
        assert "aGlk" not in repr(found)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"SYNC_TARGET": "zipkin", **KELET}, "SYNC_TARGET: not one of the choices; got 'zipkin'"),
        ({"SYNC_TARGET": "otlp"}, "SYNC_TARGET_URL: missing; expected the address of the target"),
        ({"SYNC_TARGET": "phoenix"}, "SYNC_TARGET_PROJECT: missing"),
        (
            {"SYNC_TARGET": "phoenix", "SYNC_TARGET_PROJECT": "x", "SYNC_TARGET_ENCODING": "json"},
            "phoenix does not take json",  # each request would be rejected
        ),
        ({"SYNC_TARGET": "langfuse"}, "SYNC_TARGET_KEY: missing"),
        ({"SYNC_TARGET": "langfuse", "SYNC_TARGET_KEY": "sk-lf-hidden-9"}, "SYNC_TARGET_KEY: not the keys of a Langf"),
        (
            {**KELET, "SYNC_TARGET_URL": "https://x.example"},
            "SYNC_TARGET_URL: has no effect on Kelet. Try: set KELET_A",
        ),
        ({"SYNC_TARGET": "otlp", "SYNC_TARGET_URL": "http://x.example"}, "SYNC_TARGET_URL: http:// would send the key"),
        ({**KELET, "SYNC_TARGET_HEADERS": "nonsense-hidden"}, "SYNC_TARGET_HEADERS: not headers; the value from env"),
        ({**KELET, "SYNC_TARGET_HEADERS": "Content-Type=x"}, "SYNC_TARGET_HEADERS: sets Content-Type, which the wor"),
        ({**KELET, "SYNC_TARGET_HEADERS": "a=1,A=2"}, "SYNC_TARGET_HEADERS: sets A twice"),
        ({**KELET, "SYNC_TARGET_HEADERS": "Authorization=hidden"}, "SYNC_TARGET_HEADERS: holds Authorization, which K"),
        (
            {"SYNC_TARGET": "phoenix", "SYNC_TARGET_PROJECT": "x", "SYNC_TARGET_KEY": "sk-kelet-hidden-0003"},
            "SYNC_TARGET_KEY: this is a Kelet key, which must not be sent to this target",
        ),
    ],
)
def test_refusals(environ: dict[str, str], message: str, tmp_path: Path) -> None:
    """A target that cannot work, or gets a key that is not its own, would be found out by the first request."""
    assert message in refusal(tmp_path, **environ)


def test_langfuse_does_not_feed_itself(tmp_path: Path) -> None:
    """What is sent to the project that is read would be read and sent for ever."""
    keys = "pk-lf-hidden-0001:sk-lf-hidden-0002"
    message = refusal(tmp_path, SYNC_TARGET="langfuse", SYNC_TARGET_KEY=keys)
    assert message.startswith("SYNC_TARGET_KEY: is the Langfuse project that is read")
    elsewhere = target(
        tmp_path, SYNC_TARGET="langfuse", SYNC_TARGET_KEY=keys, SYNC_TARGET_URL="https://other.example.com"
    )
    assert elsewhere.url.startswith("https://other.example.com/")


def test_several_targets_of_a_source(tmp_path: Path) -> None:
    """A target would be left out, named like another, or given another one's key or settings."""
    settings = read(
        tmp_path,
        SOURCE
        + """
[[sources.targets]]
sync_target = "kelet"
[[sources.targets]]
sync_target = "phoenix"
sync_target_key = "hidden-phoenix-key"
sync_target_project = "lab"
sync_attributes = "genai"
sync_interval = "5m"
[[sources.targets]]
name = "archive"
sync_target = "otlp"
sync_target_url = "https://otlp.example.com"
sync_target_encoding = "json"
sync_target_headers = {x-key = "hidden, with a comma"}
""",
        SYNC_ATTRIBUTES="langfuse",
    )
    assert [(one.name, one.target, one.kelet_project) for one in settings.sources] == [
        ("prod", "kelet", "shop"),
        ("prod/phoenix", "phoenix", "lab"),
        ("prod/archive", "archive", "shop"),
    ]
    assert [settings.of(one).attributes for one in settings.sources] == ["langfuse", "genai", "langfuse"]
    targets = [target_of(one) for one in settings.sources]
    assert [dict(one.headers) for one in targets] == [
        {"Authorization": "sk-kelet-hidden-0003"},
        {"Authorization": "Bearer hidden-phoenix-key"},
        {"x-key": "hidden, with a comma"},
    ]
    assert [one.encoding for one in targets] == ["protobuf", "protobuf", "json"]
    assert not any(secret in repr(settings.shown) for secret in ("hidden-phoenix", "hidden, with"))
    assert ("sources.prod/archive.sync_target_headers", "x-key=***") in [(row[0], row[1]) for row in settings.shown]


def test_targets_by_their_names_alone(tmp_path: Path) -> None:
    """The short form would be refused."""
    settings = read(tmp_path, SOURCE + 'targets = ["kelet", "phoenix"]\n')
    assert [(one.name, one.target) for one in settings.sources] == [("prod", "kelet"), ("prod/phoenix", "phoenix")]


def test_a_target_inherits_no_key(tmp_path: Path) -> None:
    """A key that was meant for one target would be sent to the address of another."""
    settings = read(
        tmp_path, SOURCE + 'targets = ["kelet", "phoenix"]\n', SYNC_TARGET_KEY="hidden", SYNC_TARGET="phoenix"
    )
    assert [dict(target_of(one).headers) for one in settings.sources][1] == {}
    assert "SYNC_TARGET_KEY has no effect, since each source has targets, which say it themselves." in settings.warnings


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (SOURCE + "targets = []", "sync.toml [[sources]] #1 targets: not a list of targets"),
        (SOURCE + 'targets = ["zipkin"]', "sync.toml [[sources]] #1 targets #1 sync_target: not one of the choices"),
        (SOURCE + 'targets = ["kelet", "kelet"]', "sync.toml [[sources]] #1 targets #2: the same target name as sync"),
        (
            SOURCE + 'sync_target_url = "https://x.example"\ntargets = ["kelet"]',
            "sync.toml [[sources]] #1 sync_target_url: belongs to one target",
        ),
        (
            SOURCE + '[[sources.targets]]\nlangfuse_base_url = "https://x.example"',
            "sync.toml [[sources]] #1 targets #1 langfuse_base_url: not a known key",
        ),
        (
            SOURCE + '[[sources.targets]]\nsync_target = "otlp"',
            "sync.toml [[sources]] #1 targets #1 sync_target_url: missing",
        ),
        (SOURCE + SOURCE.replace("prod", "two"), "sync.toml [[sources]] #2: the same Langfuse project and target as"),
    ],
)
def test_refusals_in_the_file(toml: str, message: str, tmp_path: Path) -> None:
    """A mistake in a table would be found out by the first request, or say no place."""
    assert message in refusal(tmp_path, toml)


def test_two_sources_of_one_project_with_two_targets(tmp_path: Path) -> None:
    """The same pair twice is refused; two pairs with one Langfuse project are two sources."""
    two = SOURCE.replace("prod", "two") + 'sync_target = "phoenix"\n'
    assert [one.target for one in read(tmp_path, SOURCE + two).sources] == ["kelet", "phoenix"]


def test_keys_of_targets_change_in_their_files(tmp_path: Path) -> None:
    """The worker would send with a key that is dead until somebody starts it anew."""
    (tmp_path / "key").write_text("hidden-old")
    (tmp_path / "headers").write_text("x-key=hidden-old")
    environ = {
        **LANGFUSE,
        "SYNC_TARGET": "phoenix",
        "SYNC_TARGET_PROJECT": "lab",
        "SYNC_TARGET_KEY_FILE": "./key",
        "SYNC_TARGET_HEADERS_FILE": "./headers",
    }
    (source,) = load(environ, tmp_path).sources
    assert reread(source).changed == ()
    (tmp_path / "key").write_text("hidden-new")
    (tmp_path / "headers").write_text("x-key=hidden-newer")
    found = reread(source)
    assert [file.name for file in found.changed] == ["key", "headers"]
    assert dict(target_of(found.source).headers) == {"Authorization": "Bearer hidden-new", "x-key": "hidden-newer"}


def test_key_stands_in_the_header_of_its_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that has a header of its own for the key is sent Authorization, or both."""
    monkeypatch.setitem(
        PRESETS, "otlp", replace(PRESETS["otlp"], key_header="X-Ingest-Key", scheme="raw", key_required=True)
    )
    there = {"SYNC_TARGET": "otlp", "SYNC_TARGET_URL": "https://ingest.example"}
    assert target(tmp_path, **there, SYNC_TARGET_KEY="hidden-key").headers == {"X-Ingest-Key": "hidden-key"}
    own = {"SYNC_TARGET_HEADERS": "x-ingest-key=hidden-key"}
    assert target(tmp_path, **there, **own).headers == {"x-ingest-key": "hidden-key"}
    assert "SYNC_TARGET_KEY" in refusal(tmp_path, **there)
    both = refusal(tmp_path, **there, **own, SYNC_TARGET_KEY="hidden-key")
    assert "holds X-Ingest-Key, which SYNC_TARGET_KEY makes" in both
