"""An observation of either observations endpoint as an Observation; whatever can be understood is.

Unknown types, levels and keys pass; a wrong type of an unimportant field becomes nothing; only an observation without
an id or a start cannot be understood. Every text of an Observation can be written as UTF-8, every time as an OTLP time,
and what nests deeper than `MAX_DEPTH` is text: neither the conversion nor the state file meets anything else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from sync_worker.errors import RecordRejected
from sync_worker.json_text import dump, has_surrogates, is_deep, utf8
from sync_worker.langfuse.reader import Unreadable
from sync_worker.records import Number, Observation, storable_id
from sync_worker.times import unix_ms

#: Numbers beyond what OTLP can carry are no counts.
_MAX_NUMBER = 2**63
_MAX_ID = 1_000  # characters; Langfuse takes ids of 800
#: Milliseconds that OTLP's nanoseconds can hold, from 1970 to 2262.
_MAX_TIME = 2**63 // 1_000_000
_SHOWN = 100  # characters of a value shown in a reason
_PRICES = (("input", "inputPrice"), ("output", "outputPrice"), ("total", "totalPrice"))

#: Fields that are texts: those that each listing has, and those of an observation's content.
_LISTED_TEXTS = ("type", "name", "level", "statusMessage", "version", "environment", "userId", "sessionId")
_CONTENT_TEXTS = ("model", "providedModelName", "promptName", "release", "traceName")


def parse_v2_observation(item: Any) -> Observation:
    """Return an item of a list as an observation. Raises RecordRejected with the reason when it has no id or start."""
    observation = parse_v2_metadata(item)
    metadata = item.get("metadata")
    observation.input = _payload(item.get("input"))
    observation.output = _payload(item.get("output"))
    if isinstance(metadata, dict):
        observation.metadata = _tidy_object(metadata)
    elif metadata not in (None, ""):
        observation.metadata = _tidy_object({"metadata": metadata})
    model, provided, observation.prompt_name, observation.release, observation.trace_name = _texts(item, _CONTENT_TEXTS)
    observation.model = model or provided
    observation.model_parameters = _tidy_object(item.get("modelParameters"))
    observation.usage = _numbers(item.get("usageDetails"))
    observation.cost = _numbers(item.get("costDetails"))
    observation.prices = _prices(item)
    observation.prompt_version = _integer(item.get("promptVersion"))
    observation.tags = _tags(item.get("tags"))
    return observation


def parse_v2_metadata(item: Any) -> Observation:
    """Return an item as an observation without its content: what the groups `core`, `basic` and `time` bring.

    Raises as `parse_v2_observation`. Lookback scans list an observation dozens of times, so it costs no more than that.
    """
    if not isinstance(item, dict):
        raise RecordRejected(f"an observation is {type(item).__name__}, not an object")
    get = item.get
    observation_id = _id(get("id"), "an id")
    if observation_id is None or not isinstance(get("id"), str):
        raise RecordRejected("an observation has no id")
    start = _moment(get("startTime"))
    if start is None:
        shown = dump(get("startTime"))[:_SHOWN]
        raise RecordRejected(f"observation {observation_id[:_SHOWN]!r} has no start time that can be read ({shown})")
    kind, name, level, status_message, version, environment, user_id, session_id = _texts(item, _LISTED_TEXTS)
    return Observation(
        id=observation_id,
        trace_id=_id(get("traceId"), "a trace id"),
        project_id=_stored(get("projectId")),
        type=(kind or "SPAN").upper(),
        start_ms=start,
        end_ms=_moment(get("endTime")),
        parent_id=_stored(get("parentObservationId")) or None,
        name=name,
        level=level or "DEFAULT",
        status_message=status_message,
        version=version,
        environment=environment,
        user_id=user_id,
        session_id=session_id,
        is_root=get("isRootObservation") is True,
        public=get("public") is True,
        completion_start_ms=_moment(get("completionStartTime")),
        updated_ms=_moment(get("updatedAt")),
    )


def parse_all(
    items: Iterable[Any], parse: Callable[[Any], Observation], *, is_valid: bool = False
) -> tuple[list[Observation], list[Unreadable]]:
    """Return a list's items as observations, and those that cannot be understood.

    Whatever one is, it costs no other. Where they came as valid JSON (`is_valid`), they need not be looked through
    for half surrogate pairs.
    """
    items = list(items)
    observations, unreadable = list[Observation](), list[Unreadable]()
    some_repaired = not is_valid and has_surrogates(items)
    for item in items:
        try:
            observation = parse(item)
            observation.had_surrogates = some_repaired and has_surrogates(item)
            observations.append(observation)
        except RecordRejected as refusal:
            unreadable.append(as_unreadable(item, str(refusal)))
        except Exception as error:  # noqa: BLE001 - it concerns this observation alone, and is kept with it
            unreadable.append(as_unreadable(item, f"it cannot be parsed ({type(error).__name__}: {error})"))
    return observations, unreadable


def _raw(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return None if value is None or isinstance(value, list | dict) else dump(value)


def _texts(item: Mapping[str, Any], keys: tuple[str, ...]) -> list[str | None]:
    """Return the texts of these fields that UTF-8 can hold; nearly all are None or ASCII, which is seen at once."""
    return [
        value if value is None or (type(value) is str and value and value.isascii()) else _text(value)
        for value in map(item.get, keys)
    ]


def _text(value: Any) -> str | None:
    text = _raw(value)
    return None if text is None else utf8(text)


def _stored(value: Any) -> str:
    """Return an id as it can be stored; an empty text where there is none."""
    return value if type(value) is str and value.isascii() else storable_id(_raw(value) or "")


def _id(value: Any, what: str) -> str | None:
    if type(value) is str and value.isascii() and len(value) <= _MAX_ID:
        return value or None
    text = _raw(value)
    if text is not None and len(text) > _MAX_ID:
        raise RecordRejected(f"an observation has {what} of {len(text)} characters, and Langfuse takes 800")
    return None if text is None else storable_id(text)


def _moment(value: Any) -> int | None:
    """Return a time that OTLP can carry, in Unix milliseconds; None for anything else."""
    moment = None if value is None else unix_ms(value)
    return moment if moment is not None and 0 <= moment < _MAX_TIME else None


def _payload(value: Any) -> str | None:
    if isinstance(value, str):
        return utf8(value) or None
    return None if value is None else dump(value)


def _tidy_object(value: Any) -> dict[str, Any]:
    """Return an object's entries with texts that UTF-8 can hold and no depth that a step-by-step walk cannot bear."""
    if not value or not isinstance(value, dict):
        return {}
    return {
        key if key.isascii() else utf8(key): item if type(item) is str and item.isascii() else _tidy(item)
        for key, item in value.items()
    }


def _tidy(value: Any) -> Any:
    if isinstance(value, str):
        return utf8(value)
    if not isinstance(value, list | dict):
        return value
    if is_deep(value):
        return dump(value)
    try:
        orjson.dumps(value)
    except TypeError:  # integers over 64 bits, half surrogate pairs
        return _rewrite(value)
    return value


def _rewrite(value: Any) -> Any:
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, list):
        return [_rewrite(item) for item in value]
    return {utf8(key): _rewrite(item) for key, item in value.items()} if isinstance(value, dict) else value


def _integer(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer() and _is_number(value):
        return int(value)
    return value if isinstance(value, int) and _is_number(value) else None


def _numbers(value: Any) -> dict[str, Number]:
    if not value or not isinstance(value, dict):
        return {}
    return {utf8(key): item for key, item in value.items() if isinstance(item, int | float) and _is_number(item)}


def _prices(observation: Mapping[str, Any]) -> dict[str, float]:
    """Return the prices that are known; this endpoint writes them as text ("1.5e-7")."""
    found: dict[str, float] = {}
    for key, name in _PRICES:
        price = observation.get(name)
        if price is None:
            continue
        try:
            number = None if isinstance(price, bool) else float(price)
        except (TypeError, ValueError, OverflowError):
            continue
        if number is not None and _is_number(number):
            found[key] = number
    return found


def _is_number(value: Number) -> bool:
    return not isinstance(value, bool) and -_MAX_NUMBER <= value < _MAX_NUMBER


def _tags(value: Any) -> tuple[str, ...]:
    return tuple([utf8(item) for item in value if isinstance(item, str)]) if value and isinstance(value, list) else ()


def as_unreadable(item: Any, reason: str) -> Unreadable:
    """Return what there is of an observation that cannot be understood."""
    observation = item if isinstance(item, dict) else {}
    observation_id, trace_id = observation.get("id"), observation.get("traceId")
    return Unreadable(
        reason,
        _short_id(observation_id) if isinstance(observation_id, str) and observation_id else None,
        _short_id(trace_id) if isinstance(trace_id, str) and trace_id else None,
        dump(item),
        unix_ms(observation.get("startTime")),
    )


def _short_id(text: str) -> str:
    """Return an id that can be kept, and of one that is no id as much as distinguishes it from others."""
    if len(text) <= _MAX_ID:
        return storable_id(text)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return storable_id(f"{text[:_SHOWN]}…{digest}")
