"""All signals that were accepted, and whether the worker can know of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: A score and the content of it that a signal states.
Label = tuple[str, str]


@dataclass(slots=True, eq=False)
class SignalArrival:
    """A signal that was accepted. It is settled when the worker has noted it; lost when it cannot know of it."""

    content: dict[str, Any]
    path: str
    role: str
    moment: int
    settled: bool = False
    lost: bool = False

    @property
    def label(self) -> Label:
        """Return what tells it from signals of other scores and contents."""
        return self.content["metadata"]["langfuse_score_id"], self.content["metadata"]["revision"]

    @property
    def words(self) -> str:
        """Return what it says, without whom it names."""
        return str(self.content.get("value")).partition(" ")[0]


@dataclass(slots=True)
class SignalBook:
    """Signals in the order of their arrival, and what is wrong with them at first sight."""

    arrivals: list[SignalArrival] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def take(self, content: dict[str, Any], path: str, role: str, moment: int) -> SignalArrival:
        """Enter a signal."""
        arrival = SignalArrival(content, path, role, moment)
        for before in self.arrivals:
            if before.label == arrival.label and before.settled:
                self.wrong.append(f"the signal {arrival.words} was sent again though it was noted as accepted")
            elif before.label == arrival.label and not before.lost:
                self.wrong.append(f"the signal {arrival.words} was sent again while it was on its way")
        self.arrivals.append(arrival)
        return arrival

    def settle(self, label: Label) -> None:
        """Take note that the worker's note of it is durable."""
        for arrival in self.arrivals:
            arrival.settled = arrival.settled or arrival.label == label

    def lose(self, role: str | None = None) -> int:
        """Take note that what is not settled cannot be any more; return how many signals that are."""
        lost = [one for one in self.arrivals if not one.settled and not one.lost and role in {None, one.role}]
        for one in lost:
            one.lost = True
        return len(lost)
