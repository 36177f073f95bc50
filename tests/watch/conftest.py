"""Worlds, and a worker in them that is looked at from outside."""

from tests.sync.conftest import make_world

__all__ = ["make_world"]
