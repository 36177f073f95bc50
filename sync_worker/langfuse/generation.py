"""Detects which generation of Langfuse's API a server has.

Langfuse Cloud and self-hosted v4 have `GET /api/public/v2/observations`; v2 and v3 do not, and say so with 404 or 501;
a v4 server may be set to write only what v3 had. The version that a server reports is only a hint.
"""

from __future__ import annotations

from dataclasses import dataclass

from sync_worker.choices import Api
from sync_worker.errors import SourcePaused, TransientError
from sync_worker.langfuse.identity import server_version
from sync_worker.langfuse.langfuse_client import EndpointMissing, LangfuseClient
from sync_worker.langfuse.listing import TRACES
from sync_worker.langfuse.v2 import PATH
from sync_worker.times import iso_time

_RECENT_MS = 60_000  # a probe lists no more than this


@dataclass(frozen=True, slots=True)
class Answers:
    """What a server answered: whether each generation is there, and the response text where it is not."""

    version: str | None
    v2: bool
    v1: bool
    why_not_v2: str = ""

    @property
    def why(self) -> str:
        """Return in words what was found."""
        if self.v2:
            return "v2 observations answer" + (", and so do v1 traces" if self.v1 else "")
        return f"v1 traces answer, v2 observations do not: {self.why_not_v2}"

    @property
    def api(self) -> Api:
        """Return the generation to read where there is no reason for another: v2 wherever it is there."""
        return "v2" if self.v2 else "v1"


async def ask(client: LangfuseClient) -> Answers:
    """Ask a server for both generations; waits out transient errors as the client's back-off allows.

    Raises EndpointMissing where it has neither, and CredentialsRejected, SourcePaused or TransientError.
    """
    version = await _version(client)
    v2, why_not_v2 = await _has_v2(client)
    v1, why_not_v1 = await _has_v1(client)
    if not v2 and not v1:
        raise EndpointMissing(f"{why_not_v2}; {why_not_v1}. Try: is LANGFUSE_BASE_URL the address of Langfuse itself?")
    return Answers(version, v2, v1, why_not_v2)


async def _has_v2(client: LangfuseClient) -> tuple[bool, str]:
    since = iso_time(client.clock.now_ms() - _RECENT_MS)
    return await _is_there(client, PATH, {"fields": "core", "limit": "1", "fromStartTime": since})


async def _has_v1(client: LangfuseClient) -> tuple[bool, str]:
    since = iso_time(client.clock.now_ms() - _RECENT_MS)
    return await _is_there(client, TRACES.path, {"fields": "core", "limit": "1", "fromTimestamp": since})


async def _is_there(client: LangfuseClient, path: str, params: dict[str, str]) -> tuple[bool, str]:
    try:
        await client.backoff.retry(lambda: client.get(path, params))
    except EndpointMissing as missing:
        return False, str(missing)
    return True, ""


async def _version(client: LangfuseClient) -> str | None:
    """Return the version the server gives; None where it gives none: that is never a reason to stop."""
    try:
        return await server_version(client)
    except (TransientError, SourcePaused):
        return None
