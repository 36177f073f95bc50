"""compose.yaml: valid, and as narrow as the pods of Kubernetes; nothing is started."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from sync_worker import __version__
from sync_worker.cli.parser import build_parser
from tests.deploy.kustomize import FOLDER, ROOT
from tests.deploy.vendor import FOLDER as SCHEMAS

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = sorted(COMPOSE["services"])
SCHEMA: dict[str, Any] = json.loads((SCHEMAS / "compose.json").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def test_valid() -> None:
    """Docker would reject the file, or pass over a field that it does not know."""
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(COMPOSE)) == []
    wrong = COMPOSE | {"services": {"worker": COMPOSE["services"]["worker"] | {"readonly": True}}}
    assert not jsonschema.Draft7Validator(SCHEMA).is_valid(wrong)


@pytest.mark.parametrize("name", SERVICES)
class TestEveryService:
    def test_may_do_nothing_but_its_work(self, name: str) -> None:
        """A container would run as root, keep capabilities, or could write to its image."""
        service = COMPOSE["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert re.search(rf"^USER {service['user']}$", DOCKERFILE, re.MULTILINE)
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)
        assert service["mem_limit"] == "512m"

    def test_image_and_state(self, name: str) -> None:
        """Another version would run, or the state file would vanish with the container."""
        service = COMPOSE["services"][name]
        assert service["image"] == f"sync-worker:{__version__}"
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        (volume,) = service["volumes"]
        source, _, target = volume.partition(":")
        assert source in COMPOSE["volumes"]
        assert f"SYNC_STATE_PATH={target}/state.db" in DOCKERFILE

    def test_command(self, name: str) -> None:
        """The container would end with 2 at once."""
        command = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", word) for word in COMPOSE["services"][name]["command"]]
        assert command[0] == name.replace("worker", "run")
        build_parser().parse_args(command)

    def test_time_to_finish(self, name: str) -> None:
        """Docker would kill the worker in the middle of what Kubernetes lets it finish."""
        grace = int(COMPOSE["services"][name]["stop_grace_period"].removesuffix("s"))
        pod = (FOLDER / "overlays" / "worker" / "worker.yaml").read_text()
        assert f"terminationGracePeriodSeconds: {grace}\n" in pod


def test_only_the_worker_starts_by_itself() -> None:
    """`docker compose up` would start a backfill, or a backfill would be started again and again."""
    worker, backfill = COMPOSE["services"]["worker"], COMPOSE["services"]["backfill"]
    assert ("profiles" in worker, backfill["profiles"]) == (False, ["backfill"])
    assert (worker["restart"], backfill["restart"]) == ("unless-stopped", "no")


def test_port() -> None:
    """The port without authentication would be open to the network, or the health check would ask another one."""
    worker = COMPOSE["services"]["worker"]
    port = worker["environment"]["SYNC_HTTP_LISTEN"].rpartition(":")[2]
    assert worker["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"http://127.0.0.1:{port}/healthz" in worker["healthcheck"]["test"][-1]
