"""The site's navigation has every page, as mkdocs.yml says; scripts/docs-site builds it strictly."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

import yaml

from tests.docs.pages import PAGES
from tests.docs.tables import ROOT

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def in_navigation(nav: object) -> Iterator[str]:
    """Yield the pages of a navigation, in order."""
    for entry in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else []:
        if isinstance(entry, str):
            yield entry
        else:
            yield from in_navigation(entry)


def on_site() -> dict[str, str]:
    """Return all pages by their names on the site, as scripts/lib/docs_site.py has them."""
    found = {}
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        if name.startswith("docs/"):
            found[name.removeprefix("docs/")] = name
        elif "/" not in name:
            found["index.md" if name == "README.md" else name.lower()] = name
    return found


def test_every_page_is_in_the_navigation_once() -> None:
    """A page would be on the site, and nobody would find it (add it to `nav` in mkdocs.yml)."""
    listed = list(in_navigation(CONFIG["nav"]))
    others = [pattern.strip().lstrip("/") for pattern in CONFIG["not_in_nav"].splitlines()]
    wanted = {page for page in on_site() if not any(fnmatch(page, pattern) for pattern in others)}
    assert sorted(listed) == sorted(wanted)


def test_nothing_comes_from_elsewhere() -> None:
    """A reader's browser would ask other hosts for fonts or styles."""
    assert CONFIG["theme"]["font"] is False
    assert all((ROOT / "docs" / style).is_file() for style in CONFIG["extra_css"])
    assert "extra_javascript" not in CONFIG


def test_strict() -> None:
    """A link that leads nowhere, or a page without a place, would be a line that nobody reads."""
    script = (ROOT / "scripts" / "docs-site").read_text(encoding="utf-8")
    assert "mkdocs build --strict" in script
    assert "--quiet" not in script, "it would hide warnings from --strict too"
    assert {value for part in CONFIG["validation"].values() for value in part.values()} == {"warn"}
