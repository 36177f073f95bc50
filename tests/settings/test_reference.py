"""The documentation and the examples, held to the model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sync_worker.settings
from sync_worker.settings import load
from sync_worker.settings.model import FIELDS, REQUIRED, SECRETS, SOURCE_FIELDS, default_text
from tests.docs.tables import dotenv_example, settings_table

ROOT = Path(__file__).parents[2]


def test_dotenv_example_is_what_the_model_says() -> None:
    """`.env.example` would name a setting that does not exist, or miss one, or print an old default."""
    assert dotenv_example() == (ROOT / ".env.example").read_text(encoding="utf-8")


def test_dotenv_example_lists_every_setting_once_with_a_comment() -> None:
    """The way in which the example is made would lose a setting."""
    entries = re.findall(
        r"^# (.+)\n#?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [field.upper() for field in FIELDS] == [name for _, name, _ in entries]
    assert [default_text(field) for field in FIELDS] == [default for _, _, default in entries]
    assert {""} == {default for _, name, default in entries if name.lower() in SECRETS}
    assert all(comment.endswith(".") for comment, _, _ in entries)


def test_dotenv_example_loads_once_filled_in(tmp_path: Path) -> None:
    """A copy of the example, with or without its comment signs, would be refused."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    for field in REQUIRED:
        text = text.replace(f"\n{field.upper()}=\n", f"\n{field.upper()}=some-{field.replace('_', '-')}\n")
    (tmp_path / ".env").write_text(text)
    plain = load({}, tmp_path)
    (tmp_path / "sync.toml").write_text("")
    (tmp_path / ".env").write_text(re.sub(r"^#(?=[A-Z_]+=)", "", text, flags=re.MULTILINE))
    pinned = load({}, tmp_path)
    assert plain.sources == pinned.sources
    assert (plain.warnings, pinned.warnings) == ((), ())


def test_toml_example_loads(tmp_path: Path) -> None:
    """A copy of the example would be refused."""
    text = (ROOT / "sync.toml.example").read_text(encoding="utf-8")
    (tmp_path / "sync.toml").write_text(text.replace("/run/secrets/", "./"))
    for name in re.findall(r"/run/secrets/(\w+)", text):
        (tmp_path / name).write_text("dummy-key-0001")
    settings = load({}, tmp_path)
    assert [(source.name, len(source.routes)) for source in settings.sources] == [
        ("shop", 4),
        ("support", 1),
        ("support/lab", 1),
    ]
    assert settings.warnings == ()


def test_the_table_has_every_setting() -> None:
    """The documentation would miss a setting."""
    lines = settings_table().splitlines()
    assert lines[:2] == ["| Setting | Default | Meaning |", "| --- | --- | --- |"]
    assert [f"| `{field.upper()}` |" for field in FIELDS] == [line[: line.index("|", 1) + 1] for line in lines[2:]]
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == 4


@pytest.mark.parametrize("field", FIELDS)
def test_each_meaning_is_one_sentence(field: str) -> None:
    """The table would print a setting without a meaning, or a page about it."""
    description = sync_worker.settings.model.meaning(field)
    assert re.fullmatch(r"[A-Z][^\n]{10,200}\.", description)
    assert ". " not in description


def test_every_setting_can_be_read(tmp_path: Path) -> None:
    """A setting in the model would have to be handed on by a second piece of code, which somebody would forget."""
    settings = load({}, tmp_path, need_sources=False)
    names = [field if field in SOURCE_FIELDS else field.removeprefix("sync_") for field in FIELDS]
    assert [name for name in names if not hasattr(settings, name)] == []
    assert set(SOURCE_FIELDS) | {field for field in FIELDS if field.startswith("sync_")} == set(FIELDS)


def test_the_exported_names_are_the_documented_ones() -> None:
    """A name that others use would vanish unnoticed."""
    assert {"ConfigError"}.isdisjoint(sync_worker.settings.__all__)
    assert {"Settings", "Source", "load", "target_of"} <= set(sync_worker.settings.__all__)
    assert all(hasattr(sync_worker.settings, name) for name in sync_worker.settings.__all__)
