"""Which traces are synced: filters, routes that drop, and samples. Pure: it sees a trace's context and decides."""

from sync_worker.selection.decision import SAMPLE, left_out_by, left_out_still
from sync_worker.selection.not_read import NotRead, unread_environments
from sync_worker.selection.selection_rules import NO_RULES, FieldFilter, SelectionRules

__all__ = [
    "NO_RULES",
    "SAMPLE",
    "FieldFilter",
    "NotRead",
    "SelectionRules",
    "left_out_by",
    "left_out_still",
    "unread_environments",
]
