"""Rules, dashboard and page are about metrics that there are; with a real Prometheus where it is installed."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from sync_worker.watch.metrics import METRICS
from tests.docs.pages import anchors
from tests.docs.tables import MONITORING, ROOT
from tests.support.rows import trace
from tests.sync.conftest import MakeWorld
from tests.watch.port import PATIENCE, running

FOLDER = ROOT / "deploy" / "monitoring"
RULES = FOLDER / "rules.yaml"
TESTS = ROOT / "tests" / "watch" / "rules_test.yaml"
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None, reason="there is no Prometheus here"
)

#: All series that are exported, with the labels that they may be selected and grouped by.
SERIES = {
    metric.full_name + suffix: {*metric.labels, *(["le"] if suffix == "_bucket" else [])}
    for metric in METRICS
    for suffix in (("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",))
}
_SERIES_WITHOUT = {"sync_worker_arrival_delay_seconds_count", "sync_worker_arrival_delay_seconds_sum"}


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def expressions() -> list[str]:
    """Return what rules, dashboard and page ask Prometheus for."""
    dashboard = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    return [*(alert["expr"] for alert in alerts()), *asked, *variables]


@pytest.mark.parametrize("expression", expressions())
def test_what_is_asked_for_is_exported(expression: str) -> None:
    """An alert would never fire, or a panel stay empty, since a metric or a label has another name."""
    named = re.findall(r"(sync_worker_\w+)(?:\{([^}]*)\})?", expression)
    assert named
    for name, selector in named:
        assert name in SERIES.keys() - _SERIES_WITHOUT, name
        assert set(re.findall(r"(\w+)\s*[=!]", selector)) <= SERIES[name]
    labels = set().union(*(SERIES[name] for name, _ in named))
    for grouped in re.findall(r"(?:by|on) \(([^)]*)\)", expression):
        assert set(re.split(r",\s*", grouped)) <= labels


def test_the_dashboard_shows_every_gauge() -> None:
    """Something is exported that nobody sees, such as a pause that somebody has forgotten."""
    panels = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    shown = {name for panel in panels for target in panel["targets"] for name in _names_in(target["expr"])}
    gauges = {metric.full_name for metric in METRICS if metric.kind == "gauge"}
    assert gauges - shown == {
        "sync_worker_build_info", "sync_worker_last_cycle_timestamp_seconds", "sync_worker_last_cycle_outcome",
        "sync_worker_last_score_listing_timestamp_seconds", "sync_worker_state_file_system_size_bytes",
    }  # fmt: skip


def _names_in(expression: str) -> list[str]:
    return re.findall(r"sync_worker_\w+", expression)


def test_the_page_names_only_what_is_exported() -> None:
    """A reader would graph a metric that does not exist."""
    named = set(re.findall(r"\bsync_worker_[a-z_]+(?<!_)", MONITORING.read_text(encoding="utf-8")))
    assert named - SERIES.keys() - {metric.full_name for metric in METRICS} == {"sync_worker"} & named


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_each_alert_says_what_to_type(alert: dict[str, Any]) -> None:
    """Somebody who is woken up would find no section on it, or one without a command."""
    name, anchor = alert["alert"], alert["annotations"]["runbook"].rpartition("#")[2]
    assert anchor == name.lower()
    assert anchor in anchors(MONITORING)
    section = MONITORING.read_text(encoding="utf-8").partition(f"### {name}\n")[2].partition("\n### ")[0]
    assert "```sh\n" in section
    assert alert["labels"]["severity"] in {"warning", "critical"}


def test_each_alert_is_tested() -> None:
    """A rule would be changed so that it never fires, and nobody notice."""
    cases = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
    outcomes = [(test["alertname"], bool(test["exp_alerts"])) for case in cases for test in case["alert_rule_test"]]
    assert set(outcomes) == {(alert["alert"], fires) for alert in alerts() for fires in (True, False)}


@needs_prometheus
def test_rules_fire_when_they_should() -> None:
    """An alert would not fire, or fire while all is well."""
    done = subprocess.run(
        ["promtool", "test", "rules", str(TESTS)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_a_real_prometheus_scrapes_a_worker(make_world: MakeWorld, tmp_path: Path) -> None:
    """Prometheus would reject what the worker exports, or read it as something else."""
    start = datetime.now(UTC) - timedelta(hours=1)
    made = make_world([row for _ in range(3) for row in trace(3, start=start, seconds=5.0)])
    with running(made) as port:
        port.until(lambda _: len(made.kelet.spans) == 12)
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=port.get("/metrics").body, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
        assert _scraped(port.url, tmp_path, 'sync_worker_spans_total{outcome="accepted"}') == 12
        made.program("once", "--metrics-file", "once.prom", "--state", "other.db")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=(made.folder / "once.prom").read_text(), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def _scraped(url: str, folder: Path, query: str) -> float:
    """Return what a Prometheus, started here for it, knows of a worker once it has scraped it without an error."""
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "sync-worker", "static_configs": [{"targets": [url.removeprefix("http://")]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={address}"],
            stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE
        while not (_ask(address, 'up{job="sync-worker"} == 1') and (found := _ask(address, query))):
            assert time.monotonic() < deadline, (folder / "prometheus.log").read_text()
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            time.sleep(0.2)
        return float(found[0]["value"][1])
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def _ask(address: str, query: str) -> list[Any]:
    asked = urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(f"http://{address}/api/v1/query?{asked}", timeout=5) as response:
            return list(json.loads(response.read())["data"]["result"])
    except OSError:  # it is starting
        return []
