"""Which traces of a source are synced, and what their spans say, by its settings."""

from __future__ import annotations

from collections.abc import Iterable

from sync_worker.configured import Route
from sync_worker.selection import Filter, Rules
from sync_worker.selection.rules import FIELDS
from sync_worker.settings import Settings
from sync_worker.spans.overrides import Overrides


def rules_of(settings: Settings, routes: Iterable[Route]) -> Rules:
    """Return the rules of a source, by its own settings and routes."""
    filters = (
        Filter(name, getattr(settings, f"include_{name}"), getattr(settings, f"exclude_{name}")) for name in FIELDS
    )
    return Rules.of(filters, routes, settings.sample, keep_errors=settings.sample_errors)


def overrides_of(settings: Settings) -> Overrides:
    """Return where session, user, agent and project of a source's traces come from."""
    return Overrides(settings.session_from, settings.user_from, settings.agent_from, settings.project_from)
