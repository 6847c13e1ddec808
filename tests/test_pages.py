"""The pages in a real browser: hostile texts stay texts, search and sort work, nothing leaves the machine."""

import json
import shutil
from pathlib import Path

import pytest

from exptilt.config.exploration import Palette, Sweep
from exptilt.config.settings import MCAligned, Original
from exptilt.local_run import prepare, run
from exptilt.reports.palette_answer import sentences

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
HOSTILE = [
    "<script>document.title = 'broken'</script>",
    "</details></main><img src=x onerror=\"document.title='broken'\">",
    "שלום עולם, this runs the other way",
    "long " * 2_000,
    "emoji \N{GRINNING FACE}\N{ZERO WIDTH JOINER}\N{ROCKET} and the replacement of half a character \ufffd",
    "&lt;b&gt; & \u202e reversed \u0000 null",
]
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def look(browser):
    """Open a page; at the end nothing was complained of, and nothing asked for but pages of this disk."""
    said, asked, pages = [], [], []

    def opened(path: str | Path, **how):
        page = browser.new_page(**how)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(Path(path).resolve().as_uri())
        pages.append(page)
        return page

    yield opened
    assert said == []
    assert {url.partition(":")[0] for url in asked} == {"file"}
    assert {url.rpartition(".")[2] for url in asked} == {"html"}
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def data_set(tmp_path_factory, rewards_file):
    """A tilted data set of hostile prompts, some conversations."""
    folder = tmp_path_factory.mktemp("pages")
    prompts = [{"prompt": text} for text in [*HOSTILE, *(f"prompt {i}" for i in range(60))]]
    (folder / "prompts.json").write_text(json.dumps(prompts))
    config = MCAligned(
        basemodel="toy",
        data=str(folder / "prompts.json"),
        value=f"{rewards_file}:bees,{rewards_file}:length",
        lam=(2.0, 0.1),
        export="pairs",
        page_prompts=8,
        on_long_prompt="skip",
        save_directory=str(folder / "results"),
    )
    return run(prepare(config))


def test_hostile_texts_stay_texts(look, data_set):
    page = look(f"{data_set.folder}/index.html")
    assert page.title() == data_set.title
    assert page.locator("#prompts .prompt").count() == 16
    assert page.locator("#prompts script, #prompts img").count() == 0
    assert Path(f"{data_set.folder}/index.html").stat().st_size < 5_000_000


def test_prompts_are_searched_sorted_and_filtered(look, data_set):
    page = look(f"{data_set.folder}/index.html")
    shown = page.locator(".list .prompt:visible")
    page.fill("#search", "PROMPT 7")
    assert all("prompt 7" in text.lower() for text in shown.all_inner_texts())
    page.fill("#search", "")
    page.select_option("#measure", "needed")
    page.select_option("#order", "-1")
    needed = [float(each.get_attribute("data-needed")) for each in shown.all()]
    half = len(needed) // 2
    assert needed[:half] == sorted(needed[:half], reverse=True)
    page.fill("#to", str(needed[half // 2]))
    assert 0 < shown.count() < len(needed)
    assert page.locator("#found").inner_text() == f"{shown.count()} of {len(needed)} shown"
    page.fill("#to", "")
    page.select_option("#word", "sound")
    assert {each.get_attribute("data-word") for each in shown.all()} <= {"sound"}


def test_kept_and_paired_completions_are_marked(look, data_set):
    page = look(f"{data_set.folder}/index.html")
    first = page.locator(".prompt").first
    assert first.locator("tr.kept").count() == 1
    assert first.locator(".badge.chosen").count() == first.locator(".badge.rejected").count() == 1
    weights = [float(text) for text in first.locator("tr td:nth-child(2)").all_inner_texts()]
    assert weights == sorted(weights, reverse=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_read_it_by_day_and_by_night(look, data_set, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = look(f"{data_set.folder}/index.html", color_scheme=scheme, bypass_csp=True)
    found = Axe().run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in SERIOUS] == []


@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_no_wider_than_the_window(look, data_set, width):
    page = look(f"{data_set.folder}/index.html", viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture(scope="module")
def live(data_set):
    """The live page beside the data set: a run at work with hostile words, and one that stopped."""
    from exptilt.outputs.live_page import NAME, LivePage
    from exptilt.reports.shard_figures import Level, Moments, ShardFigures
    from exptilt.reports.standing import Facts, Process, Standing

    told = {"output": "", "began": 0.0, "prompts": (40, 40, 8), "samples": 352, "draws": True}
    hostile = {"title": HOSTILE[0], "opening": HOSTILE[1], "lam": {HOSTILE[0]: 1.0}}
    facts = Facts(**hostile, skipped={HOSTILE[1]: 2}, nsamples=4, **told)
    level = Level(Moments(40, 0.5, 1.0), Moments(40, 0.7, 1.0))
    figures = {"host": "a", "ended": 1.0, "prompts": 39, "samples": 156, "n_missing": 1}
    done = ShardFigures(**figures, levels={HOSTILE[0]: level}, missing=(HOSTILE[3],), short=20)
    failed = ShardFigures(host="a", ended=1.0, failed=HOSTILE[1])
    process = Process(host=HOSTILE[0], at_work=(2,), speed={"cuda:0": 5.0, "cuda:1": 6.0}, tokens=9)
    going = Standing(facts=facts, shards={0: done, 1: failed}, processes={"p": process}, alive={"p"})
    root = str(Path(data_set.folder).parent)
    LivePage(root).write({"a": going, "b": Standing(facts=Facts(title="stopped", opening="", **told))})
    return Path(root, NAME)


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_the_live_page_can_be_read_by_everyone(look, live, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    view = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "bypass_csp": True}
    page = look(live, **view)
    assert page.title() == "1 run at work"
    assert page.locator("section h2").inner_text() == HOSTILE[0]
    assert page.locator("main img, main script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in SERIOUS] == []


def test_the_live_page_is_loaded_again_and_leads_to_what_is_finished(look, live, data_set):
    page = look(live)
    assert page.locator("#again").is_checked()
    with page.expect_navigation():
        page.locator("ul a").first.click()
    assert page.title() == data_set.title
    silent = look(live, java_script_enabled=False)
    assert silent.locator("meta[http-equiv=refresh]").get_attribute("content") == "30"


def test_a_data_set_without_a_tilt_has_a_page(look, tmp_path):
    summary = run(prepare(Original(basemodel="toy", end=40, page_prompts=7, save_directory=str(tmp_path))))
    page = look(f"{summary.folder}/index.html")
    assert page.locator(".prompt").count() == 7
    page.fill("#search", "no such text")
    assert page.locator("#found").inner_text() == "0 of 7 shown"


def test_a_sweep_links_to_what_it_saved(look, tmp_path, rewards_file):
    from axe_playwright_python.sync_playwright import Axe

    config = Sweep(
        basemodel="toy",
        end=40,
        value=f"{rewards_file}:bees",
        lam="bees=0:2:1",
        save="all",
        save_directory=str(tmp_path),
    )
    page = look(f"{run(prepare(config)).folder}/index.html", bypass_csp=True)
    assert [each["id"] for each in Axe().run(page).response["violations"] if each["impact"] in SERIOUS] == []
    links = page.locator("ul a").all()
    assert len(links) == 3
    for link in links:
        with page.expect_navigation():
            link.click()
        assert "bees" in page.title()
        page.go_back()


@pytest.mark.parametrize("target", ["bees=+0.1,length=keep", "bees=+0.9,length=-9"])
def test_a_palette_has_a_page_that_says_whether_it_can_be(look, tmp_path, rewards_file, target):
    from axe_playwright_python.sync_playwright import Axe

    value = f"{rewards_file}:bees,{rewards_file}:length"
    found = run(
        prepare(Palette(basemodel="toy", end=40, value=value, target=target, save_directory=str(tmp_path)))
    )
    page = look(found.page, color_scheme="dark", viewport={"width": 360, "height": 900}, bypass_csp=True)
    assert page.locator(".verdict").inner_text() == sentences(found)[0]
    assert page.locator("tbody tr").count() == 2
    assert [each["id"] for each in Axe().run(page).response["violations"] if each["impact"] in SERIOUS] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
