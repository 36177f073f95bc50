"""Which project a pair of keys belongs to, and which version the server has: by the Langfuse SDK's typed client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import httpx

from sync_worker.errors import CredentialsRejected, SourcePaused, TransientError
from sync_worker.json_text import parse
from sync_worker.langfuse.langfuse_client import LangfuseClient

if TYPE_CHECKING:  # importing the SDK takes long, and most starts ask nothing of it
    from langfuse.api.client import AsyncLangfuseAPI
    from langfuse.api.core import ApiError
    from langfuse.api.core.request_options import RequestOptions

OPTIONS: RequestOptions = {"max_retries": 0, "timeout_in_seconds": 30}
_PROJECTS = "/api/public/projects"
_HEALTH = "/api/public/health"


@dataclass(frozen=True, slots=True)
class Project:
    """A Langfuse project and its organisation, whose request limit it shares."""

    id: str
    name: str
    organization_id: str


async def project_of(client: LangfuseClient) -> Project:
    """Return the project of the client's keys; waits out transient errors as the client's back-off allows.

    Raises CredentialsRejected, EndpointMissing, SourcePaused or TransientError.
    """
    return await client.backoff.retry(lambda: _project(client))


async def _project(client: LangfuseClient) -> Project:
    await client.admit(_PROJECTS)
    with translated(client, _PROJECTS):
        answer = await api(client).projects.get(request_options=OPTIONS)
    if not answer.data:
        raise CredentialsRejected(
            "Langfuse knows no project for these keys. Try: keys of a project, not of an organisation"
        )
    first = answer.data[0]
    return Project(first.id, first.name, first.organization.id)


async def server_version(client: LangfuseClient) -> str:
    """Return the version the server gives at its health endpoint. Raises as `project_of`."""
    with translated(client, _HEALTH):
        return str((await api(client).health.health(request_options=OPTIONS)).version)


async def key_expiry(client: LangfuseClient, project: Project) -> datetime | None:
    """Return when the client's key expires; None where it never does, or Langfuse does not report it.

    Keys that expire are newer than Langfuse 4.16.0, whose `GET /api/public/projects/{id}/apiKeys` reports it, but
    may require a key of the organisation.
    """
    path = f"{_PROJECTS}/{project.id}/apiKeys"
    try:
        await client.admit(path)
        with translated(client, path):
            listed = await api(client).projects.get_api_keys(project.id, request_options=OPTIONS)
    except (TransientError, SourcePaused):  # useful, but no reason to stop
        return None
    return next((key.expires_at for key in listed.api_keys if key.public_key == client.keys[0]), None)


@contextmanager
def translated(client: LangfuseClient, path: str) -> Iterator[None]:
    """Translate errors of the SDK into those that the client raises."""
    from langfuse.api.core import ApiError  # noqa: PLC0415

    with client.timed():
        try:
            yield
        except ApiError as refusal:
            raise failure_of(client, path, refusal) from None
        except (ValueError, RecursionError):  # no text, no JSON, or another shape
            raise TransientError(f"{client.base_url}{path} answered something unknown: not Langfuse's API") from None
        except httpx.HTTPError as error:
            raise client.lost(path, error) from None


def api(client: LangfuseClient) -> AsyncLangfuseAPI:
    """Return the SDK's typed client over the connections of ours; it retries nothing and follows no redirect."""
    from langfuse.api.client import AsyncLangfuseAPI  # noqa: PLC0415

    username, password = client.keys
    return AsyncLangfuseAPI(
        base_url=client.base_url,
        username=username,
        password=password,
        httpx_client=client.http,
        follow_redirects=False,
    )


def failure_of(client: LangfuseClient, path: str, refusal: ApiError) -> Exception:
    """Return the error for a response that the SDK raised ApiError for, as for every other request."""
    body = refusal.body if isinstance(refusal.body, dict | list) else None
    status = refusal.status_code or 0
    headers = {key: value for key, value in (refusal.headers or {}).items() if key.lower() != "content-encoding"}
    response = (
        httpx.Response(status, headers=headers, json=body)
        if body is not None
        else httpx.Response(status, headers=headers, text=str(refusal.body or ""))
    )
    return client.failure(path, response)


async def still_answers(client: LangfuseClient, project_id: str, *, with_keys: bool) -> bool | None:
    """Return whether an address still answers, or may answer, for a project; None where that is not known now.

    It no longer does where nobody listens (no connection, no such name, no TLS), and where somebody else answers: a
    redirect, 404, no JSON, another project. Keys that are rejected prove nothing: they may have been rotated. Without
    keys, which are not given to an address that never had them, any Langfuse may hold the project. Asked once.
    """
    path = _PROJECTS if with_keys else _HEALTH
    await client.admit(path)
    try:
        auth = httpx.USE_CLIENT_DEFAULT if with_keys else None
        response = await client.http.get(client.base_url + path, auth=auth)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return False
    except httpx.HTTPError:
        return None
    status = response.status_code
    if status in {408, 429} or status >= 500:
        return None
    if status in {401, 403}:
        return True
    is_json, body = parse(response.content)
    if not 200 <= status < 300 or not is_json or not isinstance(body, dict):
        return False
    if not with_keys:
        return "version" in body
    listed = body.get("data")
    return isinstance(listed, list) and any(isinstance(one, dict) and one.get("id") == project_id for one in listed)
