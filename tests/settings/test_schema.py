"""The JSON Schema of sync.toml and the loader accept and reject the same files."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from sync_worker.errors import ConfigError
from sync_worker.settings import load
from sync_worker.settings.json_schema import schema
from tests.support.programs import ROOT

SCHEMA = schema()
VALIDATOR = Draft7Validator(SCHEMA)
SHOP = """
[[sources]]
name = "shop"
langfuse_public_key = "pk-lf-1"
langfuse_secret_key = "sk-lf-1"
kelet_project = "shop"
"""
ENVIRON = {"KELET_API_KEY": "key-of-kelet"}

ACCEPTED = [
    "",
    SHOP,
    'sync_interval = "1h30m"\nsync_settle = "0s"\nsync_patience = " 500ms "\n',
    'sync_start = "2026-01-31T00:00:00Z"\n',
    "sync_start = 2026-01-31T00:00:00Z\n",
    'sync_start = "2d"\n',
    'sync_late_horizons = ["20m", "2h"]\nsync_score_horizons = "2h, 48h"\n',
    'sync_updates = "IGNORE"\nsync_compression = "none"\n',
    'sync_max_batch_spans = 4096\nsync_max_attributes = "64"\n',
    "sync_allow_plain_http = true\nsync_score_authors = 0\nsync_sample_errors = 'off'\n",
    'sync_scores = true\nsync_sample = "0.5%"\nsync_budget_share = "50 %"\n',
    'sync_redact = ["email", "card"]\nsync_include_tags = "a,b"\n',
    'langfuse_host = "http://localhost:3000"\nlangfuse_secret_key_file = "/run/secrets/key"\n',
    "[redact.patterns]\nstaff = 'EMP-[0-9]{6}'\n",
    SHOP + 'sync_interval = "5m"\n[[sources.routes]]\nproject = "eu"\nenvironment = "prod*"\ntags = ["a"]\n',
    SHOP + "[[sources.routes]]\ndrop = true\nmetadata = {team = 'x'}\n",
    SHOP + '[[sources.scores]]\nmatch = "csat*"\nkind = "feedback"\nrange = [1, 5]\ninvert = true\n',
    SHOP + 'targets = ["kelet"]\n',
    SHOP + '[[sources.targets]]\nname = "lab"\nsync_target = "phoenix"\nsync_target_project = "x"\n',
    SHOP + 'sync_target = "otlp"\nsync_target_url = "https://o.example.com"\nsync_target_headers = {a = "b"}\n',
]

REJECTED = [
    'sync_intervall = "1m"\n',
    "sync_interval = 60\n",
    'sync_interval = "60"\n',
    'sync_interval = "soon"\n',
    'sync_interval = "0s"\n',
    'sync_interval = "1m1h"\n',
    'sync_interval = ["1m"]\n',
    'sync_interval = ""\n',
    'sync_start = "yesterday"\n',
    'sync_start = "2026-01-31"\n',
    'sync_late_horizons = ["20m", "x"]\n',
    "sync_late_horizons = [20]\n",
    "sync_late_horizons = []\n",
    'sync_updates = "resent"\n',
    "sync_max_batch_spans = 4097\n",
    "sync_max_attributes = 31\n",
    "sync_max_attributes = 64.5\n",
    'sync_max_attributes = "many"\n',
    "sync_allow_plain_http = 'maybe'\n",
    "sync_allow_plain_http = 2\n",
    'sync_budget_share = "101%"\n',
    'sync_budget_share = "0%"\n',
    'sync_sample = "10"\n',
    'langfuse_base_url = "cloud.langfuse.com"\n',
    'langfuse_base_url = "https://user:x@cloud.langfuse.com"\n',
    'langfuse_public_key = "sk-lf-1"\n',
    'sync_config = "other.toml"\n',
    "[redact]\nemail = true\n",
    "[redact.patterns]\nemail = 'x'\n",
    "[redact.patterns]\nstaff = 3\n",
    'sources = []\n',
    'sources = "shop"\n',
    SHOP.replace('name = "shop"', ""),
    SHOP.replace('name = "shop"', 'name = "My Shop"'),
    SHOP + 'sync_state_path = "x.db"\n',
    SHOP + 'langfuse_secret_key_file = "/run/secrets/key"\n',
    SHOP + '[[sources.routes]]\nproject = "eu"\n',
    SHOP + '[[sources.routes]]\nenvironment = "prod"\n',
    SHOP + '[[sources.routes]]\nproject = "eu"\ndrop = true\nenvironment = "prod"\n',
    SHOP + '[[sources.routes]]\nproject = "eu"\nenv = "prod"\n',
    SHOP + '[[sources.routes]]\nproject = "eu"\ntags = "vip"\n',
    SHOP + "[[sources.routes]]\ndrop = false\nenvironment = 'x'\n",
    SHOP + '[[sources.scores]]\nkind = "feedback"\n',
    SHOP + '[[sources.scores]]\nmatch = "csat"\n',
    SHOP + '[[sources.scores]]\nmatch = "csat"\nkind = "star"\n',
    SHOP + '[[sources.scores]]\nmatch = "csat"\nrange = [1]\n',
    SHOP + 'targets = []\n',
    SHOP + 'targets = ["keelet"]\n',
    SHOP + 'sync_target = "otlp"\ntargets = ["kelet"]\n',
]  # fmt: skip


def _loads(folder: Path, text: str) -> bool:
    (folder / "sync.toml").write_text(text)
    try:
        load(environ=ENVIRON, directory=folder, need_sources=False)
    except ConfigError:
        return False
    return True


def _matches(text: str) -> bool:
    return bool(VALIDATOR.is_valid(json.loads(json.dumps(tomllib.loads(text), default=lambda time: time.isoformat()))))


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_is_right_is_right_for_both(tmp_path: Path, text: str) -> None:
    """An editor marks a line that works, or completes what the loader rejects."""
    assert (_loads(tmp_path, text), _matches(text)) == (True, True)


@pytest.mark.parametrize("text", REJECTED)
def test_what_is_wrong_is_wrong_for_both(tmp_path: Path, text: str) -> None:
    """A mistake is seen only when the worker starts, or the schema forbids more than the loader does."""
    assert (_loads(tmp_path, text), _matches(text)) == (False, False)


def test_the_example_matches() -> None:
    """The file that is to be copied is marked by the editor, or does not name the schema beside it."""
    text = (ROOT / "sync.toml.example").read_text(encoding="utf-8")
    assert _matches(text)
    assert text.startswith("#:schema ./sync.schema.json\n")


def test_the_file_is_as_the_code_says() -> None:
    """sync.schema.json would lack a setting (run scripts/docs), or be no schema."""
    assert json.loads((ROOT / "sync.schema.json").read_text(encoding="utf-8")) == SCHEMA
    Draft7Validator.check_schema(SCHEMA)
