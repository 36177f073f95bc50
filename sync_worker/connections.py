"""How both sides are reached: through which proxy, and whose certificates are trusted, as the environment says.

httpx reads the same variables, but ends in its own words, without naming one, when a value cannot be used, and does not
understand an IPv6 address or a network in NO_PROXY. So they are read here: `check_connections` says before the first
request what is wrong, and `ProxyTransport` takes the way that each address is to go.

    HTTP_PROXY, HTTPS_PROXY, ALL_PROXY   by the scheme of the address that is asked; in lower case too, which wins
    NO_PROXY                             what is asked without one
    SSL_CERT_FILE, SSL_CERT_DIR          certificates of authorities, in place of those that come with certifi
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
#: As OpenSSL names certificates in a folder: by a hash of their subjects.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


class ProxyTransport(httpx.AsyncBaseTransport):
    """Sends each request by the way that the environment says; a connection pool for each transport."""

    def __init__(self) -> None:
        self._transports: dict[tuple[str | None, bool], httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises as httpx's own transport, and UnsupportedProtocol where there is no transport."""
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
            # A context of its own trusts nobody and takes no time; http:// alone needs no certificates.
            trusted = tls() if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._transports[key] = httpx.AsyncHTTPTransport(verify=trusted, limits=_LIMITS, proxy=proxy)
        return self._transports[key]


def check_connections(urls: Iterable[str]) -> None:
    """Raise ConfigError, a line for each problem, where an address cannot be reached as the environment says."""
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
            line = f"{url} is no address that can be asked ({error}). Try: another LANGFUSE_BASE_URL or KELET_API_URL"
            problems[line] = None
    if problems:
        raise ConfigError(*problems)


@functools.cache
def tls() -> ssl.SSLContext:
    """Return the process's TLS settings; reading the certificates costs more than a request, so it is done once.

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
            f"SSL_CERT_FILE: {file} {problem}. Try: a file of certificates that begin with -----BEGIN CERTIFICATE-----, "
            "or unset it"
        )
    if folder:
        _check_folder(folder)
        return ssl.create_default_context(capath=folder)
    return httpx.create_ssl_context(trust_env=False)


def proxy_of(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy by which an address is asked, None for none. Raises ConfigError where it cannot be used."""
    found = getproxies()  # of the environment; on a Mac also of the system's settings
    scheme = url.scheme if found.get(url.scheme) else "all"
    address = found.get(scheme)
    if not address or _is_direct(url, found.get("no", "")):
        return None
    return _proxy(_name(f"{scheme}_proxy"), address.strip())


def _proxy(name: str, address: str) -> httpx.Proxy:
    expected = "Try: http://proxy.example:3128, or NO_PROXY with the host that is asked without it"
    text = address if "://" in address else f"http://{address}"
    try:
        url = httpx.URL(text)
        port_fits = url.port is None or 0 < url.port < 65536
        usable = bool(url.host) and port_fits and " " not in text and url.scheme in {*_PROXY_SCHEMES, *_SOCKS}
        proxy = httpx.Proxy(url) if usable else None
    except (httpx.InvalidURL, ValueError):
        proxy = None
    if proxy is None:
        # What stands before the @ may be a password.
        raise ConfigError(f"{name}: {text.rpartition('@')[2]!r} is no address of a proxy. {expected}")
    if proxy.url.scheme in _SOCKS and importlib.util.find_spec("socksio") is None:
        raise ConfigError(
            f"{name}: {proxy.url.scheme}:// is a SOCKS proxy, which needs the package socksio, and that is not here. "
            f"{expected}"
        )
    return proxy


def _is_direct(url: httpx.URL, entries: str) -> bool:
    """Whether NO_PROXY names the address: its host, a domain it is in, its network, or all.

    As curl and Go read it: a name goes for all names below it, and with a dot before it for those alone; addresses and
    networks are compared with addresses, and no name is looked up. Raises ConfigError for an entry that is neither.
    """
    entries = entries.replace(",", " ")
    return any([_matches(entry, url) for entry in entries.split()])  # noqa: C419 - each is checked, also behind a fit


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
    """Refuse a folder in which OpenSSL would find nothing: it says so at no time but by refusing every server."""
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
        f"SSL_CERT_DIR: {folders} holds no certificates under the names that OpenSSL looks for. "
        f"Try: openssl rehash {folders}, or SSL_CERT_FILE with one file of them all"
    )


def _check_key_log() -> None:
    """Refuse a file for TLS keys that cannot be written, which Python opens for every context."""
    file = os.environ.get("SSLKEYLOGFILE")
    try:
        if file:
            Path(file).open("ab").close()
    except (OSError, ValueError) as error:
        raise ConfigError(f"SSLKEYLOGFILE: {file} cannot be written ({_reason(error)}). Try: unset it") from None


def _name(lower: str) -> str:
    """Return a variable's name as it is set; the one in lower case wins."""
    return lower if os.environ.get(lower) else lower.upper()


def _reason(error: Exception) -> str:
    return ((error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__).lower()
