"""Base addresses of both sides, and which of them may be reached without TLS."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from sync_worker.printable import is_printable
from sync_worker.settings.wrong import WrongValueError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[\w.-]+")
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".svc", ".cluster.local")
_PRIVATE_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)


def parse_langfuse_url(text: str) -> str:
    """Return the base address of Langfuse, without a trailing `/` or `/api/public`; raises WrongValueError."""
    base = _parse(text, "https://cloud.langfuse.com")
    base = base.removesuffix("/api/public").rstrip("/")
    if "/api/public" in base:
        raise WrongValueError(
            "this is the address of one endpoint",
            expected="the base address of Langfuse",
            hint=base[: base.index("/api/public")],
        )
    return base


def parse_kelet_url(text: str) -> str:
    """Return the base address of Kelet, without a trailing `/` or `/api`; raises WrongValueError."""
    base = _parse(text, "https://api.kelet.ai")
    if match := re.search(r"(/api)?(/v1)?/(traces|logs|metrics)$", base):
        raise WrongValueError(
            "this is the address of one endpoint", expected="the base address of Kelet", hint=base[: match.start()]
        )
    return base.removesuffix("/api").rstrip("/")


def is_plain_and_public(url: str) -> bool:
    """Whether `url` (as parsed here) would carry keys in the clear over a network that is not private."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not _is_private(parts.hostname or "")


def _is_private(host: str) -> bool:
    """Whether `host`, a lower-case name or an address, is on this machine or on a private network."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        name = host.rstrip(".")
        # A single number is an address to the system's resolver (`http://134744072` is 8.8.8.8), not a name.
        single_label = "." not in name and not re.fullmatch(r"0x[0-9a-f]*|[0-9]+", name)
        return single_label or name.endswith(_PRIVATE_SUFFIXES)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in _PRIVATE_NETWORKS if network.version == address.version)


def _parse(text: str, example: str) -> str:
    text = text.strip()
    expected = f"an address such as {example}"
    if not text:
        raise WrongValueError("empty", expected=expected)
    # urlsplit drops tabs and line breaks without a word, so they are looked for before.
    if re.search(r"[\s\\]", text) or not is_printable(text):
        raise WrongValueError("not an address: it holds spaces, control characters or backslashes", expected=expected)
    # Both before anything else, so that no other message or hint can repeat what may be a password or a token.
    if "@" in text:
        raise WrongValueError(
            "holds a user or a password, which would end up in logs",
            expected=expected,
            hint="leave out what stands before the @",
            show=False,
        )
    if "?" in text or "#" in text:
        raise WrongValueError("holds a query or a fragment", expected=expected, show=False)
    if "://" not in text:
        hint = f"https://{text.lstrip('/')}" if _HOST.fullmatch(text.split("/")[0].split(":")[0]) else ""
        raise WrongValueError("not an address that starts with https:// or http://", expected=expected, hint=hint)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise WrongValueError("not an address", expected=expected) from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise WrongValueError("not an address that starts with https:// or http://", expected=expected)
    return f"{parts.scheme}://{_host(parts, expected)}{_port(parts.scheme, port)}{parts.path.rstrip('/')}"


def _host(parts: SplitResult, expected: str) -> str:
    host = parts.hostname or ""
    if "[" in parts.netloc:
        return f"[{host}]"
    if not _HOST.fullmatch(host) or not host.strip(".-_"):
        raise WrongValueError("not an address: the host is missing or no name", expected=expected)
    return host


def _port(scheme: str, port: int | None) -> str:
    return "" if port is None or port == _DEFAULT_PORTS[scheme] else f":{port}"
