"""Writes metrics in the text formats of Prometheus and OpenMetrics."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from sync_worker.errors import ConfigError
from sync_worker.ledger.backup import belongs_to
from sync_worker.measurements import Histogram, Labels, Measurements
from sync_worker.watch.metrics import METRICS, Metric, Samples, bounded

#: With what a metrics file begins.
_BEGINNING = b"# HELP "


def render(samples: Samples, accept: str, *, process: bool) -> tuple[str, bytes]:
    """Return the content type that a request with this `Accept` gets, and the body. `process`: its own metrics too."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(samples))
    if process:
        ProcessCollector(registry=registry)
    encode, kind = exposition.choose_encoder(accept)
    return kind, encode(registry)


def with_measurements(samples: Samples, made: Measurements) -> Samples:
    """Return the samples with those that a process counts."""
    found = dict(samples)
    for metric in METRICS:
        if metric.kind == "histogram" and metric.measured:
            found[metric.name] = dict(made.histograms(metric.measured))
        elif metric.measured:
            found[metric.name] = dict(made.counters(metric.measured))
    return found


def check_textfile(path: Path, state: Path) -> None:
    """Raise ConfigError where a metrics file could not be written, or would take the place of something else.

    `state` is the state file. What is there is replaced if it is empty, or a metrics file.
    """
    if path.is_dir():
        raise ConfigError(f"--metrics-file {path} is a folder. Try: {path / 'sync_worker.prom'}")
    if not os.access(path.absolute().parent, os.W_OK):
        raise ConfigError(f"--metrics-file {path}: its folder does not exist or cannot be written. Try: another path")
    if belongs_to(path.resolve(), state.resolve()):
        raise ConfigError(f"--metrics-file {path} is the state file, or belongs to it. Try: another path")
    if path.exists() and not _is_textfile(path):
        raise ConfigError(f"--metrics-file {path} is something else, and would be replaced. Try: another path")


def _is_textfile(path: Path) -> bool:
    """Whether what is there is a file without content, or with metrics."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_BEGINNING)) in {b"", _BEGINNING}
    except OSError:
        return False


def write_textfile(path: Path, samples: Samples) -> None:
    """Replace a file for node_exporter by a new one, which everybody may read. Raises OSError."""
    _, body = render(samples, "", process=False)
    handle, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            os.fchmod(file.fileno(), 0o644)
        Path(made).replace(path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise


class _Families(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            values = bounded(metric, self._samples.get(metric.name, {}))
            if values:
                yield _family(metric, values)


def _family(metric: Metric, values: dict[Labels, float | Histogram]) -> Family:
    made: GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily
    if metric.kind == "histogram":
        made = HistogramMetricFamily(metric.full_name, metric.meaning, labels=metric.labels)
        for labels, value in values.items():
            if isinstance(value, Histogram):
                made.add_metric(labels, buckets=_buckets(metric.bounds, value), sum_value=value.total)
        return made
    family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    made = family(metric.full_name, metric.meaning, labels=metric.labels)
    for labels, value in values.items():
        if not isinstance(value, Histogram):
            made.add_metric(labels, value)
    return made


def _buckets(bounds: Sequence[float], histogram: Histogram) -> list[tuple[str, float]]:
    names = [*(str(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(names, (float(count) for count in accumulate(histogram.counts)), strict=True))
