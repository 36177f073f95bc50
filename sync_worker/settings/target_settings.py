"""The target of a source: which settings it needs, which contradict each other, and what follows from them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from sync_worker.settings.model import SOURCE_FIELDS, Settings, Source
from sync_worker.settings.setting_errors import WrongValueError
from sync_worker.settings.values import headers_of
from sync_worker.targets import KELET, PRESETS, Target, endpoint, key_headers

_OF_LANGFUSE: Final = tuple(name for name in SOURCE_FIELDS if name.startswith("langfuse_"))
_AUTHORIZATION: Final = "authorization"


def needed_settings(settings: Settings) -> tuple[str, ...]:
    """Return the settings without which a source with this target cannot be synced."""
    if settings.target == KELET:
        return SOURCE_FIELDS
    preset = PRESETS[settings.target]
    needed = list(_OF_LANGFUSE)
    if preset.base_url is None:
        needed.append("sync_target_url")
    if preset.key_required and preset.key_header.lower() not in _header_names(settings):
        needed.append("sync_target_key")
    if preset.project_required and settings.kelet_project is None:
        needed.append("sync_target_project")
    return tuple(needed)


def secrets_in_use(settings: Settings) -> tuple[str, ...]:
    """Return the secrets of a source with this target: those that may stand in files and change there."""
    key = "kelet_api_key" if settings.target == KELET else "sync_target_key"
    return ("langfuse_public_key", "langfuse_secret_key", key, "sync_target_headers")


def contradictions(settings: Settings, written: frozenset[str]) -> Iterator[tuple[str, WrongValueError]]:
    """Yield the settings of a target that contradict others; `written` are those that stand where the target does."""
    if settings.target == KELET:
        for name in ("sync_target_url", "sync_target_key", "sync_target_project"):
            if name in written:
                instead = {"sync_target_url": "KELET_API_URL", "sync_target_key": "KELET_API_KEY"}
                hint = f"set {instead.get(name, 'KELET_PROJECT')}, or SYNC_TARGET to another target"
                yield name, WrongValueError("has no effect on Kelet", hint=hint)
    preset = PRESETS[settings.target]
    if settings.target_encoding not in preset.encodings:
        why = f"{settings.target} does not take {settings.target_encoding}"
        yield "sync_target_encoding", WrongValueError(why, expected=" or ".join(preset.encodings))
    key_given = settings.target == KELET or settings.target_key is not None
    if key_given and preset.key_header.lower() in _header_names(settings):
        key = "KELET_API_KEY" if settings.target == KELET else "SYNC_TARGET_KEY"
        yield "sync_target_headers", WrongValueError(f"holds {preset.key_header}, which {key} makes", hint="remove one")
    if settings.target == "langfuse" and settings.target_key is not None:
        key_text = settings.target_key.get_secret_value()
        if not all(key_text.partition(":")):
            expected = "the public key, a colon, and the secret key (pk-lf-…:sk-lf-…)"
            yield "sync_target_key", WrongValueError("not the keys of a Langfuse project", expected=expected)


def target_of(source: Source) -> Target:
    """Return the target of a source, its headers with its key among them."""
    preset = PRESETS[source.target_preset]
    is_kelet = source.target_preset == KELET
    headers = _headers(source)
    key = source.kelet_api_key if is_kelet else source.target_key
    if key is not None:
        headers |= key_headers(key.get_secret_value(), preset)
    base = source.kelet_api_url if is_kelet else source.target_url or preset.base_url or ""
    return Target(
        source.target,
        endpoint(base, preset),
        preset,
        headers,
        source.target_encoding,
        kelet_attributes=is_kelet or source.target_kelet_attributes,
    )


def sends_back(source: Source) -> bool:
    """Whether the target is the Langfuse project that is read, so that what arrives would be read and sent for ever."""
    target = target_of(source)
    one, other = urlsplit(target.url), urlsplit(source.langfuse_base_url)
    if (one.hostname, one.port) != (other.hostname, other.port):
        return False
    scheme, _, encoded = next(
        (value for name, value in target.headers.items() if name.lower() == _AUTHORIZATION), ""
    ).partition(" ")
    try:
        user = base64.b64decode(encoded).decode().partition(":")[0] if scheme.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        return False
    return user == source.langfuse_public_key


def _headers(source: Source) -> dict[str, str]:
    return {} if source.target_headers is None else headers_of(source.target_headers.get_secret_value())


def _header_names(settings: Settings) -> set[str]:
    text = "" if settings.target_headers is None else settings.target_headers.get_secret_value()
    return {name.lower() for name in headers_of(text)} if text else set()
