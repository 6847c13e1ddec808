"""Take the documentation's pictures of pages anew: a data set's page, light and dark, and a sweep's picture.

python docs/tools/screenshots.py        # needs Chromium and the extra `test`
"""

import shutil
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import ViewportSize, sync_playwright

import exptilt
from exptilt.process_setup import set_up

IMAGES: Final = Path(__file__).parents[1] / "images"
SIZE: Final = ViewportSize(width=900, height=570)


def main() -> None:
    """Draw the first tutorial's data set and a sweep in a temporary folder, and take their pictures."""
    set_up()
    with tempfile.TemporaryDirectory(prefix="exptilt-docs-") as folder:
        tilted = exptilt.mc_aligned(lam=-0.5, value="humor", nsamples=50, save_directory=folder)
        swept = exptilt.sweep(lam="humor=-2:2:0.5", value="humor,positive", save_directory=folder)
        shutil.copy(swept.paths["picture"], IMAGES / "frontier.png")
        _photograph(Path(tilted.paths["page"]))


def _photograph(page: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            tab = browser.new_page(viewport=SIZE, color_scheme=scheme)
            tab.goto(page.resolve().as_uri())
            tab.screenshot(path=IMAGES / f"data-set-{scheme}.png")
            prompt = tab.locator("#prompts .prompt").first
            prompt.evaluate("prompt => { prompt.open = true; prompt.scrollIntoView() }")
            tab.screenshot(path=IMAGES / f"samples-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main()
