"""Targets of other makers, as they are installed: run by scripts/test-targets alone."""
