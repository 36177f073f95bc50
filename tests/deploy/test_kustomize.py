"""What the overlays render to: valid objects, within the restricted pod security level, that find each other."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sync_worker import __version__
from sync_worker.watch.pages import HANGS_AFTER
from tests.deploy.kustomize import (
    FOLDER,
    OVERLAYS,
    ROOT,
    Object,
    breaches,
    can_render,
    mistakes,
    pod_template,
    render,
    render_with,
)
from tests.docs.tables import PROMETHEUS_RULE, RULES, prometheus_rule

pytestmark = pytest.mark.skipif(not can_render(), reason="there is no kubectl that knows components")

#: Overlays with the components that fit them.
COMPOSED = {
    **{name: (name, ()) for name in OVERLAYS},
    "worker, all": ("worker", ("key-files", "monitoring", "network-policy")),
    "cronjob, all": ("cronjob", ("key-files", "network-policy")),
    "backfill, all": ("backfill", ("key-files", "network-policy")),
    "merge, all": ("merge", ("key-files",)),
}


@pytest.fixture(scope="module", params=[*COMPOSED, "example"])
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """Return the objects of one composition."""
    if request.param == "example":
        return render(FOLDER / "example")
    overlay, components = COMPOSED[request.param]
    return render_with(tmp_path_factory.mktemp("composed"), overlay, *components)


def only(objects: list[Object], kind: str) -> Object:
    """Return the one object of a kind."""
    (found,) = [document for document in objects if document["kind"] == kind]
    return found


def workload(objects: list[Object]) -> tuple[Object, Object]:
    """Return the one object that starts pods, and its pod template."""
    ((document, template),) = [(one, template) for one in objects if (template := pod_template(one))]
    return document, template


def container_of(template: Object) -> Object:
    (container,) = template["spec"]["containers"]
    return container  # type: ignore[no-any-return]


class TestEveryOverlay:
    def test_valid(self, objects: list[Object]) -> None:
        """The API server would reject an object, or drop a misspelt field without a word."""
        assert [mistake for document in objects for mistake in mistakes(document)] == []

    def test_restricted(self, objects: list[Object]) -> None:
        """A namespace that enforces the restricted level would start no pod."""
        _, template = workload(objects)
        assert list(breaches(template["spec"])) == []
        assert template["spec"]["automountServiceAccountToken"] is False
        assert container_of(template)["securityContext"]["readOnlyRootFilesystem"] is True

    def test_image_and_resources(self, objects: list[Object]) -> None:
        """The newest image of the day would run, or memory without a bound would take the node down."""
        container = container_of(workload(objects)[1])
        assert container["image"].split("/")[-1] == f"sync-worker:{__version__}"
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]

    def test_labels(self, objects: list[Object]) -> None:
        """Selectors of Deployments, monitors and policies would match no pod, and nothing would say so."""
        document, template = workload(objects)
        labels = template["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "sync-worker"
        assert {one["metadata"]["labels"]["app.kubernetes.io/name"] for one in objects} == {"sync-worker"}
        selectors = [document["spec"].get("selector", {}).get("matchLabels", {})] if document["kind"] != "Job" else []
        for one in objects:
            if one["kind"] == "NetworkPolicy":
                selectors.append(one["spec"]["podSelector"]["matchLabels"])
            if one["kind"] == "PodMonitor":
                selectors.append(one["spec"]["selector"]["matchLabels"])
        assert all(selector.items() <= labels.items() for selector in selectors)

    def test_references(self, objects: list[Object]) -> None:
        """A pod would wait for ever for an object of another name."""
        _, template = workload(objects)
        container, spec = container_of(template), template["spec"]
        maps = {one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"} or {"sync-worker"}
        claims = {one["metadata"]["name"] for one in objects if one["kind"] == "PersistentVolumeClaim"}
        claims = claims or {"sync-worker", "sync-worker-backfill"}  # those of the others, which are merged
        secrets = [source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source]
        secrets += [volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume]
        assert secrets == ["sync-worker"], "the keys reach the pod in one way"
        assert {source["configMapRef"]["name"] for source in container["envFrom"] if "configMapRef" in source} == maps
        mounted = {v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v}
        assert mounted == claims
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}

    def test_time_to_finish(self, objects: list[Object]) -> None:
        """Kubernetes would kill the worker in the middle of what systemd lets it finish."""
        unit = (ROOT / "deploy" / "systemd" / "sync-worker-run.service").read_text()
        stop = re.search(r"^TimeoutStopSec=(\d+)s$", unit, re.MULTILINE)
        assert stop is not None
        assert workload(objects)[1]["spec"]["terminationGracePeriodSeconds"] == int(stop[1])


class TestWorker:
    def test_one_at_a_time(self) -> None:
        """A rollout would start the new pod while the old one holds the volume, and hang."""
        spec = only(render(FOLDER / "overlays" / "worker"), "Deployment")["spec"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})

    def test_probes(self) -> None:
        """A worker that hangs would never be restarted, or one that waits for an outage would be."""
        _, template = workload(render(FOLDER / "overlays" / "worker"))
        container = container_of(template)
        (port,) = container["ports"]
        (listen,) = [one["value"] for one in container["env"] if one["name"] == "SYNC_HTTP_LISTEN"]
        assert listen == f"0.0.0.0:{port['containerPort']}"
        probes = {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
        assert {probe["httpGet"]["port"] for probe in probes.values()} == {port["name"]}
        assert [probe["httpGet"]["path"] for probe in probes.values()] == ["/healthz", "/healthz", "/readyz"]
        assert all(probe["timeoutSeconds"] > 2 for probe in probes.values()), "an answer may take two seconds"
        started = probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"]
        assert started >= HANGS_AFTER, "a start may take as long as a worker that works may be silent"

    def test_scraped(self, tmp_path: Path) -> None:
        """Prometheus would look at another port, the policy would keep it out, or the alerts would know another job."""
        objects = render_with(tmp_path, "worker", "monitoring", "network-policy")
        _, template = workload(objects)
        monitor, policy = only(objects, "PodMonitor")["spec"], only(objects, "NetworkPolicy")["spec"]
        (port,), (endpoint,) = container_of(template)["ports"], monitor["podMetricsEndpoints"]
        (ingress,) = policy["ingress"]
        assert [one["port"] for one in ingress["ports"]] == [endpoint["port"]] == [port["name"]]
        assert set(ingress["from"][0]) == {"namespaceSelector", "podSelector"}, "both must match, not either"
        job = template["metadata"]["labels"][monitor["jobLabel"]]
        assert set(re.findall(r'job="([^"]+)"', RULES.read_text())) == {job}

    def test_policy_lets_nothing_else_through(self, tmp_path: Path) -> None:
        """A worker that was taken over could reach every service of the cluster."""
        policy = only(render_with(tmp_path, "worker", "network-policy"), "NetworkPolicy")["spec"]
        assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
        reached = {(port["protocol"], port["port"]) for rule in policy["egress"] for port in rule["ports"]}
        assert reached == {("UDP", 53), ("TCP", 53), ("TCP", 443)}

    def test_alerts_are_those_of_the_file(self) -> None:
        """The Operator would load other alerts than those that are tested (run scripts/docs)."""
        assert PROMETHEUS_RULE.read_text() == prometheus_rule(RULES.read_text())

    @pytest.mark.parametrize("overlay", ["worker", "cronjob", "backfill"])
    def test_keys_as_files(self, tmp_path: Path, overlay: str) -> None:
        """A key would be in the environment all the same, or in a folder that the worker does not read."""
        container = container_of(workload(render_with(tmp_path, overlay, "key-files"))[1])
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "keys"]
        assert {"name": "SYNC_SECRETS_DIR", "value": mount["mountPath"]} in container["env"]
        assert mount["readOnly"] is True
        assert "secretRef" not in str(container["envFrom"])


class TestBackfill:
    def test_apart_from_the_live_sync(self) -> None:
        """Deleting the backfill would delete the volume or the settings of the live sync."""
        live = {(one["kind"], one["metadata"]["name"]) for one in render(FOLDER / "overlays" / "worker")}
        backfill = {(one["kind"], one["metadata"]["name"]) for one in render(FOLDER / "overlays" / "backfill")}
        assert not live & backfill
        assert {name for _, name in backfill} == {"sync-worker-backfill"}

    def test_number_of_shards_is_written_once(self, tmp_path: Path) -> None:
        """More pods than shards would fail, and fewer would leave out a part of the range without a word."""
        shutil.copytree(FOLDER, tmp_path / "kubernetes")
        file = tmp_path / "kubernetes" / "overlays" / "backfill" / "job.yaml"
        file.write_text(file.read_text().replace("completions: 1\n", "completions: 4\n"))
        job, template = workload(render(tmp_path / "kubernetes" / "overlays" / "backfill"))
        arguments = container_of(template)["args"]
        assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (4, 4)
        assert arguments[arguments.index("--shard") + 1] == "auto/4"

    def test_merged_from_where_it_was_written(self) -> None:
        """The state files of the shards would not be found."""
        written = only(render(FOLDER / "overlays" / "backfill"), "PersistentVolumeClaim")["metadata"]["name"]
        spec = workload(render(FOLDER / "overlays" / "merge"))[1]["spec"]
        (volume,) = [volume["name"] for volume in spec["volumes"] if written in str(volume)]
        (mount,) = [one for one in spec["containers"][0]["volumeMounts"] if one["name"] == volume]
        assert mount["mountPath"] == "/shards"


class TestJudges:
    """The judges above, on objects that are wrong."""

    @staticmethod
    def changed(change: Callable[[Object], object]) -> Object:
        deployment = copy.deepcopy(only(render(FOLDER / "overlays" / "worker"), "Deployment"))
        change(deployment["spec"]["template"]["spec"])
        return deployment

    @pytest.mark.parametrize(
        "change",
        [
            lambda pod: pod.update(hostNetwork=True),
            lambda pod: pod.update(securityContext={}),
            lambda pod: pod["securityContext"].update(runAsUser=0),
            lambda pod: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
            lambda pod: pod["containers"][0]["securityContext"].pop("capabilities"),
            lambda pod: pod["containers"][0]["securityContext"].update(privileged=True),
            lambda pod: pod["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
            lambda pod: pod["containers"][0]["ports"][0].update(hostPort=9464),
        ],
    )
    def test_breaches_are_found(self, change: Callable[[Object], object]) -> None:
        """A rule would match nothing, and let a pod pass that the level forbids."""
        assert list(breaches(self.changed(change)["spec"]["template"]["spec"])) != []

    @pytest.mark.parametrize(
        "change",
        [
            lambda pod: pod.update(restartpolicy="Always"),
            lambda pod: pod["containers"][0].update(readinessProbes={}),
            lambda pod: pod["containers"][0]["livenessProbe"]["httpGet"].pop("port"),
            lambda pod: pod["containers"][0]["env"].append({"name": "SYNC_START", "value": 24}),
            lambda pod: pod.update(terminationGracePeriodSeconds="60s"),
        ],
    )
    def test_mistakes_are_found(self, change: Callable[[Object], object]) -> None:
        """The schemas would let a field pass that no API server knows."""
        assert mistakes(self.changed(change)) != []

    @pytest.mark.parametrize(
        ("file", "path", "value"),
        [
            ("podmonitor.yaml", ("spec", "podMetricsEndpoints", 0, "interval"), "half a minute"),
            ("podmonitor.yaml", ("spec", "podMetricsEndpoint"), []),
            ("rules.yaml", ("spec", "groups", 0, "rules", 0, "fore"), "5m"),
            ("rules.yaml", ("spec", "groups", 0, "rules", 0, "labels"), {"severity": 1}),
        ],
    )
    def test_custom_resources_too(self, tmp_path: Path, file: str, path: tuple[Any, ...], value: object) -> None:
        """The Operator's kinds would be let through unread."""
        kind = {"podmonitor.yaml": "PodMonitor", "rules.yaml": "PrometheusRule"}[file]
        document = copy.deepcopy(only(render_with(tmp_path, "worker", "monitoring"), kind))
        assert mistakes(document) == []
        part: Any = document
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        assert mistakes(document) != []
