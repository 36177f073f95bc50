"""A source that is open: what its runs work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sync_worker.corrected import CorrectedClock
from sync_worker.langfuse.langfuse_client import LangfuseClient
from sync_worker.ledger import Ledger, SourceState
from sync_worker.otlp.target_client import TargetClient
from sync_worker.pipeline.driver import Pipeline
from sync_worker.pipeline.pause_check import Pauses
from sync_worker.pipeline.report import SourceReport
from sync_worker.pipeline.session import Session
from sync_worker.runs.coverage import Coverage
from sync_worker.settings import Settings, Source

if TYPE_CHECKING:
    from sync_worker.runs.score_jobs import ScoreJobs


@dataclass(slots=True)
class OpenSource:
    """One source with its clients and its pipeline. `windows` (ms) are its lookback windows."""

    source: Source
    settings: Settings
    state: SourceState
    client: LangfuseClient
    receiver: TargetClient
    pauses: Pauses
    session: Session
    pipeline: Pipeline
    coverage: Coverage
    windows: Sequence[int]

    #: Its name in the settings, the state file, the time by its servers, and the counts of the run.
    name: str = field(init=False)
    ledger: Ledger = field(init=False)
    clock: CorrectedClock = field(init=False)
    report: SourceReport = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.ledger = self.source.name, self.session.ledger
        self.clock, self.report = self.session.clock, self.session.report

    @property
    def scores(self) -> ScoreJobs | None:
        """What is done with its scores; None where none are sent."""
        takes_scores = self.receiver.target.preset.takes_signals or self.settings.score_events
        return self.score_jobs() if self.settings.scores and takes_scores else None

    @property
    def requests_per_minute(self) -> int | None:
        """How many requests a minute may read observations; None while no limit is known."""
        return self.client.rate_limits.per_minute(self.session.reader.api)

    def score_jobs(self) -> ScoreJobs:
        """Return what is done with its scores, although none are sent."""
        from sync_worker.runs.score_jobs import ScoreJobs  # noqa: PLC0415 - the start of a run without scores is quicker

        return ScoreJobs(self)
