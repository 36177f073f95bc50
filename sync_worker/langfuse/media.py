"""Text that Langfuse took out of a row for being over its own limit, put back.

A field over a server's limit is stored as media, and a token stands in its place:
`@@@langfuseMedia:type=text/plain|id=…|source=field_size_limit@@@`. The media endpoint answers with an address that is
signed and short-lived, so it is read at once, without the keys, and never passed on. Other media tokens stay.
(Langfuse v4.16.0, `LANGFUSE_OBSERVATION_FIELD_OVERFLOW_ENABLED`.)
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace

import httpx
from langfuse.api.core import ApiError

from sync_worker.answers import TooLarge
from sync_worker.errors import CredentialsRefused, TransientError
from sync_worker.http import describe
from sync_worker.langfuse.client import LangfuseClient
from sync_worker.langfuse.identity import OPTIONS, api, failure_of
from sync_worker.records import Observation

_MARK = "source=field_size_limit@@@"
_TOKEN = re.compile(r"@@@langfuseMedia:type=[^|@]{0,200}\|id=([A-Za-z0-9_-]{1,200})\|source=field_size_limit@@@")
_PATH = "/api/public/media"

#: A text larger than this stays a token: memory stays bounded by what is held of a window.
MAX_TEXT_BYTES = 16 * 1024 * 1024

_ACTION = {"action": "media"}

log = logging.getLogger(__name__)


class _NotToBeHadError(Exception):
    """The text is not there, or cannot be taken; trying again would not help."""


def is_shortened(text: str | None) -> bool:
    """Whether some of the text stands elsewhere."""
    return text is not None and _MARK in text


async def whole_row(client: LangfuseClient, row: Observation) -> Observation:
    """Return the row with what stands elsewhere put in; the same row where nothing does. Raises as `whole`."""
    if not (is_shortened(row.input) or is_shortened(row.output)):
        return row
    asked = None if row.input is None else await whole(client, row.input)
    answered = None if row.output is None else await whole(client, row.output)
    return replace(row, input=asked, output=answered)


async def whole(client: LangfuseClient, text: str) -> str:
    """Return the text with what stands elsewhere put in; a token whose text cannot be had stays.

    Raises CredentialsRefused, or TransientError when patience ends.
    """
    for token in dict.fromkeys(match.group(0) for match in _TOKEN.finditer(text)):
        found = _TOKEN.fullmatch(token)
        stored = None if found is None else await _stored(client, found.group(1))
        if stored is not None:
            text = text.replace(token, stored)
    return text


async def _stored(client: LangfuseClient, media_id: str) -> str | None:
    while True:
        try:
            stored = await _fetched(client, media_id)
        except TransientError as fault:
            await client.backoff.wait(fault)
        except _NotToBeHadError as why:
            log.warning("a field that Langfuse stored as media %s stays a token: %s", media_id, why, extra=_ACTION)
            return None
        else:
            client.backoff.success()
            return stored


async def _fetched(client: LangfuseClient, media_id: str) -> str:
    await client.admitted(_PATH)
    try:
        answer = await api(client).media.get(media_id, request_options=OPTIONS)
        if answer.content_length > MAX_TEXT_BYTES:
            raise _NotToBeHadError(f"it has {answer.content_length} bytes")
        response = await client.http.get(answer.url, auth=None)
    except ApiError as refusal:
        fault = failure_of(client, _PATH, refusal)
        if isinstance(fault, TransientError | CredentialsRefused):
            raise fault from None
        raise _NotToBeHadError(str(fault)) from None
    except (ValueError, httpx.InvalidURL, TooLarge) as unread:
        raise _NotToBeHadError(f"the answer cannot be read ({type(unread).__name__})") from None
    except httpx.HTTPError as lost:
        raise TransientError(f"Langfuse's media cannot be reached: {describe(lost)}") from None
    if response.status_code >= 500 or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise TransientError(f"Langfuse's media store answered {response.status_code}")
    if response.status_code != httpx.codes.OK:
        raise _NotToBeHadError(f"its store answered {response.status_code}")
    return response.content.decode("utf-8", "replace")
