"""Merges another state file into this one: shards of a backfill that ran on several machines."""

from sync_worker.ledger.merging.state_files import Merged, merge

__all__ = ["Merged", "merge"]
