"""Which way an address is asked, and what of the environment cannot be used: the variable is named in one line."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from sync_worker.connections import ProxyTransport, check_connections, proxy_of, tls
from sync_worker.errors import ConfigError

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the machine of the test has set."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    tls.cache_clear()


def proxied(url: str) -> bool:
    return proxy_of(httpx.URL(url)) is not None


def refusal(*urls: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_connections(urls or ("https://langfuse.example",))
    (line,) = caught.value.lines
    assert "Try: " in line
    return line


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        ("::1", "http://[::1]:3000"), ("[::1]", "http://[::1]:3000"), ("fe80::/10", "http://[fe80::5]"),
        ("localhost,127.0.0.1,fd07:b51a:cc66:f0::/64", "https://[fd07:b51a:cc66:f0::9]"),
        ("[fd00::/8]", "https://[fd00::1]"), ("[::1]:3000", "http://[::1]:3000"), ("0::1", "http://[::1]"),
        ("10.0.0.0/8", "http://10.9.8.7"), ("10.1.2.3", "http://10.1.2.3:81"), ("10.0.0.0/8", "http://[::ffff:10.1.1.1]"),
        ("example", "https://langfuse.example"), (".example", "https://langfuse.example"), ("*", "https://x.test"),
        ("*.example", "https://langfuse.example"), ("langfuse.example:443", "https://langfuse.example"),
        ("LangFuse.Example", "https://langfuse.example"), ("a b", "https://b"), ("http://b", "http://b"),
        ("fe80::1%eth0", "http://[fe80::1]"), (" , ,b", "https://b"),
    ],
)  # fmt: skip
def test_asked_directly(monkeypatch: pytest.MonkeyPatch, entries: str, url: str) -> None:
    """A server on the inside would be asked by a proxy that does not know it, or no request be sent at all."""
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    assert proxied(url)
    monkeypatch.setenv("NO_PROXY", entries)
    assert not proxied(url)
    check_connections([url.replace("https:", "http:") if ":443" not in entries else url])


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        ("::1", "http://[::2]"), ("fd00::/8", "https://[fe80::1]"), ("[::1]:3000", "http://[::1]:3001"),
        ("10.0.0.0/8", "http://11.0.0.1"), ("10.0.0.0/8", "http://ten.example"), (".example", "https://example"),
        ("fuse.example", "https://langfuse.example"), ("example:80", "https://example"), ("https://b", "http://b"),
        ("1.2.3.4", "http://[::1]"),
    ],
)  # fmt: skip
def test_asked_by_proxy(monkeypatch: pytest.MonkeyPatch, entries: str, url: str) -> None:
    """A request would go past the proxy that it must go through."""
    monkeypatch.setenv("ALL_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", entries)
    assert proxied(url)


@pytest.mark.parametrize("entry", ["fe80::/1000", "[::1", "10.0.0.0/33", "1.2.3.4.5", "fd07:b51a:zz::"])
def test_an_entry_that_is_nothing(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    """A mistyped network would be passed over, and its servers asked by the proxy; without a proxy it does no harm."""
    monkeypatch.setenv("no_proxy", f"localhost,{entry}")
    check_connections(["http://langfuse.example"])
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    line = refusal()
    assert line.startswith("no_proxy: ")
    assert repr(entry) in line


@pytest.mark.parametrize(
    "address",
    ["socks5://u:hidden@proxy.example", "socks5h://proxy.example", "socks4://proxy.example", "ftp://proxy.example",
     "http://", "http://u:hidden@:3128", "http://proxy.example:port", "http://proxy.example:99999", "http://a b",
     "http://[::1", '"http://proxy.example"', "u:hidden@", "http://u:hidden@ex ample"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["ALL_PROXY", "HTTPS_PROXY", "https_proxy"])
def test_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, address: str) -> None:
    """The worker would say "unexpected ImportError" or "Invalid port" at each cycle, and never which variable it is."""
    monkeypatch.setenv(name, address)
    line = refusal()
    assert line.startswith(f"{name}: ")
    assert "hidden" not in line
    # What is not used harms nobody: another scheme, or an address that is asked directly.
    monkeypatch.setenv("NO_PROXY", "langfuse.example")
    (tmp_path / "9d66eef0.0").touch()  # the certificates of all the world take long to load
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    check_connections(["https://langfuse.example"])


@pytest.mark.parametrize("url", ["https://999.1.1.1", "https://xn--a.example"])
def test_an_address_that_nobody_can_have(url: str) -> None:
    """The HTTP client would end the command in words of its own, or each request for ever."""
    assert url in refusal(url)


async def test_a_request_goes_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that must be used would be passed by."""
    import asyncio

    received: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://user:pass@127.0.0.1:{port}")
    async with server, httpx.AsyncClient(transport=ProxyTransport()) as client:
        assert (await client.get("http://langfuse.example/x")).status_code == 204
        assert received[0].startswith(b"GET http://langfuse.example/x HTTP/1.1\r\n")
        assert b"proxy-authorization: basic" in received[0].lower()
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
        assert (await client.get(f"http://127.0.0.1:{port}/y")).status_code == 204
        assert received[1].startswith(b"GET /y ")


@pytest.mark.parametrize("kind", ["missing", "folder", "garbage", "empty", "DER"])
def test_a_file_of_certificates_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    """`FileNotFoundError: [Errno 2]` names no file and no variable."""
    file = tmp_path / "ca.pem"
    match kind:
        case "folder":
            file.mkdir()
        case "garbage":
            file.write_text("-----BEGIN CERTIFICATE-----\nnot base64 at all\n-----END CERTIFICATE-----\n")
        case "empty":
            file.touch()
        case "DER":
            file.write_bytes(b"\x30\x82\x03\x1f\x30\x82")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    line = refusal()
    assert line.startswith(f"SSL_CERT_FILE: {file} ")
    check_connections(["http://langfuse.example"])  # which needs no certificates


def test_a_folder_of_certificates_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OpenSSL does not say that it finds nothing: every server would be refused, for a reason that is none."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "missing"))
    assert refusal().startswith("SSL_CERT_DIR: ")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    (tmp_path / "ca.pem").touch()
    assert "openssl rehash" in refusal()
    (tmp_path / "9d66eef0.0").touch()
    check_connections(["https://langfuse.example"])
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "missing" / "keys"))
    tls.cache_clear()
    assert refusal().startswith("SSLKEYLOGFILE: ")
