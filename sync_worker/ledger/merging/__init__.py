"""Takes what another state file knows into this one: parts of a history that several machines brought over."""

from sync_worker.ledger.merging.files import Merged, merge

__all__ = ["Merged", "merge"]
