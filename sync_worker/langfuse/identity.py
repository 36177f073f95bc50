"""Which project a pair of keys belongs to, and how the server is: the edges, by the Langfuse SDK's typed client."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from langfuse.api.client import AsyncLangfuseAPI
from langfuse.api.core import ApiError
from langfuse.api.core.request_options import RequestOptions

from sync_worker.errors import CredentialsRefused, TransientError
from sync_worker.http import describe
from sync_worker.langfuse.client import HEALTH_PATH, LangfuseClient

OPTIONS: RequestOptions = {"max_retries": 0, "timeout_in_seconds": 30}
_PROJECTS = "/api/public/projects"


@dataclass(frozen=True, slots=True)
class Project:
    """A Langfuse project and its organisation, whose request limit it shares."""

    id: str
    name: str
    organization_id: str


async def project_of(client: LangfuseClient) -> Project:
    """Return the project of the client's keys; waits out transient faults as the client's back-off allows.

    Raises CredentialsRefused, EndpointMissing, SourcePaused or TransientError.
    """
    while True:
        try:
            return await _project(client)
        except TransientError as fault:
            await client.backoff.wait(fault)


async def _project(client: LangfuseClient) -> Project:
    await client.admitted()
    try:
        answer = await api(client).projects.get(request_options=OPTIONS)
    except ApiError as refusal:
        raise failure_of(client, _PROJECTS, refusal) from None
    except (ValueError, RecursionError):  # no text, no JSON, or another shape
        raise TransientError(f"{client.base_url}{_PROJECTS} answered something unknown: not Langfuse's API") from None
    except httpx.HTTPError as fault:
        raise TransientError(f"Langfuse cannot be reached at {client.base_url}: {describe(fault)}") from None
    client.backoff.success()
    if not answer.data:
        raise CredentialsRefused(
            "Langfuse knows no project for these keys. Try: keys of a project, not of an organisation"
        )
    first = answer.data[0]
    return Project(first.id, first.name, first.organization.id)


async def server_version(client: LangfuseClient) -> str:
    """Return the version the server gives at its health endpoint. Raises as `project_of`."""
    try:
        return str((await api(client).health.health(request_options=OPTIONS)).version)
    except ApiError as refusal:
        raise failure_of(client, HEALTH_PATH, refusal) from None
    except (ValueError, RecursionError):
        raise TransientError(f"{client.base_url}{HEALTH_PATH} answered something unknown: not Langfuse's API") from None
    except httpx.HTTPError as fault:
        raise TransientError(f"Langfuse cannot be reached at {client.base_url}: {describe(fault)}") from None


def api(client: LangfuseClient) -> AsyncLangfuseAPI:
    """Return the SDK's typed client over the connections of ours; it retries nothing and follows no redirect."""
    username, password = client.keys
    return AsyncLangfuseAPI(
        base_url=client.base_url,
        username=username,
        password=password,
        httpx_client=client.http,
        follow_redirects=False,
    )


def failure_of(client: LangfuseClient, path: str, refusal: ApiError) -> Exception:
    """Return what an answer means that the SDK refused, as for every other request."""
    body = refusal.body if isinstance(refusal.body, dict | list) else None
    status = refusal.status_code or 0
    headers = {key: value for key, value in (refusal.headers or {}).items() if key.lower() != "content-encoding"}
    response = (
        httpx.Response(status, headers=headers, json=body)
        if body is not None
        else httpx.Response(status, headers=headers, text=str(refusal.body or ""))
    )
    return client.failure(path, response)
