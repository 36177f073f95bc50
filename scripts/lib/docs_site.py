"""Hooks of MkDocs for scripts/docs-site.

The pages of the repository's root become pages of the site, so that none has to be written twice; links to other files
outside of docs/ lead to copies of those, and links by the name of a page's file get its title. A site that would load
anything from elsewhere is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[2]
#: Pages outside of docs/, and where they are on the site.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
}
_COPIES = "files"
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_WEB = re.compile(r"[a-z]+:")
_ASSET = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")
_NAME_IN_TABLE = re.compile(r"(?<=<td><code>)[A-Za-z0-9_]+(?=</code>)")
_IMPORT = re.compile(r"(?:@import\s*|url\()\s*[\"']?((?:https?:)?//[^\"')\s]+)")


def on_config(config: Any) -> Any:
    """Name headings as GitHub does, so that links to them hold in both places."""
    config["mdx_configs"]["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root, with links as from docs/, and what pages link to besides."""
    copies: set[str] = set()
    texts = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    texts |= {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
    for name, text in texts.items():
        uri = PAGES.get(name) or name.removeprefix("docs/")
        changed = _LINK.sub(lambda link, name=name, uri=uri: _moved(link, name, uri, copies), text)
        if name in PAGES:
            files.append(File.generated(config, uri, content=changed))
        else:
            files.src_uris[uri].content_string = changed
    for name in sorted(copies):
        files.append(File.generated(config, f"{_COPIES}/{name}", abs_src_path=str(ROOT / name)))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Let long names at the beginning of a table's cell wrap at their underscores, and nowhere else."""
    return _NAME_IN_TABLE.sub(lambda name: name[0].replace("_", "_<wbr>"), html)


def on_post_build(config: Any) -> None:
    """Raise PluginError if a page or style of the site loads something from elsewhere."""
    for path in sorted(Path(config["site_dir"]).rglob("*")):
        pattern = {".html": _ASSET, ".css": _IMPORT}.get(path.suffix)
        if pattern and (found := pattern.search(path.read_text(encoding="utf-8"))):
            raise PluginError(f"{path.relative_to(config['site_dir'])} loads {found[1]}. Try: a copy in docs/")


def _moved(link: re.Match[str], name: str, uri: str, copies: set[str]) -> str:
    """Return a link of a page as it is on the site; a file that is no page becomes a copy."""
    text, path, anchor = link[1], link[2], link[3] or ""
    there = (ROOT / name).parent.joinpath(unquote(path)).resolve()
    if _WEB.match(path) or not there.is_relative_to(ROOT) or not there.is_file():
        return link[0]  # MkDocs says what leads nowhere
    target = there.relative_to(ROOT).as_posix()
    if there.suffix == ".md" and text in {path, target, there.name}:
        title = _TITLE.search(there.read_text(encoding="utf-8"))
        text = title[1] if title else text
    if target in PAGES:
        to = PAGES[target]
    elif target.startswith("docs/"):
        to = target.removeprefix("docs/")
    else:
        copies.add(target)
        to = f"{_COPIES}/{target}"
    return f"[{text}]({'../' * uri.count('/')}{to}{anchor})"
