"""Which name was meant: a setting that is spelled wrongly must not be ignored in silence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from sync_worker.settings.model import FIELDS, SECRETS, file_name_of, names_of
from sync_worker.settings.wrong import Report

KNOWN_VARIABLES = frozenset(
    name.upper()
    for field in FIELDS
    for name in (*names_of(field), *((file_name_of(field),) if field in SECRETS else ()))
)

# Kubernetes describes every service of the namespace in variables; a service named sync-… is no misspelled setting.
_SERVICE_VARIABLE = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")

# Other variables begin with LANGFUSE_ and KELET_ too, so only those that are hardly another name are spoken of.
_NEAR = 0.8
_NEAR_WITH_OTHER_PREFIX = 0.9


def suggestion(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the one of `known` that is nearest to `name`, in any case, or an empty text."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_folded, 1, cutoff)
    return by_folded[near[0]] if near else ""


def warn_of_unknown_variables(names: Iterable[str], place: str, report: Report) -> None:
    """Warn of each of `names`, found at `place`, that is no setting but was probably meant to be one.

    The values of such variables are not looked at: a key under a misspelled name is still a key.
    """
    for name in sorted(set(names) - KNOWN_VARIABLES):
        folded = name.upper()
        ours = folded.startswith("SYNC_")
        if ours and _SERVICE_VARIABLE.fullmatch(folded):
            continue
        cutoff = _NEAR if folded.startswith(("SYNC_", "LANGFUSE_", "KELET_")) else _NEAR_WITH_OTHER_PREFIX
        near = suggestion(name, KNOWN_VARIABLES, cutoff)
        if near:
            report.warn(f"{name} in {place} is not a setting and is ignored. Did you mean {near}?")
        elif ours:
            report.warn(f"{name} in {place} is not a setting and is ignored.")
