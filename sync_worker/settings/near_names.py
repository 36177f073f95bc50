"""Which setting was meant: one that is spelled wrongly must not be ignored in silence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from sync_worker.settings.model import FIELDS, SECRETS, file_name_of, names_of
from sync_worker.settings.setting_errors import Problems
from sync_worker.wording import nearest

_KNOWN: Final = frozenset(
    {*(one.upper() for name in FIELDS for one in names_of(name)), *(file_name_of(name).upper() for name in SECRETS)}
)

# Kubernetes describes every service of the namespace in variables, of which LANGFUSE_WEB_PORT_3000_TCP is one; no
# setting is named like them. (kubernetes.io: "Accessing the Service", environment variables)
_SERVICE_VARIABLE: Final = re.compile(r".*_(SERVICE|PORT)(_.*)?")

# What the SDKs of both sides read themselves, in the application beside which the worker may run: langfuse 4 and 5 for
# Python (`langfuse/_client/environment_variables.py`), 3 to 5 for JavaScript; Kelet's SDKs read settings of ours.
_SDK_VARIABLES: Final = frozenset(
    f"LANGFUSE_{name}"
    for name in (
        "AUTH_CHECK", "BAGGAGE_PREFIX", "BLOB_STORAGE_GCS_ALLOWED_BUCKETS", "DEBUG", "ENABLED", "ENVIRONMENT",
        "FLUSH_AT", "FLUSH_INTERVAL", "LOG_LEVEL", "MAX_BATCH_SIZE_BYTES", "MAX_RETRIES", "MEDIA_UPLOAD_ENABLED",
        "MEDIA_UPLOAD_THREAD_COUNT", "OBSERVE_DECORATOR_IO_CAPTURE_ENABLED", "OPENAI_SKIP_RAW_RESPONSES",
        "OTEL_COMPRESSION", "OTEL_MAX_BATCH_SIZE_BYTES", "OTEL_TRACES_EXPORT_PATH",
        "PROMPT_CACHE_DEFAULT_TTL_SECONDS", "PROJECT_ID", "RELEASE", "SAMPLE_RATE", "SDK_EXPERIMENT_ENVIRONMENT",
        "SDK_INTEGRATION", "THREADS", "TIMEOUT", "TRACER_NAME", "TRACE_ID_BAGGAGE_KEY", "TRACING_ENABLED",
        "TRACING_ENVIRONMENT",
    )
)  # fmt: skip

# Other variables begin with LANGFUSE_ and KELET_ too, so only those that are hardly another name are spoken of.
_NEAR = 0.8
_NEAR_WITH_OTHER_PREFIX = 0.9


def warn_of_near_misses(found: Mapping[str, Iterable[str]], problems: Problems) -> dict[str, str]:
    """Warn of names that are no settings, by the place where they stand; return the nearest miss of each setting.

    A setting that is required and has no value is refused with it, by its name in lower case.
    """
    misses: dict[str, str] = {}
    for place, names in found.items():
        for name, near in _misspelled(names):
            meant = f" Did you mean {near}?" if near else ""
            problems.warn(f"{name} in {place} is not a setting and is ignored.{meant}")
            misses.setdefault(near.lower().removesuffix("_file"), f"{name} in {place}")
    return misses


def _misspelled(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each of `names` that was probably meant to be a setting, with the setting it is nearest to, if to any.

    The values of such variables are not looked at: a key under a misspelled name is still a key.
    """
    names = set(names)
    for name in sorted(names - _KNOWN):
        folded = name.upper()
        # Some of the JavaScript SDKs call it LANGFUSE_BASEURL. That says where Langfuse is, so it is no matter only
        # where the worker has the address, too: else it would ask another server.
        if folded == "LANGFUSE_BASEURL" and names & {"LANGFUSE_BASE_URL", "LANGFUSE_HOST"}:
            continue
        if folded in _SDK_VARIABLES or _SERVICE_VARIABLE.fullmatch(folded):
            continue
        cutoff = _NEAR if folded.startswith(("SYNC_", "LANGFUSE_", "KELET_")) else _NEAR_WITH_OTHER_PREFIX
        near = nearest(name, _KNOWN, cutoff)
        if near or folded.startswith("SYNC_"):
            yield name, near
