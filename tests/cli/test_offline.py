"""`check --offline`: the settings alone, in CI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sync_worker.errors import ExitCode
from tests.cli.program import run
from tests.support.programs import ROOT

SHOP = '[[sources]]\nname = "shop"\nlangfuse_base_url = "https://langfuse.example.com"\nkelet_project = "shop"\n'


def test_settings_without_keys(tmp_path: Path) -> None:
    """CI, which has no keys, cannot check a file before it is deployed; or the check leaves a state file behind."""
    (tmp_path / "sync.toml").write_text(SHOP + 'kelet_api_key_file = "/run/secrets/none"\n')
    code, out, err = run(tmp_path, "check", "--offline")
    assert (code, err.count("\n"), list(tmp_path.iterdir())) == (0, 1, [tmp_path / "sync.toml"])
    assert "ok    settings: sync.toml [[sources]] #1 langfuse_secret_key: missing here; a run needs it\n" in out
    assert "FAIL" not in out


def test_settings_with_keys(tmp_path: Path) -> None:
    """Nobody sees what the settings come to."""
    keys = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-1", "KELET_API_KEY": "key-of-kelet"}
    (tmp_path / "sync.toml").write_text(SHOP)
    code, out, _ = run(tmp_path, "check", "--offline", environ=keys)
    assert code == 0
    assert out.splitlines()[0].startswith("ok    shop: https://langfuse.example.com to Kelet at https://api.kelet.ai/")
    assert "key-of-kelet" not in out


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (SHOP.replace('kelet_project = "shop"', ""), "kelet_project: missing"),
        (SHOP + 'sync_interval = "soon"\n', "sync_interval: not a duration"),
        (SHOP + 'kelet_api_key = "two words"\n', "kelet_api_key: holds spaces"),
        ("sync_updates = 3\n" + SHOP, "SYNC_UPDATES: not one of the choices"),
        ("[[sources\n", "not valid TOML"),
    ],
)
def test_what_is_wrong_fails(tmp_path: Path, text: str, printed: str) -> None:
    """A mistake that is no missing key passes CI."""
    (tmp_path / "sync.toml").write_text(text)
    code, out, _ = run(tmp_path, "check", "--offline", "--json")
    result = json.loads(out)
    assert (code, result["exit_code"]) == (ExitCode.USAGE, ExitCode.USAGE)
    failed = [check["found"] for check in result["checks"] if not check["ok"]]
    assert any(printed in found for found in failed)


def test_the_schema_is_printed(tmp_path: Path) -> None:
    """Who installed the package has no schema for the editor."""
    code, out, err = run(tmp_path, "config", "schema")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads((ROOT / "sync.schema.json").read_text(encoding="utf-8"))
