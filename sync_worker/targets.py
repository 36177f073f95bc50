"""Targets: what the spans of a source are sent to, and what differs from one kind to the next. Pure.

Kelet is one preset among others. What a target is like, and nothing else, decides how it is sent to: no code asks which
preset it has.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Encoding = Literal["protobuf", "json"]
PresetName = Literal["kelet", "otlp", "phoenix", "langfuse"]
KELET: Final = "kelet"

CONTENT_TYPES: Final[Mapping[Encoding, str]] = {
    "protobuf": "application/x-protobuf",
    "json": "application/json",
}


@dataclass(frozen=True, slots=True)
class Preset:
    """What targets of one kind have in common."""

    #: The traces endpoint, after the base address.
    path: str
    #: The base address where none is set; None: it must be set.
    base_url: str | None = None
    #: The header that holds the key, and how the key becomes its value.
    key_header: str = "Authorization"
    scheme: Literal["raw", "bearer", "basic"] = "bearer"
    key_required: bool = False
    #: The header of a request, and the resource attribute, that name the project of its spans.
    project_header: str | None = None
    project_attribute: str | None = None
    project_required: bool = False
    #: The encodings of requests that it takes.
    encodings: tuple[Encoding, ...] = ("protobuf", "json")
    #: Whether 404 means that the project is unknown, and not the address.
    knows_projects: bool = False
    #: Whether scores go there as signals.
    takes_signals: bool = False
    #: Whether spans carry the worker's `kelet.*` attributes though nobody asked for them.
    kelet_attributes: bool = False
    #: The settings that a message asks to check, for the address, the key and the project.
    url_setting: str = "SYNC_TARGET_URL"
    key_setting: str = "SYNC_TARGET_KEY or SYNC_TARGET_HEADERS"
    project_setting: str = "SYNC_TARGET_PROJECT"


PRESETS: Final[Mapping[PresetName, Preset]] = {
    "kelet": Preset(
        "/api/traces", "https://api.kelet.ai", scheme="raw", key_required=True, project_header="X-Kelet-Project",
        project_attribute="kelet.project", project_required=True, knows_projects=True, takes_signals=True,
        kelet_attributes=True,
        url_setting="KELET_API_URL", key_setting="KELET_API_KEY", project_setting="KELET_PROJECT",
    ),
    "otlp": Preset("/v1/traces"),
    "phoenix": Preset(
        "/v1/traces", "http://localhost:6006", project_attribute="openinference.project.name", project_required=True,
        encodings=("protobuf",),
    ),
    "langfuse": Preset(
        "/api/public/otel/v1/traces", "https://cloud.langfuse.com", scheme="basic", key_required=True
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """One target. `name` is that of its record in the state file, `url` the whole address of its traces endpoint.

    `headers` go with each request; `secrets` must not appear in a message, though a server may repeat them.
    """

    name: str
    url: str
    preset: Preset
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    encoding: Encoding = "protobuf"
    kelet_attributes: bool = True

    @property
    def title(self) -> str:
        """The target's name in messages."""
        return "Kelet" if self.name == KELET and self.preset is PRESETS["kelet"] else f"target {self.name}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of the headers, whole and without the scheme before them, longest first."""
        values = {value for value in self.headers.values() if value}
        values |= {value.partition(" ")[2].strip() for value in values}
        return tuple(sorted(values - {""}, key=len, reverse=True))


def endpoint(url: str, preset: Preset) -> str:
    """Return the address of the traces endpoint: `url` itself if it is that, else with the preset's path behind it."""
    return url if url.endswith("/traces") else url.rstrip("/") + preset.path


def key_headers(key: str, preset: Preset) -> dict[str, str]:
    """Return the header with a key; a Basic one is made of `user:password`."""
    match preset.scheme:
        case "raw":  # no scheme: what Kelet's own SDKs send
            value = key
        case "bearer":
            value = f"Bearer {key}"
        case "basic":
            value = f"Basic {base64.b64encode(key.encode()).decode()}"
    return {preset.key_header: value}
