"""`--metrics-file`: what a run has counted, and how it stands, as a file that node_exporter picks up."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from sync_worker.clock import Clock
from sync_worker.errors import StateError
from sync_worker.ledger import Ledger
from sync_worker.ledger.state_keys import MEASURED, measured
from sync_worker.measurements import Measurements
from sync_worker.settings import Settings, Source

log = logging.getLogger(__name__)


def metrics_file(arguments: argparse.Namespace, settings: Settings, command: str) -> MetricsFile | None:
    """Return the file that was asked for. Raises ConfigError where it could not be written, before anything is done."""
    if arguments.metrics_file is None:
        return None
    return MetricsFile(Path(arguments.metrics_file), settings.state_path, command)


class MetricsFile:
    """The file of one run. What is counted goes on from earlier runs of the command with such a file.

    Raises ConfigError where it could not be written, or would take the place of something else, as the `state` file.
    """

    def __init__(self, path: Path, state: Path, command: str) -> None:
        from sync_worker.watch.exposition import check_textfile  # noqa: PLC0415 - only with the option

        check_textfile(path, state)
        self._path = path
        self._command = command

    def begin(self, ledger: Ledger, made: Measurements) -> None:
        """Go on from what earlier runs counted. Raises StateError."""
        try:
            stored = ledger.state(MEASURED).get(measured(self._command))
            made.load(stored or {"counters": {}, "histograms": {}})
        except (ValueError, KeyError, TypeError, AttributeError):  # of another version
            log.debug("the counts of earlier runs cannot be read", exc_info=True)

    def keep(self, ledger: Ledger, made: Measurements) -> None:
        """Keep what was counted, with the next commit."""
        ledger.state(MEASURED).put(measured(self._command), made.as_json())

    def write(
        self, ledger: Ledger, settings: Settings, sources: Sequence[Source], clock: Clock, made: Measurements
    ) -> None:
        """Write the file; where that fails, the run is done all the same."""
        from sync_worker.watch import ledger_metrics  # noqa: PLC0415
        from sync_worker.watch.exposition import with_measurements, write_textfile  # noqa: PLC0415

        try:
            samples = ledger_metrics.read(ledger, settings, sources, clock)
            write_textfile(self._path, with_measurements(samples, made))
        except (OSError, StateError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            log.warning("--metrics-file %s was not written: %s", self._path, reason, extra={"action": "metrics"})
