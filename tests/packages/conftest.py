"""The installers are in the environment that SYNC_TEST_PACKAGES names; without it no test here is collected."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("SYNC_TEST_PACKAGES") else ["test_*.py"]
