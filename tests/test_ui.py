"""Prefect's own UI in a real browser: what a run left there can be read, and nothing leaves the machine."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from interruptions import toy
from processes import run_flow
from test_flows import ask, latest_run

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
ARTIFACTS = ("exptilt-summary", "exptilt-levels", "exptilt-page", "exptilt-left-out", "exptilt-progress")
VALUE = "def own(prompts, completions):\n    return [1 / (p != 'bad') for p in prompts]\n"


@pytest.fixture(scope="module")
def root(server) -> str:
    return server["PREFECT_API_URL"].removesuffix("/api")


@pytest.fixture(scope="module")
def run(server, tmp_path_factory) -> dict:
    """A run of three prompts, one of which fails and is left out."""
    folder: Path = tmp_path_factory.mktemp("ui")
    (folder / "own.py").write_text(VALUE)
    (folder / "prompts.txt").write_text("good\nbad\nfine\n")
    settings = ["--data", "prompts.txt", "--allow-missing"]
    done = run_flow(*toy(f"{folder}/own.py:own", *settings), env=server, cwd=folder)
    assert done.returncode == 0, done.stderr
    return latest_run(server)


@pytest.fixture(scope="module")
def page(root):
    from playwright.sync_api import sync_playwright

    asked, said = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: said.append(str(error)))
        yield page
        browser.close()
    hosts = {urlsplit(url).hostname for url in asked if not url.startswith(("blob:", "data:"))}
    assert hosts == {urlsplit(root).hostname}
    assert said == []


def of_run(server, run) -> list[dict]:
    return ask(server, "artifacts", flow_runs={"id": {"any_": [run["id"]]}})


def test_a_run_is_found_by_what_it_is(page, root, run):
    page.goto(f"{root}/runs")
    assert run["name"] == "toy prompts.txt λ=1 own.py:own n=32"
    page.get_by_text(run["name"]).first.wait_for()


def test_its_steps_say_what_they_do(page, root, run):
    page.goto(f"{root}/runs/flow-run/{run['id']}")
    page.get_by_text("Task Runs", exact=True).first.click()
    for step in ("load prompts", "generate 001/001", "score own 001/001", "tilt 001/001", "merge and save"):
        page.get_by_text(step).first.wait_for()


def test_its_artifacts_say_what_they_are(page, root, run):
    page.goto(f"{root}/runs/flow-run/{run['id']}")
    page.locator("main, body").get_by_text("Artifacts", exact=True).last.click()
    for key in ARTIFACTS:
        page.get_by_text(key).first.wait_for()


def test_the_prompts_left_out_are_a_table(page, server, root, run):
    left_out = next(a for a in of_run(server, run) if a["key"] == "exptilt-left-out")
    page.goto(f"{root}/artifacts/artifact/{left_out['id']}")
    page.get_by_text("ZeroDivisionError").first.wait_for()
