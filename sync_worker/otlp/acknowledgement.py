"""Distinguishes a receiver's acknowledgement from another server's page or error among 2xx responses. Pure."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any

from sync_worker.json_text import parse

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess

_ACCEPTED, _NO_CONTENT, _RESET_CONTENT = 202, 204, 205

#: What may stand before the first character that counts: white space, byte order marks, the zeros of UTF-16.
_BLANK = b" \t\r\n\f\v\x00\xef\xbb\xbf\xfe\xff"
#: A partial success of sixty bytes begins as markup does after a line break; what follows distinguishes them.
_PARTIAL_SUCCESS_OF_SIXTY = (b"\n<\x08", b"\n<\x12")
_GZIP = b"\x1f\x8b"
_MOST_UNZIPPED = 1_048_576  # bytes
_ERRORS = frozenset({"error", "errors"})
_WORDS = frozenset({"ok", "accepted", "success"})
#: Types under which a body that is no text may be an answer of OTLP, though not a readable one.
_BINARY = ("", "application/octet-stream", "binary/octet-stream")


_PAGE = "a web page or XML"
_ERROR = "JSON that reports an error"


def why_not_acknowledged(status: int, content_type: str, content: bytes) -> str | None:
    """Return why a response with status 2xx is no acknowledgement; None where it is one.

    None is HTML or XML (by type, or by its first byte), JSON that cannot be read, or with something in a top-level
    `error` or `errors`, a picture or the like, and text other than ok, accepted, success. Any other JSON, protobuf
    (even if it cannot be read), an empty body, 204 and a 202 are one: OTLP/HTTP answers a success with an
    ExportTraceServiceResponse, and receivers that answer less than that are known
    (open-telemetry/opentelemetry-python#3623).
    """
    if status in {_NO_CONTENT, _RESET_CONTENT}:  # there is no body
        return None
    kind = content_type.partition(";")[0].strip().lower()
    if "html" in kind or "xml" in kind:
        return _PAGE
    if content.startswith(_GZIP):
        content = _unzip(content)
    shown = content.strip(_BLANK)
    if not shown:
        return None
    if shown.startswith(b"<") and not content.startswith(_PARTIAL_SUCCESS_OF_SIXTY):
        return _PAGE
    is_json, value = parse(content.removeprefix(b"\xef\xbb\xbf"))
    if is_json:
        return _ERROR if _reports_error(value) else None
    if status == _ACCEPTED:
        return None
    if _is_text(kind, content):
        if "json" in kind and shown[:1] in {b"{", b"["}:
            lines = [parse(line) for line in shown.splitlines() if line.strip()]
            if not all(is_json for is_json, _ in lines):
                return "JSON that cannot be read"
            return _ERROR if any(_reports_error(value) for _, value in lines) else None
        words = re.findall(r"\w+", content.decode("utf-8", "replace").lower())
        return None if words and _WORDS.issuperset(words) else "text, not an answer of OTLP"
    return None if kind in _BINARY or "protobuf" in kind or "json" in kind else f"content of another kind ({kind})"


def partial_success(content_type: str, content: bytes) -> ExportTracePartialSuccess:
    """Return the partial success in an acknowledgement; an empty one where it cannot be read."""
    from google.protobuf.json_format import Parse, ParseError  # noqa: PLC0415 - a start without a request needs none
    from google.protobuf.message import DecodeError  # noqa: PLC0415
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415
        ExportTracePartialSuccess,
        ExportTraceServiceResponse,
    )

    answer = ExportTraceServiceResponse()
    try:
        if "json" in content_type:
            Parse(content.decode("utf-8", "replace"), answer, ignore_unknown_fields=True)
        else:
            answer.ParseFromString(content)
    except (ParseError, DecodeError, ValueError, RecursionError):
        return ExportTracePartialSuccess()
    return answer.partial_success


def why_log_rejected(content_type: str, content: bytes) -> str:
    """Return why the one log record of a request was rejected by a partial success; an empty text where it was not."""
    if "json" in content_type:
        is_json, value = parse(content)
        partial = value.get("partialSuccess") if is_json and isinstance(value, dict) else None
        if not isinstance(partial, dict) or str(partial.get("rejectedLogRecords") or "0") == "0":
            return ""
        return str(partial.get("errorMessage") or "no reason given")
    partial_of_logs = partial_success(content_type, content)  # both messages have the same fields
    if partial_of_logs.rejected_spans <= 0:
        return ""
    return partial_of_logs.error_message or "no reason given"


def _reports_error(value: Any) -> bool:
    return isinstance(value, dict) and any(item for key, item in value.items() if key.lower() in _ERRORS)


def _unzip(content: bytes) -> bytes:
    """Return what a body holds that was compressed without a header that says so."""
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(content, _MOST_UNZIPPED)
    except zlib.error:
        return content


def _is_text(kind: str, content: bytes) -> bool:
    if kind.startswith("text/"):
        return True
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char.isspace() for char in text)
