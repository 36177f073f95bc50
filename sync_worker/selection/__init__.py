"""Which traces are synced: filters, routes that drop, and samples. Pure: it sees a trace's context and decides."""

from sync_worker.selection.decision import SAMPLE, left_out_by, outcome
from sync_worker.selection.not_read import NotRead, unread_environments
from sync_worker.selection.rules import NO_RULES, Filter, Rules

__all__ = ["NO_RULES", "SAMPLE", "Filter", "NotRead", "Rules", "left_out_by", "outcome", "unread_environments"]
