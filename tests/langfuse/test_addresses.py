"""Addresses of requests, and where a media address may lead."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any, NoReturn
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_worker.errors import TransientError
from sync_worker.langfuse import addresses
from sync_worker.langfuse.addresses import Reach, literal, reach_of, resolve
from sync_worker.langfuse.langfuse_client import _address
from sync_worker.langfuse.object_store import ObjectStore, UnavailableError


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("93.184.216.34", Reach.PUBLIC), ("2606:4700::1111", Reach.PUBLIC), ("64:ff9b::808:808", Reach.PUBLIC),
        ("10.1.2.3", Reach.PRIVATE), ("172.31.0.1", Reach.PRIVATE), ("192.168.0.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE), ("fd00::1", Reach.PRIVATE), ("::ffff:10.0.0.1", Reach.PRIVATE),
        ("127.0.0.1", Reach.LOOPBACK), ("127.9.9.9", Reach.LOOPBACK), ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK), ("64:ff9b::7f00:1", Reach.LOOPBACK), ("2002:7f00:1::", Reach.LOOPBACK),
        ("169.254.169.254", Reach.NEVER), ("::ffff:169.254.169.254", Reach.NEVER), ("fe80::1", Reach.NEVER),
        ("64:ff9b::a9fe:a9fe", Reach.NEVER), ("0.0.0.0", Reach.NEVER), ("0.1.2.3", Reach.NEVER),
        ("::", Reach.NEVER), ("224.0.0.1", Reach.NEVER), ("ff02::1", Reach.NEVER), ("255.255.255.255", Reach.NEVER),
    ],
)  # fmt: skip
def test_where_addresses_lead(address: str, reach: Reach) -> None:
    """An answer of Langfuse makes the worker read the cloud's metadata, or a service of this machine."""
    assert reach_of(ipaddress.ip_address(address)) is reach


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "017700000001", "[::ffff:127.0.0.1]"])
def test_addresses_in_disguise(host: str) -> None:
    """A resolver takes forms that no check of texts knows."""
    found = literal(host)
    assert found is not None
    assert reach_of(found) is Reach.LOOPBACK


def _resolves(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    async def resolve(host: str, port: int) -> list[addresses.Address]:
        await asyncio.sleep(0)
        known = addresses.literal(host)
        found = names[host.partition(".")[0]] if known is None else ""
        return [known] if known else [ipaddress.ip_address(item) for item in found.split()]

    monkeypatch.setattr("sync_worker.langfuse.object_store.resolve", resolve)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


REFUSED = [
    "https://inside.test/x", "https://both.test/x", "https://meta.test/x", "https://127.0.0.1/x", "https://[::1]/x",
    "https://2130706433/x", "https://0x7f.1/x", "https://169.254.169.254/latest/meta-data", "https://localhost/x",
    "http://outside.test/x", "ftp://outside.test/x", "https://user:word@outside.test/x", "file:///etc/passwd", "",
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
async def test_a_public_langfuse_leads_nowhere_inside(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads inside, one of whose addresses does, or plain http is connected to all the same."""
    _resolves(monkeypatch, langfuse="8.8.8.8", inside="10.0.0.5", both="8.8.8.8 127.0.0.1", meta="169.254.169.254",
              outside="8.8.4.4", localhost="127.0.0.1")  # fmt: skip
    monkeypatch.setattr("sync_worker.langfuse.object_store._get", _fails)
    with pytest.raises(UnavailableError):
        await ObjectStore("https://langfuse.test").read(url, 100)


async def _fails(*arguments: Any) -> NoReturn:
    raise AssertionError(f"asked {arguments}")


async def test_it_connects_to_what_it_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is resolved once to be checked and once to be connected to may change in between."""
    _resolves(monkeypatch, langfuse="8.8.8.8", outside="8.8.4.4 2606:4700::1111")
    asked: list[tuple[str, str]] = []

    async def get(client: Any, at: Any, url: Any, limit: int) -> bytes:
        asked.append((at.host, url.host))
        return b"text"

    monkeypatch.setattr("sync_worker.langfuse.object_store._get", get)
    assert await ObjectStore("https://langfuse.test").read("https://outside.test/x", 100) == "text"
    assert asked == [("8.8.4.4", "outside.test")]


@pytest.mark.parametrize("connects", [1, 2, 3])
async def test_a_second_address_is_tried_and_no_third(connects: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with one address that is down has no text, or each of many addresses is waited for."""
    _resolves(monkeypatch, langfuse="8.8.8.8", outside="8.8.4.4 2606:4700::1111 8.8.8.8")
    asked: list[str] = []

    async def get(client: Any, at: Any, url: Any, limit: int) -> bytes:
        asked.append(at.host)
        if len(asked) < connects:
            raise httpx.ConnectError("no")
        return b"text"

    monkeypatch.setattr("sync_worker.langfuse.object_store._get", get)
    read = ObjectStore("https://langfuse.test").read("https://outside.test/x", 100)
    if connects > 2:
        with pytest.raises(TransientError, match="cannot be reached"):
            await read
    else:
        assert await read == "text"
    assert asked == ["8.8.4.4", "2606:4700::1111"][:connects]


@pytest.mark.parametrize(
    ("langfuse", "allowed", "url", "may"),
    [
        ("10.0.0.1", (), "http://minio.test/x", True),
        ("10.0.0.1", (), "https://localhost/x", False),
        ("10.0.0.1", (), "https://meta.test/x", False),
        ("127.0.0.1", (), "http://localhost:9000/x", True),
        ("127.0.0.1", (), "http://minio.test/x", True),
        ("8.8.8.8", ("minio.test",), "http://minio.test:9000/x", True),
        ("8.8.8.8", ("minio.test:9000",), "http://minio.test:9000/x", True),
        ("8.8.8.8", ("minio.test:9000",), "http://minio.test:9001/x", False),
        ("8.8.8.8 10.0.0.1", (), "http://minio.test/x", False),
    ],
)
async def test_private_stores(
    langfuse: str, allowed: tuple[str, ...], url: str, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Langfuse beside the worker keeps its media beside it too; a public one must not point there unless told."""
    _resolves(monkeypatch, langfuse=langfuse, minio="10.0.0.9", localhost="127.0.0.1", meta="169.254.169.254")

    async def get(*arguments: Any) -> bytes:
        return b"text"

    monkeypatch.setattr("sync_worker.langfuse.object_store._get", get)
    store = ObjectStore("https://langfuse.test", allowed)
    if may:
        assert await store.read(url, 100) == "text"
    else:
        with pytest.raises(UnavailableError, match="SYNC_MEDIA_HOSTS"):
            await store.read(url, 100)


async def test_behind_a_proxy_forms_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy resolves names itself: what shows without that must not go through it."""
    _resolves(monkeypatch, langfuse="8.8.8.8")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    store = ObjectStore("https://langfuse.test")
    for host in ("127.1", "10.0.0.1", "minio", "db.internal", "[::ffff:169.254.169.254]"):
        with pytest.raises(UnavailableError):
            await store.read(f"https://{host}/x", 100)
    with pytest.raises(TransientError):
        await store.read("https://outside.test/x", 100)


async def test_an_unknown_name_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that has a bad moment is the end of a text."""

    async def resolve(host: str, port: int) -> list[addresses.Address]:
        raise socket.gaierror("no")

    monkeypatch.setattr("sync_worker.langfuse.object_store.resolve", resolve)
    with pytest.raises(TransientError):
        await ObjectStore("https://langfuse.test").read("https://outside.test/x", 100)


async def test_a_proxy_that_cannot_be_used_costs_a_text_and_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that neither Langfuse nor Kelet is asked by would stop every run at the first text kept elsewhere."""
    _resolves(monkeypatch, langfuse="93.184.216.34", outside="93.184.216.34")
    monkeypatch.setenv("HTTPS_PROXY", "socks4://proxy.test")
    with pytest.raises(UnavailableError, match="HTTPS_PROXY"):
        await ObjectStore("https://langfuse.test").read("https://outside.test/x", 1000)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), min_size=1, max_size=4))
def test_addresses_are_those_that_httpx_makes(params: dict[str, str]) -> None:
    """An address that httpx does not parse anew for each request has its query in another form."""
    for url in ("http://langfuse.test", "https://[::1]:3000/prefix/api", "http://langfuse.test/a%20b?old=1"):
        made = _address(url, params)
        known = httpx.URL(url).copy_with(query=urlencode(params).encode())
        assert (str(made), made.raw_path, made) == (str(known), known.raw_path, known)
        assert httpx.Request("GET", made).url == known


async def test_names_are_resolved_and_addresses_taken_as_they_are() -> None:
    """An address is looked up as a name, or a name leads to no address that could be checked."""
    assert await resolve("0x7f.1", 443) == [ipaddress.ip_address("127.0.0.1")]
    found = await resolve("localhost", 443)
    assert {reach_of(address) for address in found} == {Reach.LOOPBACK}
    assert len(set(found)) == len(found)
