#!/usr/bin/env python3
"""Prints the software bill of materials of what the locks pin, as CycloneDX 1.6 in JSON; scripts/sbom calls it.

    sbom.py LOCK [OPTIONAL_LOCK]

Standard library only. Versions and hashes are those of the locks, so every platform gets the same document; licences
and dependencies are read from the packages that are installed beside this Python, and are left out of one that is not.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NAME = "langfuse-kelet-sync"
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)(?:\s*;\s*([^\\]*?))?\s*\\?$")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAMESPACE = uuid.UUID("a6f3c4f0-5a35-4c5b-9d0d-6f6b1c1f6c1e")
#: What classifiers say, as an SPDX id; a BSD licence is named by the text alone.
_SPDX = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "BSD 3-Clause": "BSD-3-Clause",
}


def read_lock(path: Path, scope: str) -> list[dict[str, Any]]:
    """Return the components that a lock pins; of a package there may be several versions, each with a marker."""
    found: list[dict[str, Any]] = []
    component: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if pin := _PIN.match(line):
            name = normalise(pin[1])
            component = {
                "type": "library",
                "bom-ref": f"pkg:pypi/{name}@{pin[2]}",
                "name": name,
                "version": pin[2],
                "scope": scope,
                "hashes": [],
                "purl": f"pkg:pypi/{name}@{pin[2]}",
            }
            if pin[3]:
                component["properties"] = [{"name": "python:marker", "value": pin[3]}]
            found.append(component)
        component.get("hashes", []).extend({"alg": "SHA-256", "content": one} for one in _HASH.findall(line))
    return found


def normalise(name: str) -> str:
    """Return the name of a package as package URLs have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licences(name: str) -> list[dict[str, Any]]:
    """Return the licences of an installed package, by expression, else by classifiers, else by the text it gives."""
    try:
        of = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return []
    if expression := of.get("License-Expression"):
        return [{"expression": expression}]
    named = [line.rpartition(" :: ")[2] for line in of.get_all("Classifier") or [] if line.startswith("License ::")]
    named = [one for one in named if one != "OSI Approved"]
    text = of.get("License") or ""
    if text in _SPDX.values() or (not named and text and "\n" not in text and len(text) < 40):
        named = [text]
    ids = _SPDX | {value: value for value in _SPDX.values()}
    return [{"license": {"id": ids[one]} if one in ids else {"name": one}} for one in named]


def requirements(name: str) -> set[str]:
    """Return what an installed package requires, without its extras."""
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return set()
    return {normalise(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in lines if "extra ==" not in line}


def own_requirements(*, optional: bool) -> set[str]:
    """Return what the worker itself requires, by pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] + (project["optional-dependencies"]["redaction"] if optional else [])
    return {normalise(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in lines}


def bill(lock: Path, optional: Path | None) -> dict[str, Any]:
    """Return the document; the same locks and packages give the same one, to its serial number."""
    components = read_lock(lock, "required") + ([] if optional is None else read_lock(optional, "optional"))
    components.sort(key=lambda component: component["purl"])
    refs: dict[str, list[str]] = {}
    for component in components:
        refs.setdefault(component["name"], []).append(component["bom-ref"])
        if found := licences(component["name"]):
            component["licenses"] = found
    version = re.search(r'^__version__ = "(.+)"$', (ROOT / "sync_worker" / "__init__.py").read_text(), re.MULTILINE)
    own = {
        "type": "application",
        "bom-ref": NAME,
        "name": NAME,
        "version": version[1] if version else "",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    needs = {NAME: own_requirements(optional=optional is not None)} | {
        one["bom-ref"]: requirements(one["name"]) for one in components
    }
    body = {
        "metadata": {"component": own},
        "components": components,
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(one for name in named for one in refs.get(name, []))}
            for ref, named in needs.items()
        ],
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(body, sort_keys=True))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1} | body


if __name__ == "__main__":
    optional_lock = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    try:
        sys.stdout.write(json.dumps(bill(Path(sys.argv[1]), optional_lock), indent=2) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # as of `scripts/sbom | head`; what is left in the buffer goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
