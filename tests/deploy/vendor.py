"""Makes the JSON schemas in tests/data/schemas anew, by hand: python -m tests.deploy.vendor WHEEL ...

Of the wheel of kubernetes-validate it takes the strict schemas of each version named in KUBERNETES, and of an installed
cloudcoil-models-prometheus-operator those of the Prometheus Operator; each only for the kinds that deploy/kubernetes
uses, without descriptions.
"""

from __future__ import annotations

import importlib
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).resolve().parents[1] / "data" / "schemas"
#: The oldest version that the manifests are for, and the newest that there are schemas of.
KUBERNETES: Final = ("1.29", "1.37")
OPERATOR: Final = "prometheus-operator"
#: By kind, the file of its schema in the wheel.
_FILES: Final = {
    "ConfigMap": "configmap-v1",
    "Secret": "secret-v1",
    "PersistentVolumeClaim": "persistentvolumeclaim-v1",
    "Deployment": "deployment-apps-v1",
    "CronJob": "cronjob-batch-v1",
    "Job": "job-batch-v1",
    "NetworkPolicy": "networkpolicy-networking-v1",
}
_OPERATOR_KINDS: Final = ("PodMonitor", "PrometheusRule")
_LEFT_OUT: Final = ("title", "default", "format", "$schema")


def kubernetes(wheel: zipfile.ZipFile, version: str) -> dict[str, Any]:
    """Return the schemas of one version: by kind, with all that they refer to under `$defs`."""
    folder = f"kubernetes_validate/kubernetes-json-schema/v{version}.0-local-strict"
    definitions = json.loads(wheel.read(f"{folder}/_definitions.json"))["$defs"]
    kinds = {kind: json.loads(wheel.read(f"{folder}/{file}.json")) for kind, file in _FILES.items()}
    needed: dict[str, Any] = {}
    waiting = [name for schema in kinds.values() for name in _references(schema)]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed[name] = definitions[name]
            waiting += _references(definitions[name])
    return {"kinds": _plain(kinds), "$defs": dict(sorted(_plain(needed).items()))}


def operator() -> dict[str, Any]:
    """Return the schemas of the Prometheus Operator's kinds, in which no field may be unknown."""
    models: Any = importlib.import_module("cloudcoil.models.prometheus_operator.v1")
    found: dict[str, Any] = {"kinds": {}, "$defs": {}}
    for kind in _OPERATOR_KINDS:
        schema = getattr(models, kind).model_json_schema(by_alias=True)
        renamed = json.loads(json.dumps(schema).replace("#/$defs/", f"#/$defs/{kind}."))
        found["$defs"] |= {f"{kind}.{name}": _strict(one) for name, one in renamed.pop("$defs").items()}
        found["kinds"][kind] = _strict(renamed)
    return found


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.rsplit("/", 1)[1]
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _plain(schema: Any) -> Any:
    """Return a schema without its texts, referring to definitions in its own file."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"#/$defs/{value.rsplit('/', 1)[1]}" if key == "$ref" and isinstance(value, str) else _plain(value)
        for key, value in schema.items()
        if not (key in ("description", *_LEFT_OUT) and isinstance(value, str)) and not key.startswith("x-kubernetes")
    }


def _strict(schema: Any) -> Any:
    """Return a schema of pydantic's without what it adds, and closed to unknown fields."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    alternatives = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    if len(alternatives) == 1:  # an optional field
        return _strict(alternatives[0])
    closed = {key: _strict(value) for key, value in schema.items() if key not in _LEFT_OUT or isinstance(value, dict)}
    if isinstance(closed.get("pattern"), str):
        closed["pattern"] = closed["pattern"].replace("^(?i)", "(?i)^")  # as Python takes it
    if closed.get("properties") and "additionalProperties" not in closed:
        closed["additionalProperties"] = False
    return closed


def main(wheel: str) -> None:
    """Write all files."""
    with zipfile.ZipFile(wheel) as opened:
        found = {version: kubernetes(opened, version) for version in KUBERNETES}
    for name, schemas in {
        **{f"kubernetes-{version}": one for version, one in found.items()},
        OPERATOR: operator(),
    }.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(schemas, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
