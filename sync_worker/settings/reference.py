"""The documentation that is made from the model, so that it cannot say something else."""

from __future__ import annotations

from typing import Final

from sync_worker.settings.model import FIELDS, REQUIRED, default_text, meaning

_HEAD: Final = """\
# Settings of the worker. Copy this file to .env and fill in what has no value; the lines with # show the defaults.
# Variables of the environment win over this file. Durations are written 30s, 20m, 48h, 7d or 1h30m.
"""


def table() -> str:
    """All settings as a GitHub Markdown table: name, default, meaning."""
    lines = ["| Setting | Default | Meaning |", "| --- | --- | --- |"]
    lines += [f"| `{field.upper()}` | {_default(field)} | {_cell(meaning(field))} |" for field in FIELDS]
    return "\n".join(lines) + "\n"


def dotenv_example() -> str:
    """Return the content of `.env.example`: every setting with its default, under a comment that says what it means.

    Comments stand on lines of their own, because Docker reads one behind a value as a part of the value.
    """
    return _HEAD + "".join(
        f"\n# {meaning(field)}\n{'' if field in REQUIRED else '#'}{field.upper()}={default_text(field)}\n"
        for field in FIELDS
    )


def _default(field: str) -> str:
    if field in REQUIRED:
        return "required"
    return f"`{_cell(default_text(field))}`" if default_text(field) else "unset"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
