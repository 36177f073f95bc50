"""Reports to systemd that the worker is ready, alive and how far it is, by the protocol of sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

#: A watchdog is fed so many times in its interval.
_FEEDS = 4


class Systemd:
    """The service manager that started this process; where there is none, nothing is notified."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.feed_seconds = _feed_seconds(environ) if self._address else None

    @property
    def is_there(self) -> bool:
        """Whether somebody is notified."""
        return bool(self._address)

    def ready(self) -> None:
        """Tell that the worker has started."""
        self._tell("READY=1")

    def feed(self) -> None:
        """Feed the watchdog."""
        self._tell("WATCHDOG=1")

    def status(self, line: str) -> None:
        """Tell what `systemctl status` shows."""
        self._tell(f"STATUS={' '.join(line.split())}")

    def stopping(self) -> None:
        """Tell that the worker ends."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.settimeout(0)  # a manager that does not read must not stop the loop
            out.sendto(message.encode("utf-8", "replace"), self._address)


def _feed_seconds(environ: Mapping[str, str]) -> float | None:
    """Return how often the watchdog is to be fed; None where there is none, or it is another process's."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (text.isascii() and text.isdigit() and int(text)) or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1_000_000 / _FEEDS
