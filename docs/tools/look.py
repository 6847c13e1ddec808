"""Open every page of the built site from the disk, as a reader would, wide and narrow, and try the search.

    python docs/tools/look.py        # after make site; needs Chromium and the extra `test`

Exit code 1 where a page asks for anything but files of the disk, complains, is wider than its window, has a
picture that does not show, or where the search finds nothing.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page, sync_playwright

from exptilt.wording import counted

SITE: Final = Path(__file__).parents[2] / "site"
WIDTHS: Final = (1280, 390)
WIDER: Final = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
LACKING: Final = "[...document.images].filter(i => i.complete && !i.naturalWidth && i.offsetParent).length"


def main() -> int:
    """The exit code: 1 if something is wrong."""
    pages = [path for path in sorted(SITE.glob("**/*.html")) if path.name != "404.html"]  # for servers alone
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        wrong = [said for width in WIDTHS for said in _all_looked_at(browser, width, pages)]
        wrong += _searched(browser.new_page(viewport={"width": 1280, "height": 900}))
        browser.close()
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


def _all_looked_at(browser: Browser, width: int, pages: list[Path]) -> list[str]:
    """What is wrong with the pages in a window of `width` pixels."""
    tab = browser.new_page(viewport={"width": width, "height": 900})
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(f"{tab.url}: {message.text}"))
    tab.on("request", lambda request: wrong.extend(_elsewhere(request.url)))
    for path in pages:
        wrong += [f"{path.relative_to(SITE)} at {width}: {said}" for said in _looked_at(tab, path)]
    return wrong


def _elsewhere(url: str) -> list[str]:
    return [] if url.startswith(("file:", "data:", "blob:")) else [f"asks for {url}"]


def _looked_at(tab: Page, path: Path) -> Iterator[str]:
    """What is wrong with a page."""
    tab.goto(path.as_uri())
    if wider := tab.evaluate(WIDER):
        yield f"{wider} pixels wider than the window"
    if lacking := tab.evaluate(LACKING):
        yield f"{counted(lacking, 'picture')} of it does not show"


def _searched(tab: Page) -> list[str]:
    """What is wrong with the search: it must find a flag."""
    tab.goto((SITE / "index.html").as_uri())
    tab.locator("input.md-search__input").fill("resampler")
    found = tab.locator(".md-search-result__item")
    try:
        found.first.wait_for(timeout=20_000)
    except Exception as error:
        return [f"the search finds nothing: {error}"]
    return []


if __name__ == "__main__":
    sys.exit(main())
