"""The bare work: pages as they came over the wire become compressed OTLP requests, with this project's own functions.

`python -m bench.floor LANGFUSE_URL FROM/TO`. The pages are fetched first. Then, in one process and one thread, with no
network, no ledger and no looking things up, they are unpacked, decoded, converted, serialised, put into batches and
compressed. What the worker takes beyond that is what reading, remembering and sending safely costs.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Iterable, Iterator
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit

from sync_worker.compression import compress, unpacker
from sync_worker.garbage import collect_seldom
from sync_worker.json_text import parse_answer
from sync_worker.langfuse.observation_parser import parse_v2_observation
from sync_worker.langfuse.v2 import FULL
from sync_worker.otlp.batches import Batcher, body
from sync_worker.pipeline.assemble import Assembly
from sync_worker.records import Observation
from sync_worker.spans.context import gather
from sync_worker.spans.conversion import convert
from sync_worker.spans.encode import encode
from sync_worker.spans.span_model import Conversion, EncodedSpan

PROJECT = "bench"
_MAX_BATCH_SPANS, _MAX_BATCH_BYTES = 512, 4_194_304  # the worker's defaults


def fetch(url: str, interval: str) -> Iterator[bytes]:
    """Yield all pages, compressed as they came."""
    start, end = interval.split("/")
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    asked = {"fields": FULL, "limit": "1000", "fromStartTime": start, "toStartTime": end}
    while True:
        connection.request(
            "GET", f"/api/public/v2/observations?{urlencode(asked)}",
            headers={"Authorization": "Basic none", "Accept-Encoding": "gzip"},
        )  # fmt: skip
        page = connection.getresponse().read()
        yield page
        cursor = json.loads(gzip.decompress(page))["meta"].get("cursor")
        if cursor is None:
            return
        asked["cursor"] = cursor


def requests(pages: Iterable[bytes], options: Conversion) -> Iterator[bytes]:
    """Yield the requests that bring the rows of the pages over."""
    batcher = Batcher(_MAX_BATCH_SPANS, _MAX_BATCH_BYTES)
    for trace in _traces(pages, options):
        for batch in batcher.add(trace):
            yield compress(body(batch))
    for batch in batcher.rest():
        yield compress(body(batch))


def _traces(pages: Iterable[bytes], options: Conversion) -> Iterator[list[EncodedSpan]]:
    assembly = Assembly()
    for page in pages:
        _, content = parse_answer(unpacker().decompress(page))
        assembly.add([parse_v2_observation(row) for row in content["data"]], len(page))
        for trace_id, rows in assembly.take_complete().items():
            yield _spans(trace_id, rows, options)
    for trace_id, rows in assembly.take().items():
        yield _spans(trace_id, rows, options)


def _spans(trace_id: str, rows: list[Observation], options: Conversion) -> list[EncodedSpan]:
    converted = convert(rows, gather(trace_id, rows), PROJECT, options)
    return [encode(row, span, PROJECT) for row, span in converted.spans]


def main(url: str, interval: str) -> None:
    """Do the work on the pages of an interval of time, and print what it took."""
    pages = list(fetch(url, interval))
    options = Conversion(langfuse_url=url)
    spans = sum(len(json.loads(gzip.decompress(page))["data"]) for page in pages)
    collect_seldom()  # as the worker does
    started, cpu = time.perf_counter(), time.process_time()
    sent = [len(request) for request in requests(pages, options)]
    took, cpu_took = time.perf_counter() - started, time.process_time() - cpu
    reported = {"spans": spans, "seconds": took, "cpu": cpu_took, "requests": len(sent), "bytes": sum(sent)}
    print(json.dumps(reported))


if __name__ == "__main__":
    main(*sys.argv[1:])
