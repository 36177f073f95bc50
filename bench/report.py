"""Results as tables for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Goal:
    """Something that was to be reached, and whether it was."""

    name: str
    wanted: str
    value: float
    met: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A further table of a report."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


@dataclass(slots=True)
class Report:
    """What a mode found."""

    mode: str
    setting: dict[str, Any]
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def at_least(self, name: str, value: float, bound: float) -> None:
        """Note a goal that is met by this much or more."""
        self.goals.append(Goal(name, f">= {bound:g}", value, value >= bound))

    def at_most(self, name: str, value: float, bound: float) -> None:
        """Note a goal that is met by this much or less."""
        self.goals.append(Goal(name, f"<= {bound:g}", value, value <= bound))

    def as_text(self) -> str:
        """Return it for people: Markdown."""
        words = ", ".join(f"{name} {_cell(value)}" for name, value in self.setting.items())
        parts = [f"{self.mode}: {words}", table(self.columns, self.rows)]
        parts += [table(more.columns, more.rows) for more in self.tables]
        if self.goals:
            goals = [(goal.name, goal.wanted, goal.value, "yes" if goal.met else "NO") for goal in self.goals]
            parts.append(table(("goal", "wanted", "measured", "met"), goals))
        return "\n\n".join(parts)

    def write(self, file: Path) -> None:
        """Write it as JSON."""
        reported = asdict(self)
        reported["rows"] = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        file.write_text(json.dumps(reported, indent=2) + "\n", encoding="utf-8")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table in Markdown, aligned so that it reads as plain text too."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(3, *(len(row[at]) for row in cells)) for at in range(len(columns))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
             for row in cells]  # fmt: skip
    return "\n".join([lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]])


def middle(values: Iterable[float]) -> float:
    """Return the median."""
    return float(median(values))


def spread(values: Sequence[float]) -> str:
    """Return the median, with the least and the most."""
    return f"{_cell(middle(values))} ({_cell(min(values))}–{_cell(max(values))})"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
