"""The store that an answer of Langfuse names an address in: read without keys, and only where an answer may lead.

To any public address by https. By http, or to an address that is not public, only where Langfuse itself is on such a
network, or the host is in SYNC_MEDIA_HOSTS. The name is resolved once, all its addresses are checked, and the
connection goes to one of them. Behind a proxy of the environment the connection goes to the proxy, which resolves names
itself: then addresses are checked, and names by their form.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

import httpx

from sync_worker.connections import proxy_of, tls
from sync_worker.errors import ConfigError, TransientError
from sync_worker.http import describe
from sync_worker.langfuse.addresses import Reach, is_private_name, literal, reach_of, resolve

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_DEADLINE = 120.0  # seconds for a whole text, however it trickles
_SLOW = 10.0  # seconds that a text may take whatever its size; then as much more as it has at the least rate
_LEAST_RATE = 16 * 1024  # bytes a second
_TRIED = 2  # addresses of one host
_PORTS = {"https": 443, "http": 80}


class UnavailableError(Exception):
    """The text is missing or may not be fetched; a retry would not help."""


class ObjectStore:
    """Reads texts at addresses that Langfuse gave. `allowed` are hosts, each with or without a port, anywhere."""

    def __init__(self, langfuse_url: str, allowed: Collection[str] = ()) -> None:
        self._langfuse = httpx.URL(langfuse_url)
        self._allowed = frozenset(allowed)
        self._home: Reach | None = None

    async def read(self, address: str, limit: int) -> str:
        """Return the text at an address. Raises UnavailableError, or TransientError when it may be had later."""
        try:
            url = httpx.URL(address)
        except (httpx.InvalidURL, ValueError, TypeError):
            raise UnavailableError("its address cannot be read") from None
        if url.scheme not in _PORTS or not url.host or url.userinfo:
            raise UnavailableError("its address is none of a store")
        try:
            async with asyncio.timeout(_DEADLINE):
                content = await self._fetch(url, limit)
        except TimeoutError:
            raise TransientError(f"the media store {url.host} did not give the text in {_DEADLINE:.0f} s") from None
        except httpx.HTTPError as lost:
            raise TransientError(f"the media store {url.host} cannot be reached: {describe(lost)}") from None
        except ConfigError as unusable:  # of the environment, and irrelevant to requests to both sides
            raise UnavailableError(f"its store {url.host} cannot be reached: {unusable}") from None
        return content.decode("utf-8", "replace")

    async def _fetch(self, url: httpx.URL, limit: int) -> bytes:
        home = Reach.NEVER if self._is_allowed(url) else await self._reach_of_langfuse()
        if url.scheme == "http" and home is Reach.PUBLIC:
            raise UnavailableError(f"its store {url.host} is to be read without TLS{_try(url)}")
        proxy = proxy_of(url)
        if proxy is not None:
            self._check_unresolved(url, home)
            async with _client(proxy) as client:
                return await _get(client, url, url, limit)
        try:
            addresses = await resolve(url.host, url.port or _PORTS[url.scheme])
        except (OSError, UnicodeError) as unknown:
            raise TransientError(f"the media store {url.host} cannot be resolved ({type(unknown).__name__})") from None
        for found in addresses:
            if reach_of(found) > home:
                raise UnavailableError(f"its store {url.host} is at an address that is not public ({found}){_try(url)}")
        async with _client(None) as client:
            for number, found in enumerate(addresses[:_TRIED], 1):
                try:
                    return await _get(client, url.copy_with(host=str(found)), url, limit)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    if number == len(addresses[:_TRIED]):
                        raise
        raise TransientError(f"the media store {url.host} has no address")

    def _is_allowed(self, url: httpx.URL) -> bool:
        host = f"[{url.host}]" if ":" in url.host else url.host.lower()
        return host in self._allowed or f"{host}:{url.port or _PORTS[url.scheme]}" in self._allowed

    def _check_unresolved(self, url: httpx.URL, home: Reach) -> None:
        """Reject what is recognisably not public without a resolver; the proxy decides the rest."""
        known = literal(url.host)
        reach = (Reach.PRIVATE if is_private_name(url.host) else Reach.PUBLIC) if known is None else reach_of(known)
        if reach > home:
            raise UnavailableError(f"its store {url.host} is not public{_try(url)}")

    async def _reach_of_langfuse(self) -> Reach:
        """Return where Langfuse itself is; public unless all its addresses are not. Link-local is no place for it."""
        if self._home is None:
            url = self._langfuse
            try:
                found = [reach_of(address) for address in await resolve(url.host, url.port or _PORTS[url.scheme])]
            except (OSError, UnicodeError):
                found = []
            reach = min(found, default=Reach.PUBLIC)
            self._home = Reach.PUBLIC if reach is Reach.NEVER else reach
        return self._home


def _client(proxy: httpx.Proxy | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        trust_env=False, follow_redirects=False, timeout=_TIMEOUT, verify=tls(), proxy=proxy,
        headers={"User-Agent": "langfuse-kelet-sync", "Accept-Encoding": "identity"},
    )  # fmt: skip


async def _get(client: httpx.AsyncClient, at: httpx.URL, url: httpx.URL, limit: int) -> bytes:
    """GET a URL at an address that was checked, as it came over the wire, and no more than `limit` bytes."""
    host = url.netloc.decode("ascii")
    async with client.stream("GET", at, headers={"Host": host}, extensions={"sni_hostname": url.host}) as response:
        if response.status_code >= 500 or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise TransientError(f"the media store {url.host} answered {response.status_code}")
        if response.status_code != httpx.codes.OK:
            raise UnavailableError(f"its store answered {response.status_code}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UnavailableError("its store compresses what is not to be compressed")
        content, began = bytearray(), time.monotonic()
        async for chunk in response.aiter_raw():
            content += chunk
            if time.monotonic() - began > _SLOW + len(content) / _LEAST_RATE:
                raise TransientError(f"the media store {url.host} is too slow: {len(content)} bytes in {_SLOW:.0f} s")
            if len(content) > limit:
                raise UnavailableError(f"it has more than {limit} bytes")
        return bytes(content)


def _try(url: httpx.URL) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f". Try: SYNC_MEDIA_HOSTS={host}, if that is where your Langfuse keeps its media"
