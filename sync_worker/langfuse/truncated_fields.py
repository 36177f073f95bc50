"""Resolves truncated fields: text over Langfuse's size limit, which it stores as media with a token in its place.

The token:
`@@@langfuseMedia:type=text/plain|id=…|source=field_size_limit@@@`. Anybody can type one, so only a whole field, or a
whole text in a field's JSON, is taken for one, and a few in an observation; it is asked for with the keys of its
project, which give access to no other project's media. The media endpoint answers with an address that is signed and
short-lived, so it is read at once (`object_store`) and never passed on. All other tokens stay, and so does one whose
text is unavailable.
(Langfuse v4.16.0, `LANGFUSE_OBSERVATION_FIELD_OVERFLOW_ENABLED`; its answer names no project.)
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from dataclasses import dataclass, replace

import httpx

from sync_worker.backoff import Backoff
from sync_worker.bounded_client import unless_stopped
from sync_worker.clock import Stopped
from sync_worker.errors import CredentialsRejected, SyncError, TransientError
from sync_worker.http import describe
from sync_worker.json_text import dump, parse
from sync_worker.langfuse.identity import OPTIONS, api, failure_of, server_version
from sync_worker.langfuse.langfuse_client import LangfuseClient, ServerError
from sync_worker.langfuse.object_store import ObjectStore, UnavailableError
from sync_worker.records import Observation

#: Tokens of one observation that are put back, and bytes that all their texts may have: memory stays bounded.
MAX_TOKENS = 4
MAX_TEXT_BYTES = 16 * 1024 * 1024

_MARK = "source=field_size_limit@@@"
_TOKEN = re.compile(r"@@@langfuseMedia:type=[^|@]{0,200}\|id=([A-Za-z0-9_-]{1,200})\|source=field_size_limit@@@")
#: A JSON string, and what makes it a key.
_STRING = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?', re.DOTALL)
_PATH = "/api/public/media"
#: Types of what a field can have held.
_TEXTS = ("text/", "application/json")
#: How long a store, or the endpoint while Langfuse is well, may fail before a token stays, in seconds.
_MAX_ELAPSED = 20.0
_REMEMBERED = 256  # texts, or that there are none, by media id

_ACTION = {"action": "media"}

log = logging.getLogger(__name__)


class _LangfuseDownError(Exception):
    """Langfuse as a whole did not answer within the retry deadline."""

    def __init__(self, error: TransientError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class _Token:
    """Where a token is in a text: all of it, or a JSON string with its quotes."""

    start: int
    end: int
    media_id: str
    quoted: bool


def may_be_truncated(observation: Observation) -> bool:
    """Whether a field of an observation may be truncated; most have none that may."""
    return _MARK in (observation.input or "") or _MARK in (observation.output or "")


def tokens_left(observation: Observation) -> int:
    """Return how many fields of an observation are still truncated."""
    return len(_tokens(observation.input)) + len(_tokens(observation.output))


class Media:
    """Resolves truncated fields in the observations of one source; texts are cached as far as memory allows."""

    def __init__(self, client: LangfuseClient) -> None:
        self._client = client
        self._store = ObjectStore(client.base_url, client.media_hosts)
        self._store_backoff = Backoff("Langfuse's media store", client.clock, _MAX_ELAPSED)
        self._known: OrderedDict[str, str | None] = OrderedDict()
        self._size = 0

    async def resolve(self, observation: Observation) -> Observation:
        """Return the observation with truncated fields resolved; itself where there are none, or none can be.

        Raises CredentialsRejected, or TransientError when the retry deadline for Langfuse passes.
        """
        if not may_be_truncated(observation):
            return observation
        wanted = dict.fromkeys(
            place.media_id for text in (observation.input, observation.output) for place in _tokens(text)
        )
        texts: dict[str, str] = {}
        left = MAX_TEXT_BYTES
        for media_id in list(wanted)[:MAX_TOKENS]:
            times = sum(
                place.media_id == media_id
                for text in (observation.input, observation.output)
                for place in _tokens(text)
            )
            text = await self._text(media_id, left // times)
            if text is not None:
                texts[media_id] = text
                left -= len(text) * times
        if not texts:
            return observation
        return replace(observation, input=_fill(observation.input, texts), output=_fill(observation.output, texts))

    async def _text(self, media_id: str, limit: int) -> str | None:
        if media_id in self._known:
            self._known.move_to_end(media_id)
            known = self._known[media_id]
            return known if known is None or len(known) <= limit else None
        try:
            text = await self._fetch(media_id, limit)
        except UnavailableError as why:
            log.warning("a field that Langfuse stored as media %s stays a token: %s", media_id, why, extra=_ACTION)
            text = None
        self._remember(media_id, text)
        return text

    def _remember(self, media_id: str, text: str | None) -> None:
        self._known[media_id] = text
        self._size += len(text or "")
        while len(self._known) > _REMEMBERED or self._size > MAX_TEXT_BYTES:
            _, gone = self._known.popitem(last=False)
            self._size -= len(gone or "")

    async def _fetch(self, media_id: str, limit: int) -> str:
        async def attempt() -> str:
            address = await self._address(media_id, limit)
            return await unless_stopped(self._client.clock, self._store.read(address, limit))

        try:
            return await self._store_backoff.retry(attempt)
        except _LangfuseDownError as down:
            raise down.error from None
        except (CredentialsRejected, Stopped):
            raise
        except SyncError as error:
            raise UnavailableError(str(error)) from None
        except (ValueError, RecursionError, MemoryError) as unread:
            raise UnavailableError(f"it cannot be read ({type(unread).__name__})") from None

    async def _address(self, media_id: str, limit: int) -> str:
        """Return where a text can be read; waits while Langfuse as a whole is down."""
        while True:
            try:
                address = await self._request_address(media_id, limit)
            except TransientError as error:
                if isinstance(error, ServerError) and await self._is_healthy():
                    raise  # it fails on this one
                try:
                    await self._client.backoff.wait(error)
                except TransientError as over:
                    raise _LangfuseDownError(over) from None
            else:
                self._client.backoff.success()
                return address

    async def _is_healthy(self) -> bool:
        try:
            await server_version(self._client)
        except TransientError:
            return False
        return True

    async def _request_address(self, media_id: str, limit: int) -> str:
        from langfuse.api.core import ApiError  # noqa: PLC0415 - takes long to import; few fields are media

        await self._client.admit(_PATH)
        try:
            answer = await api(self._client).media.get(media_id, request_options=OPTIONS)
        except ApiError as refusal:
            error = failure_of(self._client, _PATH, refusal)
            if isinstance(error, TransientError | CredentialsRejected):
                raise error from None
            raise UnavailableError(str(error)) from None
        except (ValueError, RecursionError) as unread:
            raise UnavailableError(f"the answer cannot be read ({type(unread).__name__})") from None
        except httpx.HTTPError as lost:
            raise TransientError(f"Langfuse's media cannot be reached: {describe(lost)}") from None
        if answer.media_id != media_id or not answer.content_type.lower().startswith(_TEXTS):
            raise UnavailableError(f"it is no text of this field ({answer.content_type})")
        if answer.content_length > limit:
            raise UnavailableError(f"it has {answer.content_length} bytes")
        return str(answer.url)


def _tokens(text: str | None) -> list[_Token]:
    """Return the tokens that stand for a whole field, or for a whole text in its JSON, keys left out."""
    if text is None or _MARK not in text:
        return []
    whole = _TOKEN.fullmatch(text)
    if whole is not None:
        return [_Token(0, len(text), whole[1], quoted=False)]
    if not parse(text)[0]:
        return []
    return [
        _Token(found.start(), found.end(), token[1], quoted=True)
        for found in _STRING.finditer(text)
        if found[2] is None and (token := _TOKEN.fullmatch(found[1])) is not None
    ]


def _fill(text: str | None, texts: dict[str, str]) -> str | None:
    if text is None:
        return None
    parts, at = list[str](), 0
    for place in _tokens(text):
        stored = texts.get(place.media_id)
        if stored is not None:
            parts += [text[at : place.start], dump(stored) if place.quoted else stored]
            at = place.end
    return "".join([*parts, text[at:]])
