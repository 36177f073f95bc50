"""The keys of a source, and by what the ledger knows them."""

from __future__ import annotations

import hashlib

from sync_worker.settings import Source


def keys_hash(langfuse_url: str, public_key: str, secret_key: str) -> str:
    """Return the ledger's key for keys at an address: at another one the same keys may belong to a copy of the project.

    The secret key is part of it: Langfuse uses that alone, whatever the public one is (v4.16.0), and during a rotation
    one may be new and the other old.
    """
    return hashlib.sha256(f"{langfuse_url}\n{public_key}\n{secret_key}".encode()).hexdigest()


def keys_of(source: Source) -> str:
    """Return the ledger's key for a source's keys."""
    return keys_hash(source.langfuse_base_url, *key_pair_of(source))


def key_pair_of(source: Source) -> tuple[str, str]:
    """Return the public and the secret key of a source."""
    return source.langfuse_public_key, source.langfuse_secret_key.get_secret_value()
