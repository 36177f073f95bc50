"""Proxies and trusted certificates, from the environment.

httpx reads the same variables, but its errors do not name the variable, and it does not support IPv6 addresses and
networks in NO_PROXY. So they are read here: `check_connections` reports errors before the first request, and
`ProxyTransport` chooses the proxy of each request.

    HTTP_PROXY, HTTPS_PROXY, ALL_PROXY   by the scheme of the requested URL; in lower case too, which wins
    NO_PROXY                             hosts that are reached without a proxy
    SSL_CERT_FILE, SSL_CERT_DIR          certificate authorities, instead of certifi's
"""

from __future__ import annotations

import functools
import importlib.util
import ipaddress
import os
import re
import ssl
from collections.abc import Iterable
from pathlib import Path
from urllib.request import getproxies

import httpx

from sync_worker.errors import ConfigError

_LIMITS = httpx.Limits(max_connections=8, max_keepalive_connections=4)
_PORTS = {"http": 80, "https": 443}
_PROXY_SCHEMES = ("http", "https")
_SOCKS = ("socks5", "socks5h")
#: Names of certificates in a folder for OpenSSL: a hash of the subject.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


class ProxyTransport(httpx.AsyncBaseTransport):
    """Sends each request through the proxy that the environment sets; one connection pool a proxy."""

    def __init__(self) -> None:
        self._transports: dict[tuple[str | None, bool], httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises as httpx's own transport, and UnsupportedProtocol for unusable settings."""
        try:
            transport = self._transport(request.url)
        except ConfigError as error:
            raise httpx.UnsupportedProtocol(str(error), request=request) from None
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            await transport.aclose()

    def _transport(self, url: httpx.URL) -> httpx.AsyncHTTPTransport:
        proxy = proxy_of(url)
        encrypted = url.scheme == "https" or (proxy is not None and proxy.url.scheme == "https")
        key = (None if proxy is None else str(proxy.url), encrypted)
        if key not in self._transports:
            trusted = tls() if encrypted else _no_tls()
            self._transports[key] = httpx.AsyncHTTPTransport(verify=trusted, limits=_LIMITS, proxy=proxy)
        return self._transports[key]


def check_connections(urls: Iterable[str]) -> None:
    """Raise ConfigError, one line a problem, if an address cannot be reached with the environment's settings."""
    problems: dict[str, None] = {}
    for url in dict.fromkeys(urls):
        try:
            asked = httpx.URL(url)
            proxy = proxy_of(asked) if asked.host else None  # the host is decoded here, as it is for each request
            if url.startswith("https:") or (proxy is not None and proxy.url.scheme == "https"):
                tls()
        except ConfigError as error:
            problems |= dict.fromkeys(error.lines)
        except (httpx.InvalidURL, UnicodeError) as error:
            line = f"{url} is not a valid address ({error}). Try: another LANGFUSE_BASE_URL or KELET_API_URL"
            problems[line] = None
    if problems:
        raise ConfigError(*problems)


@functools.cache
def tls() -> ssl.SSLContext:
    """Return the process's TLS settings; loading certificates is expensive, so it is done once.

    Raises ConfigError.
    """
    _check_key_log()
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file:
        try:
            return ssl.create_default_context(cafile=file)
        except ssl.SSLError:
            problem = "holds no certificates in PEM form"
        except (OSError, ValueError) as error:
            problem = f"cannot be read ({_reason(error)})"
        raise ConfigError(
            f"SSL_CERT_FILE: {file} {problem}. Try: a file of certificates that begin "
            "with -----BEGIN CERTIFICATE-----, or unset it"
        )
    if folder:
        _check_folder(folder)
        return ssl.create_default_context(capath=folder)
    return httpx.create_ssl_context(trust_env=False)


@functools.cache
def _no_tls() -> ssl.SSLContext:
    """Return a context that trusts nobody: http:// alone needs no certificates."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def proxy_of(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy of an address, None for none. Raises ConfigError if it cannot be used."""
    found = getproxies()  # from the environment; on macOS also from the system's settings
    scheme = url.scheme if found.get(url.scheme) else "all"
    address = found.get(scheme)
    if not address or _is_direct(url, found.get("no", "")):
        return None
    return _proxy(_name(f"{scheme}_proxy"), address.strip())


def _proxy(name: str, address: str) -> httpx.Proxy:
    expected = "Try: http://proxy.example:3128, or NO_PROXY with the host that needs no proxy"
    text = address if "://" in address else f"http://{address}"
    try:
        url = httpx.URL(text)
        port_fits = url.port is None or 0 < url.port < 65536
        usable = bool(url.host) and port_fits and " " not in text and url.scheme in {*_PROXY_SCHEMES, *_SOCKS}
        proxy = httpx.Proxy(url) if usable else None
    except (httpx.InvalidURL, ValueError):
        proxy = None
    if proxy is None:
        # What precedes the @ may be a password.
        raise ConfigError(f"{name}: {text.rpartition('@')[2]!r} is not the address of a proxy. {expected}")
    if proxy.url.scheme in _SOCKS and importlib.util.find_spec("socksio") is None:
        raise ConfigError(
            f"{name}: {proxy.url.scheme}:// is a SOCKS proxy, which needs the package socksio, which is not installed. "
            f"{expected}"
        )
    return proxy


def _is_direct(url: httpx.URL, entries: str) -> bool:
    """Whether NO_PROXY matches the address: its host, a parent domain, its network, or all.

    As in curl and Go: a name matches itself and its subdomains, with a leading dot its subdomains alone; addresses and
    networks match addresses, and no name is resolved. Raises ConfigError for an entry that is neither.
    """
    entries = entries.replace(",", " ")
    return any([_matches(entry, url) for entry in entries.split()])  # noqa: C419 - each is checked, also after a match


def _matches(entry: str, url: httpx.URL) -> bool:
    text = entry
    if "://" in text:
        scheme, _, text = text.partition("://")
        if scheme not in {"all", url.scheme}:
            return False
    if text == "*":
        return True
    bracketed = re.fullmatch(r"\[([^\]]*)\](/[0-9]+)?(?::([0-9]+))?", text)
    named = re.fullmatch(r"([^:/]+(?:/[0-9.]+)?)(?::([0-9]+))?", text)
    if bracketed is not None:
        text, port = bracketed[1] + (bracketed[2] or ""), bracketed[3]
    elif named is not None:
        text, port = named[1], named[2]
    else:
        port = None
    if port is not None and int(port) != (url.port or _PORTS.get(url.scheme)):
        return False
    if ":" in text or "/" in text or re.fullmatch(r"[0-9.]+", text):
        return _is_in_network(url.host, text, entry)
    return _is_subdomain(url.host, text.lower().lstrip("*"))


def _is_in_network(host: str, network: str, entry: str) -> bool:
    try:
        found = ipaddress.ip_network(_without_zone(network), strict=False)
    except ValueError:
        raise ConfigError(
            f"{_name('no_proxy')}: {entry!r} is neither a name nor an address nor a network. "
            "Try: 10.0.0.0/8, fd00::/8, ::1 or .example.com"
        ) from None
    try:
        address = ipaddress.ip_address(_without_zone(host))
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None and found.version == 4:
        address = address.ipv4_mapped
    return address.version == found.version and address in found


def _is_subdomain(host: str, domain: str) -> bool:
    host, domain = host.lower().rstrip("."), domain.rstrip(".")
    if domain.startswith("."):
        return host.endswith(domain)
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _without_zone(address: str) -> str:
    return re.sub("%[^/]*", "", address)


def _check_folder(folders: str) -> None:
    """Raise ConfigError for a folder in which OpenSSL finds nothing: it would only reject every server."""
    for folder in folders.split(os.pathsep):
        try:
            names = [path.name for path in Path(folder).iterdir()]
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"SSL_CERT_DIR: {folder} cannot be read ({_reason(error)}). Try: a folder of certificates, or unset it"
            ) from None
        if any(_HASHED.fullmatch(name) for name in names):
            return
    raise ConfigError(
        f"SSL_CERT_DIR: {folders} has no certificates under the names that OpenSSL expects. "
        f"Try: openssl rehash {folders}, or SSL_CERT_FILE with one file of them all"
    )


def _check_key_log() -> None:
    """Raise ConfigError for a TLS key log that cannot be written: Python opens it for every context."""
    file = os.environ.get("SSLKEYLOGFILE")
    try:
        if file:
            Path(file).open("ab").close()
    except (OSError, ValueError) as error:
        raise ConfigError(f"SSLKEYLOGFILE: {file} cannot be written ({_reason(error)}). Try: unset it") from None


def _name(lower: str) -> str:
    """Return a variable's name as it is set; lower case wins."""
    return lower if os.environ.get(lower) else lower.upper()


def _reason(error: Exception) -> str:
    return ((error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__).lower()
