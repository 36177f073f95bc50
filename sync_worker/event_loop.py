"""The event loop of a process: what the system still looks up does not hold up its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def run(main: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine as `asyncio.run` does, and return its result."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


class _Loop(asyncio.SelectorEventLoop):
    """A loop that looks names up in threads that nothing waits for.

    While no name server responds, the system's look-up takes half a minute or more and cannot be cancelled. asyncio has
    it in a pool of threads, which a program that was asked to stop would wait for.
    """

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - named so by asyncio
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Look up the addresses of a name. Raises OSError."""
        found: asyncio.Future[Any] = self.create_future()

        def finish(result: Any, error: Exception | None) -> None:
            if found.done():  # nobody waits any more
                return
            if error is None:
                found.set_result(result)
            else:
                found.set_exception(error)

        def look_up() -> None:
            result, raised = None, None
            try:
                result = socket.getaddrinfo(host, port, family, type, proto, flags)
            except Exception as error:  # noqa: BLE001 - raised by who waits for it
                raised = error
            with contextlib.suppress(RuntimeError):  # the loop was closed by now
                self.call_soon_threadsafe(finish, result, raised)

        threading.Thread(target=look_up, name=f"look-up of {host!r}", daemon=True).start()
        return await found
