"""Ranges and categories of scores, asked for when a score names a config, and kept for a day."""

from __future__ import annotations

from dataclasses import asdict

from sync_worker.clock import Clock
from sync_worker.langfuse.langfuse_client import LangfuseClient
from sync_worker.langfuse.score_reader import ConfigNotServed, fetch_config
from sync_worker.ledger.state_keys import SCORE_CONFIGS, State
from sync_worker.records import ScoreConfig

_MAX_AGE_MS = 86_400_000
_MOST = 500  # configs that are kept


class ScoreConfigs:
    """The score configs of one project."""

    def __init__(self, client: LangfuseClient, state: State, clock: Clock) -> None:
        self._client = client
        self._state = state
        self._clock = clock
        self._not_served: dict[str, ConfigNotServed] = {}  # in this run

    async def of(self, config_id: str) -> ScoreConfig | None:
        """Return a config; None where the project has none of that id. Raises as `fetch_config`."""
        if config_id in self._not_served:
            raise self._not_served[config_id]
        stored = dict(self._state.get(SCORE_CONFIGS) or {})
        now = self._clock.now_ms()
        known = stored.get(config_id)
        if not isinstance(known, dict) or not 0 <= now - known.get("at", 0) < _MAX_AGE_MS:
            try:
                found = await fetch_config(self._client, config_id)
            except ConfigNotServed as error:
                self._not_served[config_id] = error
                raise
            known = {"at": now, "config": None if found is None else asdict(found)}
            stored.pop(config_id, None)
            stored[config_id] = known
            self._state.put(SCORE_CONFIGS, dict(list(stored.items())[-_MOST:]))
        config = known.get("config")
        if config is None:
            return None
        categories = tuple((str(label), float(value)) for label, value in config.get("categories", ()))
        return ScoreConfig(config.get("minimum"), config.get("maximum"), categories)
