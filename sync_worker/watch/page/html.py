"""Elements of HTML and SVG. All text is escaped; only what an element returned is taken as it is.

The document is well-formed XML too, so that a test can parse it.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape as _escape

from sync_worker.printable import escape as _visible


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


#: What an element may hold; None is left out.
Child = Markup | str | None
Value = str | int | float | bool | None

#: Elements without content, and without an end.
_VOID = frozenset({"meta", "br"})
#: Characters of a name that are shown, of its beginning and its end.
_HEAD, _TAIL = 48, 10


def text(value: str) -> Markup:
    """Return text as HTML; control and invisible characters become visible escapes."""
    return Markup(_escape(_visible(value), quote=True))


def join(children: Iterable[Child]) -> Markup:
    """Return several children as one."""
    parts = (one if isinstance(one, Markup) else text(one) for one in children if one is not None)
    return Markup("".join(parts))


def element(tag: str, *children: Child, **attributes: Value) -> Markup:
    """Return an element. Of the names of attributes `_` becomes `-`, and one at the end goes: `class_`, `aria_label`.

    An attribute of True is written as its name, of False or None not at all.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text("" if value is True else str(value))}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{tag}{written}/>" if tag in _VOID else f"<{tag}{written}>{join(children)}</{tag}>")


def name(value: str) -> Markup:
    """Return a name from outside, in one piece that its direction cannot leave, and shortened in its middle."""
    return element("bdi", shortened(value) or "(empty)")


def shortened(value: str) -> str:
    """Return text from outside with visible escapes, and with its beginning and end alone where it is long."""
    shown = _visible(value)
    return shown if len(shown) <= _HEAD + _TAIL + 1 else f"{shown[:_HEAD]}…{shown[-_TAIL:]}"


def prose(value: str) -> Markup:
    """Return text in which what stands in backticks is code."""
    parts = value.split("`")
    return join(element("code", part) if at % 2 else part for at, part in enumerate(parts))
