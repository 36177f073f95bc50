"""Renders overlays with a real kubectl, and judges the objects: schemas, and the restricted pod security level."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml

from tests.deploy.vendor import FOLDER as SCHEMAS
from tests.deploy.vendor import KUBERNETES, OPERATOR

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
OVERLAYS: Final = ("cronjob", "worker", "backfill", "merge")

Object = dict[str, Any]

#: What a pod of the restricted level may mount.
_VOLUMES: Final = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip


@functools.cache
def can_render() -> bool:
    """Return whether there is a kubectl that knows components, as those from 1.21 on do."""
    try:
        done = subprocess.run(
            ["kubectl", "kustomize", str(FOLDER / "overlays" / "worker")], capture_output=True, timeout=60, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0 or b"omponent" not in done.stderr


def render(folder: Path) -> list[Object]:
    """Return the objects that `kubectl apply -k FOLDER` would send."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def render_with(tmp: Path, overlay: str, *components: str, patch: str = "") -> list[Object]:
    """Return the objects of an overlay as a user's own kustomization would compose them."""
    above = os.path.relpath(FOLDER.resolve(), tmp.resolve())
    kustomization: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{above}/overlays/{overlay}"],
        "components": [f"{above}/components/{component}" for component in components],
    }
    if patch:
        kustomization["patches"] = [{"patch": patch}]
    (tmp / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(tmp)


@functools.cache
def _schemas(name: str) -> Object:
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def mistakes(document: Object) -> list[str]:
    """Return what is wrong with an object by its schemas; a field that they do not know is wrong."""
    kind = document["kind"]
    custom = kind in _schemas(OPERATOR)["kinds"]
    found = []
    for name in (OPERATOR,) if custom else tuple(f"kubernetes-{version}" for version in KUBERNETES):
        schemas = _schemas(name)
        if kind not in schemas["kinds"]:
            found.append(f"{name} has no schema of {kind}")
            continue
        schema = schemas["kinds"][kind] | {"$defs": schemas["$defs"]}
        found += [
            f"{name}: {'/'.join(map(str, error.absolute_path))}: {error.message}"
            for error in jsonschema.Draft202012Validator(schema).iter_errors(document)
        ]
    return found


def pod_template(document: Object) -> Object | None:
    """Return the pod template of a workload, or None for what starts no pods."""
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec.get("template")  # type: ignore[no-any-return]


def breaches(pod: Object) -> Iterator[str]:
    """Yield what the restricted pod security level forbids, and what of it is not set explicitly."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name
    for volume in pod.get("volumes", []):
        yield from (f"volume {kind}" for kind in volume.keys() - {"name"} - _VOLUMES)
    context = pod.get("securityContext", {})
    if context.get("sysctls") or context.get("windowsOptions") or context.get("seLinuxOptions"):
        yield "securityContext of the pod"
    for container in [*pod["containers"], *pod.get("initContainers", []), *pod.get("ephemeralContainers", [])]:
        own = container.get("securityContext", {})
        both = context | own
        if own.get("privileged") or own.get("procMount") or own.get("seLinuxOptions"):
            yield "securityContext of the container"
        if own.get("allowPrivilegeEscalation") is not False:
            yield "allowPrivilegeEscalation"
        if both.get("runAsNonRoot") is not True or both.get("runAsUser", 1) == 0:
            yield "runAsNonRoot"
        if both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
            yield "seccompProfile"
        capabilities = own.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield "capabilities"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield "hostPort"
