"""Makes the wall clock of a Python process wrong by what stands in the file `SKEW_FILE`, in seconds, at any moment."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path
from typing import Any

_FILE = Path(os.environ["SKEW_FILE"])
_time, _time_ns = time.time, time.time_ns
_datetime = dt.datetime


def _skew() -> float:
    return float(_FILE.read_text(encoding="ascii") or 0)


class _Kind(type(_datetime)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)


class _Skewed(_datetime, metaclass=_Kind):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _datetime.fromtimestamp(time.time(), tz)


time.time = lambda: _time() + _skew()
time.time_ns = lambda: _time_ns() + round(_skew() * 1e9)
dt.datetime = _Skewed  # type: ignore[misc]
