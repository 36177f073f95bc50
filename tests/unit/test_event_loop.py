"""The end of a process does not wait for the system's look-ups of names."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from sync_worker import event_loop


def test_a_look_up_that_does_not_end_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no name server responds, a run that was asked to stop would hang for as long as the system asks them."""
    asked, gate = threading.Event(), threading.Event()

    def hang(*_: Any) -> list[Any]:
        asked.set()
        gate.wait(60.0)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def stopped_while_it_looks_up() -> str:
        looking = asyncio.create_task(asyncio.get_running_loop().getaddrinfo("langfuse.example", 443))
        while not asked.is_set():
            await asyncio.sleep(0)
        looking.cancel()
        return "stopped"

    assert event_loop.run(stopped_while_it_looks_up()) == "stopped"
    assert not gate.is_set()
    (still,) = [thread for thread in threading.enumerate() if thread.name == "look-up of 'langfuse.example'"]
    assert still.daemon  # the end of Python does not wait for it either
    gate.set()
    still.join()


def test_what_a_look_up_finds_or_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """No host would be found, or one that does not exist would look like an error of the program."""

    async def look_up(host: str) -> Any:
        return await asyncio.get_running_loop().getaddrinfo(host, 80, type=socket.SOCK_STREAM)

    assert event_loop.run(look_up("127.0.0.1"))[0][4] == ("127.0.0.1", 80)

    def fail(*_: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(socket.gaierror):
        event_loop.run(look_up("nowhere.example"))
