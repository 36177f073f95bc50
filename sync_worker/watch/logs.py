"""Logs on stderr, as text or as one JSON object a line.

Each line has an `action` word from a small set (`retry`, `dead-letter`, `cycle`, `plan`, …), so that a filter
needs no text. An entry may have `fields` beside its message, which the JSON has by their names. Keys are never logged:
they are in SecretStr and in HTTP headers, and neither is logged. Values from outside are escaped, so that they cannot
break a line or control a terminal.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from sync_worker.printable import escape, escape_json, supports_unicode
from sync_worker.times import iso_time
from sync_worker.watch.live_line import above

#: SGR numbers of colours, by level: red, yellow, and dim for what is only of interest now.
_COLORS = {logging.ERROR: 31, logging.WARNING: 33, logging.DEBUG: 2}
#: Attributes of an entry that a job hands over.
_KEPT = ("name", "levelno", "levelname", "created", "action", "source")
_NOISY = ("httpx", "httpcore", "apscheduler", "asyncio")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": iso_time(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "action": getattr(record, "action", None),
            "source": getattr(record, "source", None),
            "job": getattr(record, "job", None),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        present = {key: value for key, value in line.items() if value is not None} | getattr(record, "fields", {})
        return escape_json(json.dumps(present, ensure_ascii=not supports_unicode(sys.stderr)))


class _Text(logging.Formatter):
    def __init__(self, *, colors: bool) -> None:
        super().__init__()
        self._colors = colors

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        if self._colors and record.levelno in _COLORS:
            level = f"\x1b[{_COLORS[record.levelno]}m{level.rstrip()}\x1b[0m "
        job = getattr(record, "job", None)
        line = f"{moment} {level}{'' if job is None else f'job {job}: '}{escape(record.getMessage())}"
        if not record.exc_info:
            return line
        # Indented, so that no line of a traceback looks like another entry.
        traceback = self.formatException(record.exc_info).split("\n")
        return "\n".join([line, *(f"    {escape(part)}" for part in traceback)])


class _OneLine(logging.Filter):
    """Shows tracebacks at the debug level only: an operator gets the one line that says what to do."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and not logging.getLogger("sync_worker").isEnabledFor(logging.DEBUG):
            error = record.exc_info[1]
            record.msg = f"{record.getMessage()}: {type(error).__name__}: {error} (SYNC_LOG_LEVEL=debug shows more)"
            record.args = ()
            record.exc_info = None
            record.exc_text = None
        return True


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to stderr, or drops the entry if that is closed or full: logging stops no work."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write an entry above the progress line, if there is one."""
        with above():
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name in logging
        """Report the error, unless the stream itself failed."""
        if not isinstance(sys.exc_info()[1], OSError | ValueError | AttributeError):
            super().handleError(record)


class _ToRun(logging.Handler):
    """Hands the entries of a job to the process that leads it, which has the terminal."""

    def __init__(self, job: int, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter())  # or it gets one with level and name, which the run adds itself
        self._job = job
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over an entry, its traceback in its text."""
        kept = {name: getattr(record, name, None) for name in _KEPT}
        self._send({**kept, "msg": self.format(record), "job": self._job})


def set_up(level: str, form: Literal["text", "json"], *, colors: bool = False) -> None:
    """Send the worker's logs to stderr, the levels of text in colours if it has any."""
    handler = _Stderr(sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else _Text(colors=colors))
    _send_to(handler, level)


def set_up_job(level: str, job: int, send: Callable[[dict[str, Any]], None]) -> None:
    """Hand the logs of a job to the process that leads it, which passes them to `log_of_job`."""
    _send_to(_ToRun(job, send), level)


def log_of_job(entry: dict[str, Any]) -> None:
    """Log an entry of a job."""
    logging.getLogger(entry["name"]).handle(logging.makeLogRecord(entry))


def _send_to(handler: logging.Handler, level: str) -> None:
    handler.addFilter(_OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("sync_worker").setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
