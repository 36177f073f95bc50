"""Decides what is the cause when an observation is not served: the observation itself, or the server."""

from __future__ import annotations

from dataclasses import dataclass

#: While nothing was served that could prove it: how often an observation must fail, and how many observations one after
#: the other may be blamed.
_TRIES_UNPROVEN = 3
_MAX_UNPROVEN = 8


@dataclass(slots=True)
class Trial:
    """How often one observation failed, and how often without a break another was served after that."""

    tries: int = 0
    proofs: int = 0


@dataclass(slots=True)
class Blame:
    """The rule of one list: an observation is the cause once it failed while others were served.

    `proofs` is how often without a break another observation must be served after a failure.
    """

    proofs: int
    _unproven: int = 0  # observations that were blamed before any was served

    def record_served(self) -> None:
        """Note that content of an observation was served."""
        self._unproven = 0

    def record_failure(self, trial: Trial, *, serves_another: bool | None) -> bool:
        """Count one more failure of an observation, and return whether it is the cause.

        `serves_another` is whether the server serves another observation now; None where none is known to ask for: then
        the observation is taken to be the cause after some tries, but not for many observations one after the other.
        """
        trial.tries += 1
        trial.proofs = trial.proofs + 1 if serves_another else 0
        if trial.proofs >= self.proofs:
            return True
        if serves_another is not None or trial.tries < _TRIES_UNPROVEN or self._unproven >= _MAX_UNPROVEN:
            return False
        self._unproven += 1
        return True
