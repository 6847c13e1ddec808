"""What is shown of a run while it runs: figures that are those of the tables, and the same everywhere."""

import json
import os
import pty
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pyte
import pytest
from processes import s3_server

import exptilt
from exptilt.config.exploration import Sweep
from exptilt.config.scoring import Scoring
from exptilt.errors import ShardsFailed
from exptilt.local_run import prepare, run
from exptilt.outputs import progress_store
from exptilt.outputs.live_page import NAME, LivePage
from exptilt.outputs.progress import watched
from exptilt.reports import live_text
from exptilt.reports.remaining import left, seconds_left, share_done
from exptilt.reports.shard_figures import Moments, ShardFigures
from exptilt.reports.standing import Facts, Process, Standing
from exptilt.storage import filesystem, process_identity
from exptilt.wording import duration

WORDS = ("one", "two", "three", "four")
TALKING = """
import logging, sys, time
from rich.console import Console
from exptilt.reports import live_terminal
from exptilt.reports.standing import Facts, Standing

logging.basicConfig(format="%(message)s")
facts = Facts(title="t", opening="o", output="", began=0.0, prompts=(1, 2), samples=3, draws=True)
with live_terminal.shown(Console(stderr=True), lambda: Standing(facts=facts)):
    for word in {words}:
        print("printed", word)
        print("said", word, file=sys.stderr)
        logging.error("logged %s", word)
        time.sleep(0.6)
print("after")
"""


def facts(*prompts: int, **more) -> Facts:
    told = {"title": "t", "opening": "o", "output": "", "began": 0.0, "draws": True, "nsamples": 4}
    return Facts(**{**told, "prompts": prompts, "samples": 4 * sum(prompts), "max_new_tokens": 10, **more})


def shard(prompts: int, tokens: int, drawn: bool = True, **more) -> ShardFigures:
    told = {"host": "a", "ended": 1.0, "prompts": prompts, "samples": 4 * prompts, "tokens": tokens}
    mine = {"drawn": 4 * prompts, "drawn_tokens": tokens} if drawn else {}
    return ShardFigures(**told, **mine, **more)


def drawing(tokens: int, seconds: float, **more) -> Process:
    drawn = {"samples": 1, "drawn_tokens": tokens, "draw_seconds": seconds}
    return Process(host="a", tokens=tokens, seconds=seconds, **{**drawn, **more})


def standing(planned: Facts, shards: dict[int, ShardFigures], *processes: Process) -> Standing:
    named = {str(i): process for i, process in enumerate(processes)}
    return Standing(facts=planned, shards=shards, processes=named, alive=set(named))


def test_the_time_left_is_that_of_the_tokens_left_and_not_of_the_shards():
    done = {0: shard(128, 5_000), 1: shard(64, 2_680)}
    now = standing(facts(128, 64, 8), done, drawing(7_680, 96.0))
    assert left(now).tokens == pytest.approx(8 * 40)
    assert seconds_left(now) == pytest.approx(4.0)  # 96 s for 192 prompts; a third of the shards is left
    assert share_done(now) == pytest.approx(192 / 200)


def test_what_a_shard_at_work_has_drawn_is_not_left():
    going = drawing(8_000, 100.0, unfinished_tokens=160)
    now = standing(facts(128, 64, 8), {0: shard(128, 5_120), 1: shard(64, 2_560)}, going)
    assert left(now).tokens == pytest.approx(160)


def test_before_a_draw_has_ended_the_time_left_is_a_bound():
    now = standing(facts(10, 10), {}, Process(host="a", tokens=100, seconds=10.0, unfinished_tokens=100))
    assert (left(now).tokens, left(now).is_bound) == (20 * 4 * 10 - 100, True)
    assert live_text.time_left(now) == "at most 1 min 10 s left"


def test_samples_count_when_they_are_drawn_and_not_when_their_shard_has_ended():
    going = drawing(160, 4.0, unfinished_tokens=160, unfinished_samples=16)
    now = standing(facts(10, 10), {0: shard(10, 400)}, going)
    assert live_text.line(now).startswith("1/2 shards; 56 of 80 samples;")
    assert ("samples", "56 of 80: 56 drawn, 0 reused") in live_text.rows(now)
    now.alive = set()
    assert live_text.line(now).startswith("1/2 shards; 40 of 80 samples;")


def test_samples_of_the_pool_count_while_their_shard_is_at_work_and_are_not_left():
    """Of 10 prompts with 4 samples of 10 tokens and moves worth 6 samples, the pool had 30 samples."""
    going = Process(host="a", tokens=100, seconds=10.0, at_work=(0,), unfinished_tokens=100)
    now = standing(facts(10, moved=6.0), {}, going.model_copy(update={"unfinished_reused": 30}))
    assert live_text.line(now).startswith("0/1 shard; 30 of 40 samples; 100 tokens;")
    assert ("samples", "30 of 40: 0 drawn, 30 reused") in live_text.rows(now)
    assert left(now).tokens == 700 - 100


def test_what_a_second_try_finds_in_the_pool_does_not_count_twice():
    tried = drawing(320, 4.0, at_work=(0,), unfinished_samples=32, unfinished_reused=32)
    now = standing(facts(10), {}, tried)
    assert ("samples", "40 of 40: 32 drawn, 8 reused") in live_text.rows(now)


def test_what_a_run_reuses_is_counted(toy):
    for n, drawn, reused in ((4, 4, 0), (4, 0, 4), (8, 4, 4)):
        plan = prepare(toy(nsamples=n))
        with watched(plan) as progress:
            run(plan, lambda _: nullcontext(progress))
        counts, prompts = plan.run.meter.read(), sum(progress.facts.prompts)
        assert (counts.samples, counts.reused) == (drawn * prompts, reused * prompts)
        assert progress.now().total("samples") == n * prompts


def test_what_moves_and_particles_draw_is_left_when_the_samples_are_drawn():
    """Prompts 10 of 4 samples of 10 tokens, and 6 samples more for each: 300 tokens in 10 s, 700 are left."""
    planned = facts(10, moved=6.0)
    now = standing(planned, {}, drawing(300, 10.0, samples=30, unfinished_tokens=300))
    assert left(now).tokens == pytest.approx(700)
    assert seconds_left(now) == pytest.approx(700 / 30)


def test_no_time_is_said_once_a_shard_draws_more_than_was_foreseen():
    for drawn, said in ((1_000, "about 0 s left"), (1_200, "time left not known yet")):
        going = drawing(drawn, 10.0, unfinished_tokens=drawn).model_copy(
            update={"samples": 40, "drawn_tokens": 400}
        )
        now = standing(facts(10, moved=6.0), {}, going)
        assert live_text.time_left(now) == said


@pytest.mark.parametrize("more", [{}, {"steer": True, "block_tokens": 2}], ids=["refine", "steer"])
@pytest.mark.parametrize("count", [40, 500])  # all prompts have second chains, or some
def test_what_moves_and_particles_draw_is_foreseen(toy, tmp_path, more, count):
    data = tmp_path / "prompts.json"
    data.write_text(json.dumps([{"prompt": f"a {i}"} for i in range(count)]))
    plan = prepare(toy(data=str(data), end=None, nsamples=8, refine=8, lam="1", **more))
    with watched(plan) as progress:
        run(plan, lambda _: nullcontext(progress))
    counts, seen = plan.run.meter.read(), progress.facts
    each = sum(counts.tokens.values()) / counts.drawn_tokens
    assert each == pytest.approx(1 + seen.moved / seen.nsamples, rel=0.4)


def test_what_a_palette_tries_when_its_shards_are_done_is_said(tmp_path):
    (tmp_path / "spy.py").write_text(
        "from exptilt.run import current\n"
        "def spy(prompts, completions):\n"
        f"    with open({str(tmp_path / 'said')!r}, 'a') as said:\n"
        "        print(current().meter.read().beside, file=said)\n"
        "    return [float('b' in c) for c in completions]\n"
    )
    settings = {"basemodel": "toy", "nsamples": 2, "end": 32, "save_directory": str(tmp_path)}
    exptilt.palette(**settings, target=f"{tmp_path}/spy.py:spy=0.999")
    assert {*(tmp_path / "said").read_text().splitlines()} == {"", "trying 16 moves on 16 prompts"}
    done = {0: shard(10, 400)}
    assert live_text.time_left(standing(facts(10), done, drawing(400, 9.0))) == "writing the outputs"
    trying = drawing(400, 9.0, beside="trying 16 moves on 16 prompts")
    assert live_text.time_left(standing(facts(10), done, trying)) == trying.beside


def test_nothing_is_drawn_of_what_the_pool_has_but_it_is_scored():
    """Shards of which all was in the pool say that the next are there, too, until one is drawn."""
    reused = shard(10, 400, drawn=False, rewards=40)
    scoring = Process(host="a", seconds=20.0, rewards=40, score_seconds=20.0)
    now = standing(facts(10, 10, 10, rewards=1), {0: reused}, scoring)
    assert left(now).tokens == 0
    assert seconds_left(now) == pytest.approx(40.0)
    now = standing(facts(10, 10, 10, rewards=1), {0: reused, 1: shard(10, 400)}, drawing(400, 10.0))
    assert left(now).tokens == pytest.approx(400)


@pytest.mark.parametrize(("tokens", "rewards"), [(400, 40), (0, 40)])
def test_a_cluster_says_no_seconds_and_still_has_a_time_left(tokens, rewards):
    done = shard(10, 400, drawn=bool(tokens), rewards=rewards)
    working = Process(host="a", seconds=20.0, tokens=tokens, rewards=rewards)
    assert seconds_left(standing(facts(10, 10, rewards=1), {0: done}, working)) == pytest.approx(20.0)


def test_more_machines_take_less_time_and_dead_ones_none():
    planned, done = facts(10, 10, 10), {0: shard(10, 400)}
    both = standing(planned, done, drawing(200, 10.0), drawing(200, 10.0))
    assert seconds_left(both) == pytest.approx(20.0)
    both.alive = {"0"}
    assert seconds_left(both) == pytest.approx(40.0)
    both.alive = set()
    assert seconds_left(both) is None


def test_moments_of_parts_are_those_of_the_whole():
    import numpy as np

    numbers = 1e6 + np.random.default_rng(0).normal(size=1_000)
    parts = [Moments.of(part) for part in np.split(numbers, [1, 500])]
    whole = Moments.over(parts).estimate
    assert whole.mean == pytest.approx(numbers.mean(), rel=1e-12)
    assert whole.se == pytest.approx(numbers.std(ddof=1) / 1_000**0.5, rel=1e-9)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (200, "3 min 20 s"), (7200, "2 h"), (1e5, "1 d 3 h")]
)
def test_durations_read_as_people_say_them(seconds, said):
    assert duration(seconds) == said


def followed(config):
    """What a run came to, and how far it was said to be at its end."""
    plan = prepare(config)
    with watched(plan) as progress:
        outcome = run(plan, lambda _: nullcontext(progress))
    return outcome, progress.now()


def test_the_running_means_are_at_the_end_those_of_the_tables(toy):
    summary, now = followed(toy(end=70, shard_size=32, min_ess=31.0, max_nsamples=64))
    (change,) = summary.values
    level = now.levels["bees"]
    for mine, theirs in ((level.before, change.before), (level.after, change.after)):
        assert mine.estimate.mean == pytest.approx(theirs.mean, rel=1e-9)
        assert mine.estimate.se == pytest.approx(theirs.se, rel=1e-9)
    assert now.verdict == (summary.verdict, summary.sentence)
    assert (now.total("samples"), now.total("drawn_tokens")) == (summary.samples, summary.tokens)
    assert now.samples == summary.samples > 70 * 32
    assert share_done(now) == 1


def test_a_sweep_and_a_scored_file_have_running_means_too(toy, tmp_path):
    shared = toy().model_dump(include={"basemodel", "value", "end", "save_directory"})
    points, now = followed(Sweep(**shared, lam="bees=0:1:1"))
    assert now.levels["bees"].before.estimate.mean == pytest.approx(points.base[0].mean, rel=1e-9)
    texts = [{"prompt": "a", "completion": text} for text in ("b", "c", "bb")]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    given = {"value": toy().value, "save_directory": toy().save_directory}
    scores, now = followed(Scoring(file=str(tmp_path / "texts.json"), **given))
    assert (scores.records, now.total("samples"), now.total("rewards")) == (3, 3, 3)
    assert [*now.levels] == ["bees"]


@pytest.fixture
def failing(toy, tmp_path):
    """A run whose last shard fails until there is a file `mended`, on a root with a data set."""
    run(prepare(toy(end=8)))
    (tmp_path / "late.py").write_text(
        "from pathlib import Path\n"
        "def late(prompts, completions):\n"
        f"    assert 'x' in prompts[0] or Path({str(tmp_path / 'mended')!r}).exists()\n"
        "    return [float('b' in c) for c in completions]\n"
    )
    rows = [{"prompt": f"{'x' if i < 64 else '<b>y</b>'} {i}"} for i in range(96)]
    (tmp_path / "prompts.json").write_text(json.dumps(rows))
    data, value = str(tmp_path / "prompts.json"), f"{tmp_path}/late.py:late"
    return toy(data=data, end=None, value=value, shard_size=32)


def test_a_failure_stays_on_the_page_until_the_run_has_its_data_set(failing, tmp_path):
    root = Path(failing.save_directory)
    with pytest.raises(ShardsFailed):
        followed(failing)
    (now,) = progress_store.Progress(str(root)).look().values()
    assert (now.done, [*now.failed], now.alive, now.total("drawn")) == (2, [2], set(), 64 * 32)
    here, there = tmp_path / "here.html", tmp_path / "there.html"
    page = root / NAME
    again = "import sys; from exptilt.outputs import live_page, progress_store as s; root = sys.argv[1]\n"
    again += "live_page.LivePage(root).write(s.Progress(root).look())"
    LivePage(str(root)).write(progress_store.Progress(str(root)).look())
    here.write_bytes(page.read_bytes())
    subprocess.run([sys.executable, "-c", again, str(root)], check=True)
    there.write_bytes(page.read_bytes())
    assert told(here) == told(there)
    assert "2 of 3 shards done; shard 003 failed" in here.read_text()
    assert "temp/toy-demo" in here.read_text()
    (tmp_path / "mended").touch()
    followed(failing)
    assert not [*(root / "pool/progress").iterdir()]
    assert "Stopped" not in page.read_text()


def told(page: Path) -> list[str]:
    """A page without the line of when it was written."""
    return [line for line in page.read_text().splitlines() if not line.startswith("<p>Written")]


def test_a_process_that_died_is_not_at_work(tmp_path):
    """Nor one that has not written for long; both by what lies in the store alone."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    born = process_identity.me() | {"pid": dead.pid, "born": "1"}
    dead.wait()
    root = str(tmp_path)
    progress_store.write_facts(root, "abc", facts(1, 1))
    for name, holder in (("dead", born), ("old", process_identity.me()), ("alive", process_identity.me())):
        process = Process(host="h", holder=holder, at_work=(1,))
        progress_store.write_process(root, "abc", name, process)
    os.utime(tmp_path / "pool/progress/abc.process-old.json", (1.0, 1.0))
    (now,) = progress_store.Progress(root).look().values()
    assert now.alive == {"alive"}
    assert now.at_work == {"h": [1]}


def test_what_others_write_that_is_no_figure_is_left_alone(tmp_path):
    (tmp_path / "pool/progress").mkdir(parents=True)
    progress_store.write_facts(str(tmp_path), "abc", facts(1))
    for name in ("abc.shard-00000.json", "abc.shard-00007.json", "abc.process-x.json", "def.plan-1.json"):
        (tmp_path / "pool/progress" / name).write_text('{"failed": 1}')
    (now,) = progress_store.Progress(str(tmp_path)).look().values()
    assert (now.shards, now.processes) == ({}, {})


def test_on_s3_as_in_a_folder_each_file_is_read_once(tmp_path, monkeypatch):
    with s3_server(tmp_path) as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        root, read = "s3://bucket/run", []
        reading = filesystem.read_bytes
        monkeypatch.setattr(filesystem, "read_bytes", lambda path: read.append(path) or reading(path))
        assert progress_store.Progress(root).look() == {}
        progress_store.write_facts(root, "abc", facts(1, 1))
        here = Process(host="h", holder=process_identity.me())
        progress_store.write_process(root, "abc", "p", here)
        progress_store.keep_shard(root, "abc", 1, shard(1, 10))
        read.clear()
        store = progress_store.Progress(root)
        for _ in range(2):
            (now,) = store.look().values()
            assert (now.shards, now.alive) == ({1: shard(1, 10)}, {"p"})
        assert len(read) == len(set(read)) == 3
        LivePage(root).write({"abc": now})
        assert b"1 of 2 done" in reading(f"{root}/{NAME}")
        progress_store.forget(root, "abc")
        assert store.look() == {}


def test_what_is_printed_and_logged_while_the_figures_are_shown_stands_above_them():
    screen = pyte.Screen(80, 40)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-c", TALKING.format(words=WORDS)])
    figures = 0
    for said in iter(lambda: read(terminal), b""):
        stream.feed(said)
        figures += b"shards" in said
    assert os.waitpid(pid, 0)[1] == 0
    lines = [line.rstrip() for line in screen.display if line.strip()]
    assert lines == [f"{how} {word}" for word in WORDS for how in ("printed", "said", "logged")] + ["after"]
    assert figures > 1
    assert not screen.cursor.hidden


def read(terminal: int) -> bytes:
    """What a terminal's program wrote; nothing once it has ended."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""
