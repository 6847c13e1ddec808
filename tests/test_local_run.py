"""A run in one process: what fails is tried again, a failed shard costs no other, devices share the work."""

import json
import signal
import threading
import time
from _thread import interrupt_main
from contextlib import nullcontext
from pathlib import Path

import pytest

from exptilt.config.exploration import Palette, Sweep
from exptilt.config.scoring import Scoring
from exptilt.config.settings import MCAligned
from exptilt.errors import ConfigError, MissingError, RefusedError, ServerError, ShardsFailed, Stopped
from exptilt.local_run import prepare, run
from exptilt.local_shards import Silent
from exptilt.run import Run
from exptilt.stages import retries
from exptilt.stages.blocks import BLOCK
from exptilt.stages.failures import AllMissing, MissingPrompt
from exptilt.stages.outcomes import results
from exptilt.stages.retries import can_pass, with_retries

SHARDS = ["a", "ab", "flaky", "abc", "abcd"]  # the word that every prompt of a shard begins with
PROMPTS = [f"{word} {k}" for word in SHARDS for k in range(BLOCK)]
OWN = """
import pathlib
def bees(prompts, completions):
    with open({log!r}, "a") as f:
        f.write(prompts[0].split()[0] + "\\n")
    calls = pathlib.Path({log!r}).read_text().splitlines().count("flaky")
    if "flaky" in prompts[0] and calls <= {failures}:
        raise ConnectionResetError("the line went dead")
    return [float("b" in c) for c in completions]
"""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_SECONDS", 0.01)


@pytest.fixture
def settings(tmp_path):
    """Settings of a run of five shards, whose value fails so often at the third."""
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))

    def make(folder: str, failures: int) -> dict:
        root = tmp_path / folder
        root.mkdir()
        (root / "own.py").write_text(OWN.format(log=str(root / "calls"), failures=failures))
        common = {"basemodel": "toy", "data": str(tmp_path / "prompts.txt"), "nsamples": 4}
        more = {"shard_size": BLOCK, "save_directory": str(root)}
        return {**common, **more, "value": f"{root}/own.py:bees"}

    return make


def calls(config) -> list[str]:
    return (Path(config.save_directory) / "calls").read_text().splitlines()


KINDS = [(MCAligned, {"lam": 1.0}), (Sweep, {"lam": "1", "save": "1"}), (Palette, {"target": "bees=keep"})]


@pytest.mark.parametrize(("kind", "more"), KINDS)
def test_a_shard_that_fails_once_costs_a_try_and_no_row(settings, kind, more, capsys):
    files = []
    for folder, failures in (("steady", 0), ("flaky", 1)):
        config = kind(**settings(folder, failures), **more)
        run(prepare(config))
        written = {p.name: p.read_bytes() for p in Path(config.save_directory).glob("*.json")}
        files.append({name: data for name, data in written.items() if kind is not Palette})
    assert files[0] == files[1]
    said = "warning: score bees 003/005 failed (the line went dead); trying again in 0.0 s, tries left: 3\n"
    assert capsys.readouterr().err == said
    assert calls(config).count("flaky") == 2


def test_records_of_a_file_are_scored_with_the_same_tries(settings, tmp_path):
    value, records = settings("flaky", 2)["value"], [{"prompt": p, "generated": f"{p}b"} for p in PROMPTS]
    (tmp_path / "texts.json").write_text(json.dumps(records))
    root = str(tmp_path / "flaky")
    run(prepare(Scoring(file=str(tmp_path / "texts.json"), value=value, save_directory=root)))
    rows = json.loads((tmp_path / "texts.json").read_text())
    assert [row["bees"] for row in rows] == [1.0] * len(PROMPTS)


@pytest.mark.parametrize("device", ["cpu", "cpu:0,cpu:1"])
def test_a_shard_that_always_fails_is_named_and_the_others_are_saved(settings, device):
    config = MCAligned(**settings("dead", 1000), lam=1.0, device=device)
    with pytest.raises(ShardsFailed) as caught:
        run(prepare(config))
    first, second = str(caught.value).splitlines()
    assert first == "1 of 5 shards failed; the others are saved, and a re-run does only what is missing:"
    assert second == "  shard 003: the line went dead"
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert calls(config).count("flaky") == 1 + retries.RETRIES
    summary = run(prepare(config.model_copy(update={"value": ("perplexity",)})))
    assert summary.reused["samples"] == summary.shards == 5


def test_devices_work_on_shards_at_once_and_change_no_row(settings, tmp_path):
    """The first shard's value waits until another shard is scored."""
    (tmp_path / "pair.py").write_text(
        "import pathlib, time\n"
        "def bees(prompts, completions):\n"
        f"    begun = pathlib.Path({str(tmp_path)!r}, 'begun')\n"
        "    begun.mkdir(exist_ok=True)\n"
        "    (begun / prompts[0]).touch()\n"
        "    deadline = time.monotonic() + 60\n"
        "    while len(completions) > 1 and len([*begun.iterdir()]) < 2:\n"
        "        assert time.monotonic() < deadline\n"
        "        time.sleep(0.02)\n"
        "    return [float('b' in c) for c in completions]\n"
    )
    found = []
    for device, value in (("cpu", None), ("cpu:0,cpu:1", f"{tmp_path}/pair.py:bees")):
        given = settings(str(device.count(":")), 0)
        config = MCAligned(**{**given, "value": value or given["value"]}, device=device, lam=1.0)
        found.append(Path(run(prepare(config)).json).read_bytes())
    assert found[0] == found[1]


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, also where the suite is a job in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("device", ["cpu", "cpu:0,cpu:1"])
def test_an_interrupt_ends_every_thread_and_the_next_run_goes(settings, device):
    once = iter([interrupt_main])  # a second one would come in the middle of what the first one ends

    class Interrupting(Silent):
        def ended(self, place, outcome):
            next(once, int)()

    config = MCAligned(**settings("one", 0), lam=1.0, device=device)
    with pytest.raises(KeyboardInterrupt):
        run(prepare(config), lambda plan: nullcontext(Interrupting()))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("shard")]
    assert run(prepare(config)).kept == len(PROMPTS)


def test_a_stop_is_heeded_during_a_pause(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_SECONDS", 60.0)
    its_run, began = Run(), time.monotonic()
    threading.Timer(0.2, its_run.stop).start()
    with pytest.raises(Stopped):
        with_retries(its_run, "a step", Path("/nonesuch").read_text)
    assert time.monotonic() - began < 10


def test_only_what_can_pass_is_tried_again():
    class OutOfMemoryError(RuntimeError):
        """As torch has one."""

    passing = [OSError(28, "no"), ConnectionError(), ServerError("busy"), MissingError("a")]
    assert all(map(can_pass, [*passing, OutOfMemoryError()]))
    staying = [RefusedError("full"), ConfigError("no"), ValueError(), KeyError("a"), Stopped("stopped")]
    assert not any(map(can_pass, staying))
    tried: list[int] = []

    def fail(error: Exception) -> None:
        tried.append(1)
        raise error

    for error, count in ((OSError("no"), 4), (ValueError("no"), 1)):
        tried.clear()
        with pytest.raises(type(error)):
            with_retries(Run(), "a step", fail, error)
        assert len(tried) == count


def test_outcomes_are_results_or_one_error_that_lists_the_shards():
    gone = AllMissing([MissingPrompt(prompt_index=3, prompt="bad", why="no")])
    full = [RefusedError(f"cannot write {name}: disk full", "disk full") for name in "ab"]
    assert results([1, gone, 2]) == [1, gone, 2]
    assert results([]) == []
    said = r"^2 of 2 shards failed.*\n  shard 001, 002: prompt 3 \('bad'\): no$"
    with pytest.raises(ShardsFailed, match=said):
        results([gone, gone])
    with pytest.raises(ShardsFailed) as caught:
        results([gone, 1, *full, KeyError()])
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("4 of 5 shards failed")
    assert lines[2:] == ["  shard 003, 004: cannot write a: disk full", "  shard 005: KeyError"]
    assert caught.value.__cause__ is full[0]
