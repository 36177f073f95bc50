"""The ledger: all progress, in one SQLite file. Nothing else in the worker writes SQLite."""

from sync_worker.ledger.file import open_ledger, open_scratch
from sync_worker.ledger.ledger import Ledger
from sync_worker.ledger.sources import same_address, source_scope
from sync_worker.ledger.stored_records import (
    DeadLetter,
    ScoreNote,
    SecondRead,
    SentObservation,
    SourceState,
    TraceNote,
)

__all__ = [
    "DeadLetter",
    "Ledger",
    "ScoreNote",
    "SecondRead",
    "SentObservation",
    "SourceState",
    "TraceNote",
    "open_ledger",
    "open_scratch",
    "same_address",
    "source_scope",
]
