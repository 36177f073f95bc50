"""The manifests: what the API server would refuse, and what it would accept but should not happen."""

from __future__ import annotations

import fnmatch
import itertools
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from sync_worker import __version__
from sync_worker.cli.commands.backfill import INDEX_VARIABLE
from sync_worker.cli.shard import full_range, shard_of
from sync_worker.errors import ExitCode

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
EXIT_CODES = {value for name, value in vars(ExitCode).items() if name.isupper()}
CRONJOB, BACKFILL, MERGE = "overlays/cronjob/cronjob.yaml", "overlays/backfill/job.yaml", "overlays/merge/job.yaml"
WORKER, CONFIG, CLAIM = "overlays/worker/worker.yaml", "base/config.yaml", "base/claim.yaml"
JOBS = (CRONJOB, BACKFILL, MERGE)
RUNNING = (*JOBS, WORKER)
VERSIONS: Final = {
    "ConfigMap": "v1",
    "Secret": "v1",
    "PersistentVolumeClaim": "v1",
    "CronJob": "batch/v1",
    "Job": "batch/v1",
    "Deployment": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "Kustomization": "kustomize.config.k8s.io/v1beta1",
    "Component": "kustomize.config.k8s.io/v1alpha1",
}


def documents(name: str) -> list[dict[str, Any]]:
    """Return what a file holds."""
    return [document for document in yaml.safe_load_all((FOLDER / name).read_text()) if document]


def of_kind(name: str, kind: str) -> dict[str, Any]:
    """Return the one document of a kind in a file."""
    (found,) = [document for document in documents(name) if document["kind"] == kind]
    return found


def job(name: str) -> dict[str, Any]:
    """Return the spec of the Job in a file, a CronJob's too."""
    if name == CRONJOB:
        return of_kind(name, "CronJob")["spec"]["jobTemplate"]["spec"]  # type: ignore[no-any-return]
    return of_kind(name, "Job")["spec"]  # type: ignore[no-any-return]


def pod(name: str) -> dict[str, Any]:
    """Return the pod's spec in a file."""
    owner = of_kind(name, "Deployment")["spec"] if name == WORKER else job(name)
    return owner["template"]["spec"]  # type: ignore[no-any-return]


def container(name: str) -> dict[str, Any]:
    """Return the only container in a file."""
    (only,) = pod(name)["containers"]
    return only  # type: ignore[no-any-return]


def dockerfile_value(pattern: str) -> str:
    """Return what the Dockerfile says at the first group of a pattern."""
    found = re.search(pattern, (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


class TestObjects:
    @pytest.mark.parametrize(
        "path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.relative_to(FOLDER).as_posix()
    )
    def test_known_to_the_api_server(self, path: Path) -> None:
        """A kind would be looked for in a group that does not have it, or an object would have no valid name."""
        for document in documents(path.relative_to(FOLDER).as_posix()):
            assert document["apiVersion"] == VERSIONS[document["kind"]]
            if document["kind"] not in {"Kustomization", "Component"}:
                assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", document["metadata"]["name"])

    @pytest.mark.parametrize("name", [CONFIG, "secret.yaml"])
    def test_values_are_strings(self, name: str) -> None:
        """The API server refuses a ConfigMap or Secret with a bare number or boolean in it."""
        (document,) = documents(name)
        values = document.get("data", {}) | document.get("stringData", {})
        assert values
        assert all(isinstance(value, str) for value in values.values())

    def test_keys_only_in_the_secret(self) -> None:
        """A key would stand in a ConfigMap, or a real one in the repository."""
        secret = of_kind("secret.yaml", "Secret")["stringData"]
        assert set(secret) == {"LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "KELET_API_KEY"}
        assert set(secret.values()) == {"replace-me"}
        assert not set(of_kind(CONFIG, "ConfigMap")["data"]) & set(secret)

    def test_kustomizations(self) -> None:
        """Two workers would be started, a file would be missing, or the placeholders would replace keys in use."""
        for path in FOLDER.rglob("kustomization.yaml"):
            (kustomization,) = documents(path.relative_to(FOLDER).as_posix())
            for name in [*kustomization.get("resources", []), *kustomization.get("components", [])]:
                assert (path.parent / name).exists(), f"{path}: {name}"
                assert name.split("/")[-1] != "secret.yaml"
            started = {"cronjob.yaml", "worker.yaml", "job.yaml"} & set(kustomization.get("resources", []))
            assert len(started) == (path.parent.parent.name == "overlays")

    def test_image(self) -> None:
        """A manifest would start another version than the one that it belongs to, or the newest of the day."""
        (image,) = documents("components/image/kustomization.yaml")[0]["images"]
        assert (image["name"], image["newTag"]) == ("sync-worker", __version__)
        assert {container(name)["image"] for name in RUNNING} == {f"sync-worker:{__version__}"}


@pytest.mark.parametrize("name", RUNNING)
class TestPods:
    def test_may_do_nothing_but_its_work(self, name: str) -> None:
        """The pod would run as root, could write to its image, or be refused by the `restricted` pod security level."""
        spec, only = pod(name), container(name)
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }

    def test_user_of_the_image(self, name: str) -> None:
        """The state file would belong to another user than the one who runs."""
        uid = int(dockerfile_value(r"^USER (\d+):\d+$"))
        context = pod(name)["securityContext"]
        assert uid == 10001
        assert {context["runAsUser"], context["runAsGroup"], context["fsGroup"]} == {uid}

    def test_state_is_on_the_volume(self, name: str) -> None:
        """State would be written to a read-only root, or vanish with the pod."""
        state = Path(dockerfile_value(r"SYNC_STATE_PATH=(\S+)"))
        (mount,) = [m for m in container(name)["volumeMounts"] if m["mountPath"] == str(state.parent)]
        (volume,) = [v for v in pod(name)["volumes"] if v["name"] == mount["name"]]
        claim = of_kind(CLAIM, "PersistentVolumeClaim")
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]

    def test_settings_are_found(self, name: str) -> None:
        """The pod would wait for ever for a ConfigMap or Secret that has another name."""
        references = [next(iter(source.values()))["name"] for source in container(name)["envFrom"]]
        expected = [of_kind(CONFIG, "ConfigMap"), of_kind("secret.yaml", "Secret")]
        assert references == [document["metadata"]["name"] for document in expected]

    def test_no_settings_from_other_services(self, name: str) -> None:
        """A Service that happens to be named `kelet` would put variables among the settings."""
        assert pod(name)["enableServiceLinks"] is False

    def test_time_to_finish(self, name: str) -> None:
        """A stop would kill in the middle of a request, or memory without a bound would take the node down."""
        assert pod(name)["terminationGracePeriodSeconds"] >= 30
        assert {"memory"} <= set(container(name)["resources"]["limits"])
        assert {"cpu", "memory"} <= set(container(name)["resources"]["requests"])


class TestJobs:
    @pytest.mark.parametrize("name", JOBS)
    def test_pod_failure_policy_is_valid(self, name: str) -> None:
        """The API server would refuse the Job: each of these is a rule of its validation."""
        policy = job(name)["podFailurePolicy"]["rules"]
        assert pod(name)["restartPolicy"] == "Never"
        assert 1 <= len(policy) <= 20
        for rule in policy:
            actions = {"FailJob", "Ignore", "Count"} | ({"FailIndex"} if "backoffLimitPerIndex" in job(name) else set())
            assert rule["action"] in actions
            assert len({"onExitCodes", "onPodConditions"} & set(rule)) == 1
            for condition in rule.get("onPodConditions", []):
                assert condition == {"type": "DisruptionTarget", "status": "True"}
            if codes := rule.get("onExitCodes"):
                assert codes["operator"] in {"In", "NotIn"}
                assert codes["containerName"] == container(name)["name"]
                assert codes["values"] == sorted(set(codes["values"]))
                assert 0 not in codes["values"]

    @pytest.mark.parametrize(
        ("name", "at_once"),
        [
            (CRONJOB, {ExitCode.USAGE, ExitCode.CREDENTIALS}),
            (BACKFILL, {ExitCode.USAGE, ExitCode.CREDENTIALS}),
            (MERGE, {ExitCode.USAGE}),
        ],
    )
    def test_exit_codes(self, name: str, at_once: set[int]) -> None:
        """A refused key would be tried again and again, or a passing fault would end a backfill for good."""
        rules = job(name)["podFailurePolicy"]["rules"]
        failing = {code for rule in rules if rule["action"] == "FailJob" for code in rule["onExitCodes"]["values"]}
        assert failing == at_once
        assert failing <= EXIT_CODES
        ignored = [rule for rule in rules if rule["action"] == "Ignore"]
        assert all("onExitCodes" not in rule for rule in ignored), "an ignored exit code starts pods without end"
        assert rules[0] in ignored, "a drained node also shows as an exit code, so its rule must come first"

    def test_one_run_at_a_time(self) -> None:
        """Two runs would wait for one volume, a stuck run would block all others, or a long pause stop the schedule."""
        cron, once = of_kind(CRONJOB, "CronJob")["spec"], job(CRONJOB)
        assert cron["concurrencyPolicy"] == "Forbid"
        assert 10 < cron["startingDeadlineSeconds"] < 300
        assert once["backoffLimit"] == 0
        assert once["activeDeadlineSeconds"] > 300, "SYNC_PATIENCE alone takes 5m"
        assert cron["failedJobsHistoryLimit"] >= 1, "a run that made dead letters must stay visible"


class TestShards:
    NAME = BACKFILL

    def test_valid_as_an_indexed_job(self) -> None:
        """The API server would refuse the Job: each of these is a rule of its validation."""
        spec = job(self.NAME)
        assert spec["completionMode"] == "Indexed"
        assert 1 <= spec["parallelism"] <= spec["completions"] <= 1_000
        assert spec["backoffLimitPerIndex"] >= 1
        assert "backoffLimit" not in spec, "one share that fails often would end all others"
        assert spec["podReplacementPolicy"] == "Failed", "the only one that podFailurePolicy allows"
        assert spec.get("maxFailedIndexes", 0) <= spec["completions"]

    def test_each_pod_takes_one_share(self) -> None:
        """Shares would be left out, or two pods would send the same rows, or work on one state file."""
        arguments = container(self.NAME)["args"]
        options = dict(itertools.pairwise(arguments))
        shard = shard_of(options["--shard"], {INDEX_VARIABLE: "0"})
        assert shard is not None
        assert shard.of == job(self.NAME)["completions"]
        assert full_range(options["--from"], options["--to"], 2**42).length > 0
        state = Path(dockerfile_value(r"SYNC_STATE_PATH=(\S+)"))
        assert options["--state"] == f"{state.parent}/shard-$({INDEX_VARIABLE}).db"
        patches = documents("overlays/backfill/kustomization.yaml")[0]["patches"]
        assert any("SYNC_REQUESTS_PER_MINUTE" in patch["patch"] for patch in patches), "the live sync needs its part"

    def test_what_ends_one_share_alone(self) -> None:
        """A share with dead letters would be done again and again, or end all others."""
        rules = job(self.NAME)["podFailurePolicy"]["rules"]
        (codes,) = [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailIndex"]
        assert set(codes) == {ExitCode.DEAD_LETTERS, ExitCode.PAUSED}

    def test_what_they_leave_is_merged(self) -> None:
        """The state files of the shards would not be found, or the write-ahead log be taken for one of them."""
        pattern = container(MERGE)["command"][-1].split()[-1]
        own = Path(dict(itertools.pairwise(container(self.NAME)["args"]))["--state"]).name
        assert fnmatch.fnmatch(f"/shards/{own}", pattern)
        assert not fnmatch.fnmatch(f"/shards/{own}-wal", pattern)

    def test_spread_over_machines(self) -> None:
        """All shares would be done on one node."""
        (spread,) = pod(self.NAME)["topologySpreadConstraints"]
        labels = job(self.NAME)["template"]["metadata"]["labels"]
        assert spread["labelSelector"]["matchLabels"].items() <= labels.items()
        assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
