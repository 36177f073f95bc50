"""Which network addresses a server's answer may send the worker to: those outside of the network it runs in.

What counts is the address that is connected to, so names are resolved first, and the connection goes to an address that
was checked. Forms that hide one in another (IPv4 in IPv6, NAT64, 6to4, Teredo) count as what is inside.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from enum import IntEnum

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_RESOLVE_TIMEOUT = 10.0  # seconds
#: Endings of names that only a private network knows.
_PRIVATE_ENDINGS = (".localhost", ".local", ".internal", ".lan", ".svc", ".home.arpa")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(IntEnum):
    """Where an address leads, from what anybody may reach to what nobody should be sent to."""

    PUBLIC = 0
    PRIVATE = 1  # private and shared networks, and those that lead nowhere
    LOOPBACK = 2  # this machine
    NEVER = 3  # link-local (cloud metadata), multicast, unspecified, reserved


def reach_of(address: Address) -> Reach:
    """Return where an address leads."""
    inner = _inside(address)
    if inner is not None:
        return reach_of(inner)
    if address.is_loopback:
        return Reach.LOOPBACK
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return Reach.NEVER
    if isinstance(address, ipaddress.IPv4Address) and address in _THIS_NETWORK:
        return Reach.NEVER
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE


def literal(host: str) -> Address | None:
    """Return the address that a host spells out, in any form that resolvers take (`127.1`, `0x7f.1`, `2130706433`)."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def is_private_name(host: str) -> bool:
    """Whether a name that is no address is one of a private network, as far as its form shows."""
    name = host.rstrip(".").lower()
    return "." not in name or name.endswith(_PRIVATE_ENDINGS)


async def resolve(host: str, port: int) -> list[Address]:
    """Return all addresses of a host. Raises OSError (of which TimeoutError is one) or UnicodeError."""
    known = literal(host)
    if known is not None:
        return [known]
    loop = asyncio.get_running_loop()
    found = await asyncio.wait_for(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), _RESOLVE_TIMEOUT)
    return list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


def _inside(address: Address) -> Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
