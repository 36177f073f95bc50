"""Finds the record of a source in the state file: that of its Langfuse project and target, under any address and keys.

A project has an id, but equal ids prove nothing: they can be chosen, and a staging server is often a copy of
production. So a project that is known at one address and is now found at another is taken for the same

- when the old address no longer serves it, and the new one lists what was sent last, with the same content;
- when the old address no longer serves it, and no sent observations are stored.

If the old one still serves it and no sent observations are stored, the newest observations of both are compared: common
ones make them one project under two names. While neither lists anything they are two, and are compared again before
each cycle. All else is for the operator to decide (`state adopt`, `state separate`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from sync_worker.backoff import Backoff
from sync_worker.clock import Clock
from sync_worker.errors import ConfigError, StateError, Stop, SyncError, TransientError
from sync_worker.langfuse.buckets import Buckets
from sync_worker.langfuse.identity import Project, project_of, still_answers
from sync_worker.langfuse.langfuse_client import LangfuseClient
from sync_worker.ledger import Ledger, SourceState, same_address, source_scope
from sync_worker.ledger.state_keys import ID_MAPPING, UNDECIDED
from sync_worker.settings import Settings, Source
from sync_worker.spans.ids import ID_MAP_VERSION
from sync_worker.sync.comparing import COMPARED, lists_as_sent, share_observations
from sync_worker.sync.keys import key_pair_of, keys_hash, keys_of

#: The project that the keys belong to is checked again after this time, in milliseconds.
_IDENTITY_AGE = 24 * 3_600_000
#: How long sources that cannot be reached may delay the others, in seconds.
_IDENTIFY_TIMEOUT = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    """The address under which the ledger stores, or is to store, a project.

    `moved` is the record that moves there, and `compared` whether what was sent last was found there. `others` have the
    same id and stay separate; of those, `undecided` are compared again.
    """

    url: str
    moved: SourceState | None = None
    compared: bool = False
    others: Sequence[SourceState] = ()
    undecided: Sequence[SourceState] = ()


class Identities:
    """Finds the records of one process's sources, and prevents two of them from having the same."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        clock: Clock,
        limiter_of: Callable[[str], Buckets],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._limiter_of = limiter_of
        self._transport = transport
        self._taken: dict[tuple[str, str], SourceState] = {}  # by name and target of sources
        self._previewed: list[tuple[Source, Project]] = []
        self._lock = asyncio.Lock()  # so that the second of two new names of one project finds the first

    async def identify(self, sources: Collection[Source]) -> None:
        """Find the records of several sources before any of them sends; one that cannot be reached is skipped.

        Raises ConfigError where two are one project, or StateError.
        """
        if len(sources) < 2:
            return
        tasks = [asyncio.create_task(self._identify(source)) for source in sources]
        try:
            await asyncio.wait(tasks, timeout=_IDENTIFY_TIMEOUT, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            errors = await asyncio.gather(*tasks, return_exceptions=True)
        for error in errors:
            if isinstance(error, Stop):
                raise error

    async def of(self, source: Source, client: LangfuseClient, state: SourceState | None) -> SourceState:
        """Return the source's record in the ledger; `state` is the one that its keys are known to belong to.

        Langfuse is asked once a day for the project of the keys.

        Raises ConfigError if the operator has to decide, or another source of this process has the record; StateError,
        and as `project_of`.
        """
        if state is not None:
            self._check_ids(state)
        if state is None or self._clock.now_ms() - state.checked_ms >= _IDENTITY_AGE:
            project = await project_of(client)
            async with self._lock:
                place = await self._place(source, project)
                state = self._remember(source, place, project)
        if self._ledger.state(source_scope(state.id)).get(UNDECIDED):
            async with self._lock:
                await self._decide(source, state)
        self._check_ids(state)
        for (name, target), taken in self._taken.items():
            if (name, target) != (source.name, source.target) and taken.id == state.id:
                raise _one_project(name, source, _project_in(state), state.langfuse_url)
        self._taken[source.name, source.target] = state
        return state

    async def preview(self, source: Source, project: Project) -> str:
        """Describe which record a source would have, without a change to the ledger.

        Raises ConfigError if the operator has to decide, or the source is one project with another that was previewed
        before; TransientError, and as the requests do.
        """
        for other, its in self._previewed:
            if its.id == project.id and other.target == source.target:
                await self._check_apart(source, other, project)
        self._previewed.append((source, project))
        known = self._ledger.source_by_key(keys_of(source), source.target)
        if known is not None and known.project_id == project.id:
            return f"known as what is read at {known.langfuse_url}"
        place = await self._found_place(source, project)
        if place.moved is not None:
            return f"known at {place.moved.langfuse_url}, which no longer answers for it: the next run moves it here"
        if place.others:
            return "another one than that of the same id elsewhere"
        here, _ = self._known(source, project)
        return "new here" if here is None else f"known as what is read at {here.langfuse_url}, with other keys"

    async def _check_apart(self, source: Source, other: Source, project: Project) -> None:
        """Raise ConfigError if two sources of the same id are one project, by their newest observations."""
        if same_address(source.langfuse_base_url, other.langfuse_base_url):
            raise _one_project(other.name, source, project, other.langfuse_base_url)
        states = [self._ledger.source_by_key(keys_of(one), one.target) for one in (source, other)]
        if states[0] is not None and states[1] is not None and states[0].id != states[1].id:
            return  # it was decided that they are two
        async with (
            self._connected(source.langfuse_base_url, key_pair_of(source)) as here,
            self._connected(other.langfuse_base_url, key_pair_of(other)) as there,
        ):
            if await share_observations(here, there, self._settings.of(source).langfuse_api, self._clock.now_ms()):
                raise _for_the_operator(source, project, other.langfuse_base_url, answers=True)

    async def adopt(self, source: Source, from_url: str | None) -> tuple[SourceState, str]:
        """Adopt the project of the same id that is known at another address as this source's.

        Returns its record and the old address. Raises ConfigError if there is none, or more than one.
        """
        project, others, here = await self._found(source)
        if from_url is not None:
            others = [other for other in others if same_address(other.langfuse_url, from_url)]
        if len(others) != 1 or here is not None:
            known = "; ".join(other.langfuse_url for other in others) or "nowhere else"
            what = "it has a record of its own here already" if here is not None else f"it is known at: {known}"
            raise ConfigError(
                f"{source.name}: project {project.id} at {source.langfuse_base_url} cannot be taken for another one: "
                f"{what}. Try: `status`, and --from with the address of one of them"
            )
        self._ledger.move_source(others[0].id, source.langfuse_base_url)
        return self._remember(source, source.langfuse_base_url, project), others[0].langfuse_url

    async def separate(self, source: Source) -> SourceState:
        """Give a source its own record, separate from projects of the same id elsewhere."""
        project, _, here = await self._found(source)
        state = self._remember(source, source.langfuse_base_url if here is None else here.langfuse_url, project)
        keys = self._ledger.state(source_scope(state.id))
        keys.drop(UNDECIDED)
        keys.save()
        return state

    async def _identify(self, source: Source) -> None:
        try:
            async with self._connected(source.langfuse_base_url, key_pair_of(source)) as client:
                await self.of(source, client, self._ledger.source_by_key(keys_of(source), source.target))
        except Stop:
            raise
        except SyncError as error:  # the source's own run gets the same error, and reports it
            log.debug("%s: %s", source.name, error, extra={"action": "identify", "source": source.name})

    async def _found(self, source: Source) -> tuple[Project, list[SourceState], SourceState | None]:
        """Return a source's project, the records of its id at other addresses, and the one at this address."""
        async with self._connected(source.langfuse_base_url, key_pair_of(source)) as client:
            project = await project_of(client)
        here, others = self._known(source, project)
        return project, others, here

    def _known(self, source: Source, project: Project) -> tuple[SourceState | None, list[SourceState]]:
        wanted = project.id, source.target
        known = [state for state in self._ledger.sources() if (state.project_id, state.target) == wanted]
        here = [state for state in known if same_address(state.langfuse_url, source.langfuse_base_url)]
        others = [state for state in known if state not in here]
        return next(iter(here), None), sorted(others, key=lambda state: -state.checked_ms)

    def _remember(self, source: Source, langfuse_url: str, project: Project) -> SourceState:
        return self._ledger.store_source(
            keys_of(source), langfuse_url, project.id, source.target, project.name, project.organization_id
        )

    async def _place(self, source: Source, project: Project) -> str:
        """Return the address under which the ledger stores, or is to store, a source's project."""
        place = await self._found_place(source, project)
        if place.moved is not None:
            self._move(source, place.moved, compared=place.compared)
        elif place.others:
            self._keep_apart(source, project, place.undecided)
        return place.url

    async def _found_place(self, source: Source, project: Project) -> _Place:
        """Find a source's record without a change to the ledger. Raises ConfigError or TransientError."""
        here, others = self._known(source, project)
        if here is not None:
            return _Place(here.langfuse_url)
        undecided, conflicts = [], list[ConfigError]()
        for other in others:
            sent = self._ledger.latest_sent(other.id, COMPARED)
            answers = await self._still_answers(source, other)
            if not answers and (not sent or await self._lists(source, sent)):
                return _Place(source.langfuse_base_url, other, bool(sent))
            same = True if sent else await self._share_observations(source, other)
            if same:
                conflicts.append(_for_the_operator(source, project, other.langfuse_url, answers=answers))
            elif same is None:
                undecided.append(other)
        if conflicts:
            raise conflicts[0]
        return _Place(source.langfuse_base_url, others=others, undecided=undecided)

    def _move(self, source: Source, other: SourceState, *, compared: bool) -> None:
        self._ledger.move_source(other.id, source.langfuse_base_url)
        log.warning(
            "%s: project %r (%s) was read at %s, which no longer answers for it, and is read at %s from now on (%s)",
            source.name, other.project_name, other.project_id, other.langfuse_url, source.langfuse_base_url,
            "what was sent last is there" if compared else "no sent observations are stored to compare",
            extra={"action": "adopt", "source": source.name},
        )  # fmt: skip

    def _keep_apart(self, source: Source, project: Project, undecided: Sequence[SourceState]) -> None:
        state = self._remember(source, source.langfuse_base_url, project)
        if undecided:
            keys = self._ledger.state(source_scope(state.id))
            keys.put(UNDECIDED, [other.id for other in undecided])
            keys.save()
        log.warning(
            "%s: project %s at %s is another one than that of the same id elsewhere: %s",
            source.name, project.id, source.langfuse_base_url,
            "neither has observations to compare yet" if undecided else "its observations differ",
            extra={"action": "identify", "source": source.name},
        )  # fmt: skip

    async def _decide(self, source: Source, state: SourceState) -> None:
        """Compare a source again with those of the same id, while neither lists anything."""
        keys = self._ledger.state(source_scope(state.id))
        ids = set(keys.get(UNDECIDED) or ())
        left = []
        for other in self._ledger.sources():
            if other.id in ids and other.project_id == state.project_id:
                same = await self._share_observations(source, other)
                if same:
                    raise _for_the_operator(source, _project_in(other), other.langfuse_url, answers=True)
                if same is None:
                    left.append(other.id)
        keys.put(UNDECIDED, left)
        keys.save()

    async def _still_answers(self, source: Source, other: SourceState) -> bool:
        """Return whether the known address of a project still serves it. Raises TransientError."""
        key_pair = self._key_pair_for(source, other)
        async with self._connected(other.langfuse_url, key_pair or ("", "")) as client:
            answers = await still_answers(client, other.project_id, with_keys=key_pair is not None)
        if answers is None:
            raise TransientError(
                f"project {other.project_id} is known at {other.langfuse_url}, which cannot be asked at "
                f"present whether it still has it. Try: run again later, or {_decisions(source)}"
            )
        return answers

    async def _lists(self, source: Source, sent: Sequence[tuple[str, str, int, bytes]]) -> bool:
        async with self._connected(source.langfuse_base_url, key_pair_of(source)) as client:
            return await lists_as_sent(client, sent, self._settings.of(source).langfuse_api)

    async def _share_observations(self, source: Source, other: SourceState) -> bool | None:
        """Whether two addresses list common observations among their newest; None while neither lists any."""
        key_pair = self._key_pair_for(source, other)
        if key_pair is None:
            return None
        async with (
            self._connected(source.langfuse_base_url, key_pair_of(source)) as here,
            self._connected(other.langfuse_url, key_pair) as there,
        ):
            return await share_observations(here, there, self._settings.of(source).langfuse_api, self._clock.now_ms())

    def _key_pair_for(self, source: Source, other: SourceState) -> tuple[str, str] | None:
        """Return keys that were used at the known address of a project; no others are sent to that address."""
        for one in (source, *self._settings.sources):
            for url in (other.langfuse_url, one.langfuse_base_url):  # which may be another spelling of it
                known = self._ledger.source_by_key(keys_hash(url, *key_pair_of(one)), other.target)
                if known is not None and known.id == other.id:
                    return key_pair_of(one)
        return None

    @asynccontextmanager
    async def _connected(self, url: str, key_pair: tuple[str, str]) -> AsyncIterator[LangfuseClient]:
        """Connect to an address for a few requests without retries."""
        client = LangfuseClient(
            url, *key_pair,
            rate_limits=self._limiter_of(keys_hash(url, *key_pair)), backoff=Backoff("Langfuse", self._clock, 0.0),
            clock=self._clock, max_bytes=self._settings.max_response_bytes, transport=self._transport,
        )  # fmt: skip
        try:
            yield client
        finally:
            await client.close()

    def _check_ids(self, state: SourceState) -> None:
        """Reject a state file whose spans were sent under another mapping of ids: they would be sent twice."""
        keys = self._ledger.state(source_scope(state.id))
        stored = keys.get(ID_MAPPING)
        if stored is None:
            keys.put(ID_MAPPING, ID_MAP_VERSION)
            keys.save()
        elif stored != ID_MAP_VERSION:
            raise StateError(
                f"{self._ledger.path} belongs to version {stored} of the mapping of ids, this program makes version "
                f"{ID_MAP_VERSION}. Try: the version of the worker that wrote it, or a new SYNC_STATE_PATH and a "
                "SYNC_START after what arrived"
            )


def organization_scope(state: SourceState) -> str:
    """Return the ledger's key for what all sources of an organisation share, under any address.

    Organisations of the same id on several servers share it unnecessarily, which costs time and loses nothing.
    """
    return f"organization {state.organization_id or state.langfuse_url}"


def _project_in(state: SourceState) -> Project:
    return Project(state.project_id, state.project_name, state.organization_id)


def _one_project(name: str, second: Source, project: Project, url: str) -> ConfigError:
    return ConfigError(
        f"the sources {name!r} and {second.name!r} are one Langfuse project, {project.name!r} ({project.id}) at {url}: "
        "all of it would be sent twice. Nothing was sent for the second. Try: remove one of them; routes send parts of "
        "one project to several Kelet projects"
    )


def _for_the_operator(source: Source, project: Project, known_at: str, *, answers: bool) -> ConfigError:
    why = f"{known_at} still serves it, or may" if answers else "what was sent last is not listed there as it was sent"
    return ConfigError(
        f"the source {source.name!r} is project {project.name!r} ({project.id}) at {source.langfuse_base_url}, and a "
        f"project of that id is known at {known_at}: one project under two names would be sent twice, and equal ids do "
        f"not prove that it is one ({why}). Nothing was sent. Try: that address, if it is one; or {_decisions(source)}"
    )


def _decisions(source: Source) -> str:
    return (
        f"`sync-worker state adopt --source {source.name}` if it is the same project, at its new address; "
        f"`sync-worker state separate --source {source.name}` if it is another one, such as a copy"
    )
