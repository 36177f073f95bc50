"""Logs on stderr, as text for people or as one JSON object a line for machines.

Each line has an `action` word from a small vocabulary (`retry`, `dead-letter`, `cycle`, `plan`, …), so that a filter
needs no text. Keys never reach a log: they live in SecretStr and in HTTP headers, and neither is logged.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from sync_worker.times import iso_time

_NOISY = ("httpx", "httpcore", "apscheduler", "asyncio")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": iso_time(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "action": getattr(record, "action", None),
            "source": getattr(record, "source", None),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps({key: value for key, value in line.items() if value is not None}, ensure_ascii=False)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        line = f"{moment} {level}{record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _OneLine(logging.Filter):
    """Leaves tracebacks to the debug level: an operator gets the one line that says what to do."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and not logging.getLogger("sync_worker").isEnabledFor(logging.DEBUG):
            fault = record.exc_info[1]
            record.msg = f"{record.getMessage()}: {type(fault).__name__}: {fault} (SYNC_LOG_LEVEL=debug shows more)"
            record.args = ()
            record.exc_info = None
            record.exc_text = None
        return True


def set_up(level: str, form: Literal["text", "json"]) -> None:
    """Send the worker's logs to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else _Text())
    handler.addFilter(_OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("sync_worker").setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
