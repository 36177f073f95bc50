"""Keys that are replaced now and then: the old one dies at once, its file follows a minute later."""

from __future__ import annotations

from pathlib import Path

from tests.simulation.moments import MINUTE, Moments
from tests.simulation.plan import Plan

#: How long after a key was replaced the file that holds it follows, as a mounted secret of Kubernetes does.
_FILE_FOLLOWS = MINUTE


class Keys:
    """What the servers accept, and what stands in the files that the worker reads."""

    def __init__(self, plan: Plan, folder: Path, moments: Moments) -> None:
        self._plan = plan
        self._folder = folder
        self._moments = moments
        self._written: dict[str, str] = {}
        self._names = ["kelet", *(f"langfuse-{number}" for number in range(plan.sources))]
        self.write()

    def accepts(self, name: str, secret: str) -> bool:
        """Whether a server takes a key now."""
        return secret == self._secret(name, self._moments.true_ms())

    def file(self, name: str) -> Path:
        """Return the file that holds a key."""
        return self._folder / f"{name}.key"

    def write(self) -> None:
        """Bring the files up to where they stand now."""
        for name in self._names:
            secret = self._secret(name, self._moments.true_ms() - _FILE_FOLLOWS)
            if self._written.get(name) != secret:
                self.file(name).write_text(secret)
                self._written[name] = secret
                self._moments.note(f"the file of key {name} changes")

    def _secret(self, name: str, moment: int) -> str:
        count = sum(1 for replaced, which in self._plan.rotations if which == name and replaced <= moment)
        return f"secret-of-{name}-number-{count}"
