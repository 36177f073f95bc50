"""The status page in a real Chromium, on a phone and on a desk, in both colour schemes; skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sync_worker.watch.http_server import HttpServer, Response
from sync_worker.watch.page.document import CONTENT_TYPE, HEADERS, document, unreadable
from tests.support.browser import CHROMIUM, Browser, browser
from tests.watch import views

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (Debian's package `chromium`)")

PAGES = {
    "/one": document(views.view(views.source())),
    "/broken": document(views.view(views.broken())),
    "/many": document(views.many()),
    "/hostile": document(views.view(*(views.source(name, project=name, target=name) for name in views.HOSTILE))),
    "/unreadable": unreadable("the state file /var/lib/sync/" + "x" * 200 + ".db is locked"),
}
SIZES = {"phone": (390, 844), "desk": (1280, 900)}

#: All that is closed is opened: it has to fit too.
_OPEN = "for (const one of document.querySelectorAll('details')) one.open = true"

#: Elements that hold more than they are wide, or that reach beyond the screen; what is meant to scroll is left out.
_OVERFLOWING = """(() => {
  const found = [];
  const describe = one => `${one.tagName}.${one.className} ${one.textContent.slice(0, 60)}`;
  for (const one of document.querySelectorAll('body, body *:not(svg):not(svg *)')) {
    const box = one.getBoundingClientRect(), style = getComputedStyle(one);
    if (!box.width || one.matches('.skip') || style.display === 'inline') continue;
    const inScroll = one.closest('.scroll') !== null;
    if (!one.matches('.scroll') && one.scrollWidth > one.clientWidth + 1 && one.clientWidth) found.push(describe(one));
    if (!inScroll && (box.right > innerWidth + 1 || box.left < -1)) found.push(describe(one));
  }
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) found.push('the document');
  return found;
})()"""

#: Tables that have to be scrolled to be read.
_SCROLLED = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth + 1).length"

#: Texts with less contrast to what is behind them than 4.5, as WCAG 2 counts it, and how many texts there are.
_CONTRAST = """(() => {
  const parts = color => {
    const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (front, back) => [0, 1, 2].map(at => front[at] * front[3] + back[at] * (1 - front[3])).concat(1);
  const behind = one => {
    const layers = [];
    for (let here = one; here; here = here.parentElement) layers.push(parts(getComputedStyle(here).backgroundColor));
    return layers.reverse().reduce((back, front) => over(front, back), [255, 255, 255, 1]);
  };
  const luminance = color => {
    const [r, g, b] = color.slice(0, 3).map(one => one / 255).map(
      one => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const bad = [];
  let seen = 0, least = 21;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || one.closest('svg') || !one.getClientRects().length) continue;
    seen += 1;
    const back = behind(one), front = over(parts(getComputedStyle(one).color), back);
    const [low, high] = [luminance(front), luminance(back)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    least = Math.min(least, ratio);
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${one.className} ${walker.currentNode.data.slice(0, 40)}`);
  }
  return {bad, seen, least, ground: luminance(behind(document.body))};
})()"""


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """Serve the pages as the worker does, with its headers; return the address."""

    def page(body: bytes) -> Any:
        return lambda _request: Response("200 OK", CONTENT_TYPE, body, HEADERS)

    server = HttpServer("127.0.0.1", 0, {path: page(body) for path, body in PAGES.items()})
    yield server.url
    server.close()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as made:
        yield made


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_fits_and_can_be_read(chromium: Browser, served: str, size: str, scheme: str) -> None:
    """Somebody with a phone, or at night, would not see what is wrong, or what to type."""
    chromium.show(*SIZES[size], scheme)
    for path in PAGES:
        chromium.open(served + path)
        chromium.ask(_OPEN)
        assert chromium.ask(_OVERFLOWING) == [], path
        assert chromium.ask(_SCROLLED) == 0, path
        contrast = chromium.ask(_CONTRAST)
        assert contrast["bad"] == [], path
        assert contrast["seen"] > (5 if path == "/unreadable" else 60)
        assert (contrast["ground"] > 0.5) == (scheme == "light")
        assert chromium.requests() == [served + path]
        assert chromium.complaints() == []


def test_what_is_written_is_shown(chromium: Browser, served: str) -> None:
    """A text would be there and hidden, or taken for markup."""
    chromium.show(*SIZES["desk"], "light")
    chromium.open(served + "/broken")
    shown = chromium.ask("document.body.innerText")
    for text in ("Yes, by 3 h 12 min", "50,000 dead letters; 9 gaps", "sync-worker dead-letters list", "63 %"):
        assert text in shown, text
    chromium.open(served + "/hostile")
    chromium.ask(_OPEN)
    assert chromium.ask("document.scripts.length + document.images.length") == 0
    assert chromium.ask("document.querySelectorAll('h3').length") == len(views.HOSTILE)
    assert "<script>alert(1)</script>" in chromium.ask("document.querySelector('h3').innerText")


def test_links_lead_to_sources_that_are_closed(chromium: Browser, served: str) -> None:
    """A link of the overview would lead to a source whose part stays closed."""
    chromium.show(*SIZES["phone"], "light")
    chromium.open(served + "/many")
    at = "document.querySelector('#source-5')"
    assert not chromium.ask(f"{at}.closest('details').open")
    chromium.ask("location.hash = '#source-5'")
    chromium.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert chromium.ask(f"{at}.closest('details').open")
