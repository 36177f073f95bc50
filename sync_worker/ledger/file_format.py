"""By what a state file is recognised, and the version of its schema; `steps` makes it."""

from __future__ import annotations

#: Marks a file as ours in SQLite's header ("LfKl").
APPLICATION_ID = 0x4C664B6C
#: The version this program writes.
SCHEMA_VERSION = 14
