"""What holds for every test: where files go, which examples Hypothesis draws, and what a quick test may not do."""

from __future__ import annotations

import gc
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

#: Files of tests are in memory: durability is tested by what a killed process leaves, not by what a disk keeps.
_MEMORY = Path("/dev/shm")
if os.access(_MEMORY, os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# httpcore looks for this optional package at each request, which costs a walk over sys.path where it is not there.
if find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]

# The same examples in every run, so that no change fails by chance; HYPOTHESIS_PROFILE=explore draws new ones.
settings.register_profile("fixed", derandomize=True, database=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_collection_finish() -> None:
    """Take what was loaded and collected out of every later collection of garbage."""
    gc.collect()
    gc.freeze()
