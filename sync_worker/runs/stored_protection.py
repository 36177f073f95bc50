"""Opens the protection of a source: its rules, the key of its pseudonyms, and what was stored under other rules."""

from __future__ import annotations

import logging
import secrets

from sync_worker.errors import ConfigError
from sync_worker.ledger import Ledger, source_scope
from sync_worker.ledger.state_keys import PSEUDONYM_KEY, RULES_DIGEST
from sync_worker.redaction.protection import NOTHING, Protection, Watch
from sync_worker.settings import Settings
from sync_worker.spans.context import session_of, user_of

_KEY_SCOPE = "redaction"
_KEY_BYTES = 32

log = logging.getLogger(__name__)


def protection_of(settings: Settings, ledger: Ledger | None, watch: Watch | None = None) -> Protection:
    """Return the protection by the settings of a source. Raises StateError.

    Without `ledger`, pseudonyms are made with a key of their own where no setting gives one.
    """
    rules = settings.rules
    if not rules.finds_something and rules.leave_out.is_empty:
        return NOTHING
    key = b""
    if rules.need_key:
        made = settings.pseudonym_key
        key = (made.get_secret_value() if made is not None else _stored_key(ledger)).encode()
    from sync_worker.redaction.observations import protection_for  # noqa: PLC0415 - only where there are rules

    return protection_for(rules, key, session_of, user_of, watch)


def check_key(settings: Settings) -> None:
    """Make sure that all state files of a divided run make the same pseudonyms. Raises ConfigError."""
    each = [settings.of(source).rules for source in settings.sources]
    if settings.pseudonym_key is None and any(rules.need_key for rules in each):
        raise ConfigError(
            "SYNC_PSEUDONYM_KEY: missing; expected a secret that all shards share, since each has a state file of its "
            "own and would give the same user another pseudonym. Try: openssl rand -hex 32, and the same value for each"
        )


def scrub(ledger: Ledger, source_id: int, protection: Protection) -> None:
    """Remove from the state file, once, what was stored of a source before these rules. Raises StateError.

    Contexts of traces are read again from Langfuse when they are needed.
    """
    state = ledger.state(source_scope(source_id))
    if not protection.digest or ledger.lease is None or state.get(RULES_DIGEST) == protection.digest:
        return
    ledger.forget_contexts(source_id, protection.digest)
    ledger.redact_dead_letters(source_id, protection.report, protection.raw)
    state.put(RULES_DIGEST, protection.digest)
    state.save()


def _stored_key(ledger: Ledger | None) -> str:
    """Return the key that is kept in the state file, made once."""
    made = secrets.token_hex(_KEY_BYTES)
    if ledger is None:
        return made
    state = ledger.state(_KEY_SCOPE)
    with ledger.transaction(fenced=False):
        stored = state.get(PSEUDONYM_KEY, fresh=True)
        if stored is None:
            state.put(PSEUDONYM_KEY, made)
        if stored is None and not ledger.in_memory:
            log.info(
                "a key for pseudonyms was made and is kept in the state file; with another file, or without it, "
                "pseudonyms differ (SYNC_PSEUDONYM_KEY)", extra={"action": "settings"},
            )  # fmt: skip
    return stored or made
