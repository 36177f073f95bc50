"""Which traces of a source are synced, where to, and what their spans are like, by its settings."""

from __future__ import annotations

from collections.abc import Iterable

from sync_worker.configured import Route
from sync_worker.pipeline.session import Policy
from sync_worker.redaction.protection import Protection
from sync_worker.selection import FieldFilter, SelectionRules
from sync_worker.selection.selection_rules import FIELDS
from sync_worker.settings import Settings, Source
from sync_worker.spans.overrides import Overrides
from sync_worker.spans.span_model import Conversion
from sync_worker.targets import Target
from sync_worker.times import span_ms


def policy_of(settings: Settings, source: Source, target: Target, protection: Protection) -> Policy:
    """Return how the traces of a source are sent to a target."""
    return Policy(
        project=source.kelet_project,
        routes=source.routes,
        conversion=conversion_of(settings, source, target, protection),
        resend_changed=settings.updates == "resend",
        deepest_ms=max(span_ms(window) for window in settings.late_horizons),
        rules=rules_of(settings, source.routes),
    )


def conversion_of(settings: Settings, source: Source, target: Target, protection: Protection) -> Conversion:
    """Return how the observations of a source become spans of a target."""
    return Conversion(
        attributes=settings.attributes,
        max_value_bytes=settings.max_value_bytes,
        max_attributes=settings.max_attributes,
        langfuse_url=source.langfuse_base_url,
        project_attribute=target.preset.project_attribute,
        kelet=target.kelet_attributes,
        overrides=Overrides(settings.session_from, settings.user_from, settings.agent_from, settings.project_from),
        show_id=protection.identifier,
    )


def rules_of(settings: Settings, routes: Iterable[Route]) -> SelectionRules:
    """Return the rules of a source, by its own settings and routes."""
    filters = (
        FieldFilter(name, getattr(settings, f"include_{name}"), getattr(settings, f"exclude_{name}")) for name in FIELDS
    )
    return SelectionRules.of(filters, routes, settings.sample, keep_errors=settings.sample_errors)
