"""Base models behind a server: the laws against a real model served over HTTP, the faults of a network, and
a whole run against `transformers serve`."""

import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from chats import chat_model
from checkpoints import LETTERS, causal
from completions import Small, completion, http_server, transformers_serve
from contracts import same
from processes import ROOT, free_port, run_flow
from scipy import stats
from test_engine import LEVEL, law_of

from exptilt.config.command_line import command_line
from exptilt.config.settings import MCAligned, Original
from exptilt.engines import openai, registry
from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.engines.openai import Asking, OpenAIEngine
from exptilt.errors import ModelError, ServerError, ShardsFailed, Stopped
from exptilt.local_run import run
from exptilt.models import openai_client, reference
from exptilt.models.tokenization import encode
from exptilt.planning.plan import prepare
from exptilt.run import Run
from exptilt.storage import keys
from tasks.runtime.launch import launch

PROMPTS = ["abc", "fed cab", "a", "bad face"]


@pytest.fixture(autouse=True)
def _fresh():
    registry.load.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return causal(tmp_path_factory.mktemp("served") / "letters", "llama")


@pytest.fixture
def small(folder):
    with http_server(Small(folder)) as root:
        yield root


def p0(name: str, **changes) -> P0:
    settings = {"dtype": "float32", "temperature": 1.0, "top_k": 5, "top_p": 1.0, "max_new_tokens": 6}
    return P0(model=registry.base_model(name), ends=(0,), **{**settings, **changes})


@pytest.fixture
def config(tmp_path):
    """Make a configuration of four prompts, with some settings changed."""
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": prompt} for prompt in PROMPTS]))

    def make(basemodel: str, model=Original, **settings):
        common = {"data": str(tmp_path / "p.json"), "max_new_tokens": 6, "top_k": 5}
        return model(
            **{"basemodel": basemodel, **common, "save_directory": str(tmp_path / "results"), **settings}
        )

    return make


def test_each_sample_is_the_draw_of_its_own_seed(small, folder, capsys):
    """The served model draws what it draws here, from the last 31 bits of every seed."""
    seeds = keys.seeds_for(0, PROMPTS, 0, 5)
    engine = OpenAIEngine(p0(f"{small}#org/small", temperature=0.8, top_p=0.9))
    here = TransformersEngine(p0(folder, temperature=0.8, top_p=0.9), "cpu")
    expected = here.draw(PROMPTS, seeds & 0x7FFFFFFF, 0)
    same(engine.draw(PROMPTS, seeds, 0), expected)
    same(engine.draw(PROMPTS, seeds[:, :2], 3), [row[:2] for row in expected])
    assert engine.notes == {"seeded": True}
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def chats(tmp_path_factory) -> str:
    return chat_model(tmp_path_factory.mktemp("chats") / "letters")


LAWS = [
    {},
    {"top_p": 0.8},
    {"temperature": 1.3, "top_p": 0.6, "top_k": 3},
    {"top_k": 0},
    {"temperature": 0.5, "stop": ("c", "ab"), "max_new_tokens": 12},
    {"max_new_tokens": 1},
]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("chat", ["", "server"])
def test_tokens_and_likelihoods_are_those_of_the_engine_here(folder, chats, law, chat):
    """With and without a template; of a chat's text that a stop text cut, nll is not known."""
    where, lacks = chats if chat else folder, bool(chat and "stop" in law)
    seeds = keys.seeds_for(0, PROMPTS, 0, 6)
    with http_server(Small(where)) as root:
        engine = OpenAIEngine(p0(f"{root}#org/small", chat=chat, **law))
        found = engine.draw(PROMPTS, seeds, 0)
    here = TransformersEngine(p0(where, chat="own" if chat else "", **law), "cpu")
    expected = here.draw(PROMPTS, seeds & 0x7FFFFFFF, 0)
    assert list(engine.notes.get("null", {})) == ["nll"] * lacks
    same(found, [[s._replace(nll=None) if lacks else s for s in row] for row in expected])
    cut = {s.rescored for row in found for s in row}
    assert cut == ({True, False} if "stop" in law and not chat else {False})


def test_the_rest_of_a_completion_is_drawn_behind_its_first_tokens(folder):
    """As if they were the prompt's, up to the same length; the likelihood is that of the whole."""
    here = TransformersEngine(p0(folder), "cpu")
    written = Asking(written=lambda prompt, more: encode(here.tokenizer, [prompt + more])[0])
    seeds = keys.seeds_for(0, PROMPTS, 0, 1) & 0x7FFFFFFF
    drawn = [row[0] for row in here.draw(PROMPTS, seeds, 0)]
    begun = [(sample.tokens or [])[: min(2, sample.n_tokens)] for sample in drawn]
    with http_server(Small(folder)) as root:
        found = OpenAIEngine(p0(f"{root}#org/small"), written).rests(PROMPTS, begun, seeds[:, 0], 0)
    for prompt, start, seed, rest in zip(PROMPTS, begun, seeds, found, strict=True):
        text = prompt + here.shown([prompt], [start])[0]
        shorter = p0(folder, max_new_tokens=here.p0.max_new_tokens - len(start))
        ((expected,),) = TransformersEngine(shorter, "cpu").draw([text], seed[None], 0)
        same([[rest]], [[expected]])


NULLS = [
    ({"most": 4}, {}, {"logprob": "it needs .* top-k 5, .* gives 3 .*greater than max allowed: 4"}),
    ({"most": 3}, {"top_k": 3, "temperature": 0.5}, {}),
    ({"most": 3}, {"top_k": 0}, {}),
    ({}, {"top_k": 0, "temperature": 0.5}, {"logprob": "without top-k, temperature and top-p need .* all"}),
    ({}, {"top_k": 0, "top_p": 0.5}, {"logprob": "without top-k"}),
    ({"most": 0}, {}, {"logprob": "no log-probabilities .*allowed: 0", "nll": "no log-probabilities"}),
    ({"says": False}, {}, {"logprob": "no log-probabilities$", "nll": "gives no log-probabilities$"}),
    ({"mode": "processed_logprobs"}, {}, {"logprob": "of the truncated law", "nll": "raw_logprobs"}),
    (
        {"mode": "processed_logprobs"},
        {"top_p": 0.5, "top_k": 0},
        {"logprob": "truncated", "nll": "truncated"},
    ),
    ({"mode": "processed_logprobs"}, {"temperature": 0.9, "top_k": 0}, {"logprob": "trunc", "nll": "trunc"}),
    ({"mode": "processed_logprobs"}, {"top_k": 0}, {}),
    ({"mode": "scaled_logprobs"}, {"temperature": 0.9}, {"logprob": "truncated", "nll": "truncated"}),
    ({"mode": "scaled_logprobs"}, {}, {}),
    ({"mode": "raw_logits"}, {}, {"logprob": "it may give logits", "nll": "it may give logits"}),
]


@pytest.mark.parametrize(("server", "law", "null"), NULLS)
@pytest.mark.parametrize("chat", ["", "server"])
def test_what_a_server_does_not_say_is_null_with_the_reason(chats, server, law, null, chat):
    """By its limit, by its mode, by the law; what it says is right."""
    seeds, own = keys.seeds_for(0, PROMPTS, 0, 3), "own" if chat else ""
    with http_server(Small(chats, **server)) as root:
        engine = OpenAIEngine(p0(f"{root}#org/small", chat=chat, **law))
        found = engine.draw(PROMPTS, seeds, 0)
    expected = TransformersEngine(p0(chats, chat=own, **law), "cpu").draw(PROMPTS, seeds & 0x7FFFFFFF, 0)
    lacking = {**dict.fromkeys(null), **({} if server.get("says", True) else {"tokens": None})}
    same(found, [[sample._replace(**lacking) for sample in row] for row in expected])
    said = engine.notes.get("null", {})
    assert said.keys() == null.keys()
    assert all(re.search(reason, said[column]) for column, reason in null.items())


@pytest.mark.soak
def test_shards_and_n_change_no_row(small, config, tmp_path):
    name = f"{small}#org/small"
    rows, texts = {}, PROMPTS * 9
    (tmp_path / "p36.json").write_text(json.dumps([{"prompt": text} for text in texts]))
    settings = {"data": str(tmp_path / "p36.json")}
    for shards, n in ((1, 4), (2, 4), (1, 2)):
        where = str(tmp_path / f"{shards}-{n}")
        summary = run(
            prepare(config(name, **settings, nsamples=n, shard_size=64 // shards, save_directory=where))
        )
        assert Path(summary.json).name == "small-p36.json"
        rows[shards, n] = json.loads(Path(summary.json).read_text())
    assert rows[1, 4] == rows[2, 4]
    assert rows[1, 2] == [row for i, row in enumerate(rows[1, 4]) if i % 4 < 2]
    assert all(row["perplexity"] < 0 for row in rows[1, 4])  # minus nll
    said = json.loads(Path(summary.folder, "manifest.json").read_text())
    assert said["p0"] | {"revision": "served", "model": name, "dtype": "served"} == said["p0"]
    assert said["seeded"] is True
    assert "as the server had it, its weights not known" in Path(summary.folder, "README.md").read_text()


def test_perplexity_comes_from_the_servers_numbers(small, folder, config):
    """The reward is minus the samples' nll, as for the model here; the pool needs no server for it."""
    settings = {"model": MCAligned, "value": "perplexity", "lam": 1.0, "nsamples": 4}
    summary = run(prepare(config(f"{small}#org/small", **settings)))
    registry.load.cache_clear()
    samples = pl.read_parquet(f"{summary.folder}/samples/*.parquet")
    rewards = pl.read_parquet(f"{summary.folder}/rewards/**/*.parquet")
    assert samples.select("logprob", "nll", "tokens").null_count().row(0) == (0, 0, 0)
    assert rewards["reward"].to_list() == (-samples["nll"]).to_list()
    seeds = keys.seeds_for(0, samples["prompt_id"].unique(maintain_order=True).to_list(), 0, 4)
    here = TransformersEngine(p0(folder), "cpu").draw(PROMPTS, seeds & 0x7FFFFFFF, 0)
    assert samples["nll"].to_list() == pytest.approx([s.nll for row in here for s in row], abs=1e-4)


def test_what_the_server_does_not_give_is_told_before_the_run_and_in_the_manifest(folder, config):
    settings = {"model": MCAligned, "lam": 1.0, "nsamples": 4}
    with http_server(Small(folder, most=4)) as root:
        plan = prepare(config(f"{root}#org/small", value="perplexity", **settings))
        _first, note = plan.opening.splitlines()
        assert note.startswith("note: no logprob of the samples: it needs log-probabilities of top-k 5, ")
        manifest = json.loads(Path(run(plan).folder, "manifest.json").read_text())
    assert note.endswith(manifest["null"]["logprob"])
    assert list(manifest["null"]) == ["logprob"]


def test_samples_that_were_drawn_without_nll_have_no_perplexity(folder, config, rewards_file):
    """Where the pool has them all, and where it has some."""
    settings = {"model": MCAligned, "lam": 1.0, "nsamples": 4}
    server = Small(folder, says=False)
    with http_server(server) as root:
        name = f"{root}#org/small"
        run(prepare(config(name, value=f"{rewards_file}:length", **settings)))
        server.says = True
        with pytest.raises(ModelError, match="those in the pool have none; another --save-directory"):
            prepare(config(name, value="perplexity", **settings))
        registry.load.cache_clear()
        plan = prepare(config(name, value="perplexity", **{**settings, "nsamples": 8}))
        with pytest.raises(ShardsFailed, match="gave no nll of the text that begins 'abc"):
            run(plan)


def test_the_only_model_need_not_be_named(small):
    assert registry.base_model(small).name == f"{small}#org/small"
    assert reference.file_name(reference.full_name(small)) == "small"
    assert reference.file_name("http://localhost:8000/v1#gpt2") == "gpt2"
    assert reference.file_name("http://localhost:8000/v1#/data/llama/") == "llama"


def test_a_server_that_ignores_its_seeds_is_found_out(folder, config, capsys):
    with http_server(Small(folder, heeds=False)) as root:
        with pytest.raises(ModelError, match="org/small ignores top_k: use --top-k 0"):
            prepare(config(f"{root}#org/small"))
        summary = run(prepare(config(f"{root}#org/small", top_k=0)))
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert "gives other answers to 8 of 8 seeds, asked again; --batch-size 1 asks one by one" in said
    assert json.loads(Path(summary.folder, "manifest.json").read_text())["seeded"] is False


def test_what_was_drawn_is_tilted_without_the_server(folder, config, rewards_file):
    settings = {"model": MCAligned, "value": f"{rewards_file}:bees", "nsamples": 4}
    with http_server(Small(folder)) as root:
        first = run(prepare(config(f"{root}#org/small", lam=1.0, **settings)))
    registry.load.cache_clear()
    again = run(prepare(config(f"{root}#org/small", lam=2.0, **settings)))
    assert (first.tokens > 0, again.tokens) == (True, 0)


def test_a_server_that_does_not_sample_is_found_out(config, capsys):
    with http_server(lambda path, body: (200, completion("a", 1))) as root:
        run(prepare(config(f"{root}#m")))
    assert "gives one answer to 8 seeds: it seems not to sample" in capsys.readouterr().err


class Faults:
    """Answers that go wrong `times` times, once the first fifteen requests of a run have passed."""

    def __init__(self, status: int, times: int, said: str = "busy") -> None:
        self.status, self.left, self.said, self.asked, self.bodies = status, times, said, 0, []
        self.lock = threading.Lock()

    def __call__(self, path: str, body: dict):
        with self.lock:
            self.asked += 1
            self.bodies.append(body)
            fails = self.asked > 15 and self.left > 0
            self.left -= fails
        if fails and self.status:
            return self.status, {"error": {"message": self.said}, "headers": {"retry-after-ms": "10"}}
        if fails:
            time.sleep(1)
        return 200, completion(str(body["seed"]) if body["top_k"] != 1 else "a", 1)


@pytest.mark.parametrize(("status", "times"), [(429, 5), (503, 5), (0, 2)])
def test_what_passes_is_tried_again_and_changes_nothing(status, times, monkeypatch):
    """Rate limits, a server in trouble, and answers that come too late."""
    monkeypatch.setattr(openai_client, "SECONDS", 0.3)
    fault = Faults(status, times)
    with http_server(fault) as root:
        rows = OpenAIEngine(p0(f"{root}#m")).draw(["a"], np.arange(6)[None], 2)
    assert fault.left == 0
    assert [sample.completion for sample in rows[0]] == list("012345")


def test_what_does_not_pass_is_a_failure_that_another_run_may_mend(monkeypatch):
    with http_server(Faults(500, 1000, "out of memory")) as root:
        engine = OpenAIEngine(p0(f"{root}#m"))
        with pytest.raises(ServerError, match=r"#m fails at the prompt that begins .*: 500 out of memory$"):
            engine.draw(["a"], np.arange(3)[None], 1)
    assert issubclass(ServerError, OSError)  # so a task is tried again


def test_a_refused_prompt_is_named_and_not_tried_again(small, config, tmp_path):
    (tmp_path / "long.json").write_text(json.dumps([{"prompt": "ab"}, {"prompt": "long" * 30}]))
    plan = prepare(config(f"{small}#org/small", data=str(tmp_path / "long.json")))
    said = (
        r"shard 001: prompt 1 \('longlong.*refuses the prompt that begins 'longlong\w+': "
        "400 This model's maximum context length is 40 tokens"
    )
    with pytest.raises(ShardsFailed, match=said):
        run(plan)


WORDS = {
    "long": 400,
    "large": 413,
    "odd": 422,
    "filtered": "content_filter",
    "tool": "tool_calls",
    "silent": 0,
}


class Picky:
    """Answers by the seed, but refuses in its own way each prompt that begins with one of WORDS; `filtered`
    only for every other seed."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def __call__(self, path: str, body: dict):
        self.prompts.append(body["prompt"])
        answer = completion(f"b{body['seed'] % 7}" if body["top_k"] != 1 else "a", 2)
        way = WORDS.get(body["prompt"].split()[0], 200)
        if isinstance(way, str) and (way == "tool_calls" or body["seed"] % 2):
            answer["choices"][0]["finish_reason"] = way
        if way == 0:
            answer["choices"][0]["text"] = None
        if isinstance(way, int) and way >= 400:
            return way, {"error": {"message": "not this one"}}
        return 200, answer


@pytest.fixture
def mixed(config, tmp_path):
    """Make a configuration of one shard: prompts that a Picky server refuses among others."""
    texts = ["one", "long", "two", "filtered", "three", "silent", "odd", "large", "four", "tool", "five"]
    (tmp_path / "mixed.json").write_text(json.dumps([{"prompt": text} for text in texts]))
    common = {"data": str(tmp_path / "mixed.json"), "nsamples": 8, "shard_size": 100}
    return lambda root, **more: config(f"{root}#m", **{**common, **more})


def test_refused_prompts_are_named_and_left_out_if_asked(mixed, config, tmp_path):
    """However many; what is refused for some seeds only is left out whole."""
    server = Picky()
    with http_server(server) as root:
        said = r"prompt 1 \('long'\): .* 400 not this one; prompt 3 "
        with pytest.raises(ShardsFailed, match=said) as failed:
            run(prepare(mixed(root)))
        gone = [(m.prompt_index, m.prompt) for m in failed.value.__cause__.missing]
        assert gone == [(1, "long"), (3, "filtered"), (5, "silent"), (6, "odd"), (7, "large"), (9, "tool")]
        assert "ends the prompt that begins 'filtered' by 'content_filter'" in str(failed.value)
        server.prompts.clear()
        summary = run(prepare(mixed(root, allow_missing=True)))
        assert set(server.prompts) <= {text for _, text in gone} | {openai.TRIED, "one"}
        assert [(m.prompt_index, m.prompt) for m in summary.missing] == gone
        (tmp_path / "rest.json").write_text(
            json.dumps([{"prompt": text} for text in ("one", "two", "three", "four", "five")])
        )
        alone = run(prepare(mixed(root, data=str(tmp_path / "rest.json"))))
    columns = ["prompt_id", "sample_index", "completion"]
    rows = [pl.read_parquet(f"{s.folder}/samples/*.parquet").select(columns) for s in (summary, alone)]
    assert rows[0].height == 40
    assert rows[0].equals(rows[1])
    assert "left out: prompt 3 ('filtered')" in Path(summary.folder, "README.md").read_text()


class Changed(Faults):
    """A server that refuses everything once `when` is true of a request."""

    def __init__(self, status: int, when) -> None:
        super().__init__(status, 0, "Unrecognized request argument supplied: top_k")
        self.when, self.refused = when, list[str]()

    def __call__(self, path: str, body: dict):
        found = super().__call__(path, body)
        if not self.when(self, body):
            return found
        self.refused.append(body["prompt"])
        return self.status, {"error": {"message": self.said}}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
@pytest.mark.parametrize(
    "when", [lambda server, body: server.asked > 30, lambda server, body: body["max_tokens"] > 16]
)
def test_what_is_refused_to_every_prompt_ends_the_run_at_once(mixed, status, when):
    server = Changed(status, when)
    said = f": {status} Unrecognized request argument"
    with http_server(server) as root, pytest.raises((ModelError, ShardsFailed), match=said):
        run(prepare(mixed(root, max_new_tokens=32, allow_missing=True)))
    tried = [prompt == openai.TRIED for prompt in server.refused]
    assert sum(tried) == tried[-1] == (status in openai_client.ABOUT_THE_PROMPT)


def test_a_prompt_that_is_refused_while_topping_up_is_left_out_whole(mixed, rewards_file):
    """Its first samples are there already; the others keep theirs."""
    settings = {"model": MCAligned, "value": f"{rewards_file}:length", "nsamples": 4, "lam": 0.5}
    ways = {"filtered": "content_filter"}
    server = Picky()
    with http_server(server) as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "WORDS", {})
        run(prepare(mixed(root, **settings)))
        patch.setattr(sys.modules[__name__], "WORDS", ways)
        grown = {"min_ess": 50.0, "max_nsamples": 16, "allow_missing": True}
        summary = run(prepare(mixed(root, **settings, **grown)))
    assert [m.prompt for m in summary.missing] == ["filtered"]
    assert (summary.prompts, summary.kept, summary.samples) == (10, 10, 160)


def test_a_stop_leaves_what_is_not_yet_asked():
    fault = Faults(429, 0)
    with http_server(fault) as root:
        engine = OpenAIEngine(p0(f"{root}#m"))
        engine.draw(["a"], np.arange(1)[None], 1)
        before = fault.asked
        run = Run()
        run.stop()
        with run.entered(), pytest.raises(Stopped):
            engine.draw(["a"], np.arange(500)[None], 2)
    assert fault.asked == before


def test_the_key_is_read_from_the_environment_and_told_to_nobody(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\n")
    fault = Faults(401, 1, "Incorrect API key: sk-secret")
    with http_server(fault) as root:
        engine = OpenAIEngine(p0(f"{root}#m"))
        with pytest.raises(ModelError, match=r"401 Incorrect API key: \*\*\*$"):
            engine.draw(["a"], np.arange(3)[None], 1)
    assert {body["key"] for body in fault.bodies} == {"Bearer sk-secret"}
    assert "sk-secret" not in repr(engine.p0) + repr(engine.notes)


@pytest.fixture
def refused(config, tmp_path, capsys, monkeypatch):
    """The one line that a run with these arguments ends with, before it starts."""
    config("toy")
    monkeypatch.chdir(tmp_path)

    def refuse(name: str, *arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            launch(None, command_line(MCAligned, ["--basemodel", name, "--data", "p.json", *arguments]))  # type: ignore[arg-type]
        assert stopped.value.code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    return refuse


def test_what_a_server_cannot_do_is_said_before_the_run(refused, small, folder, rewards_file):
    own = ["--value", f"{rewards_file}:bees", "--lam", "1"]
    name = f"{small}#org/small"
    dead = f"http://127.0.0.1:{free_port()}/v1"
    assert f"{dead}#m does not answer a first request (APIConnectionError: " in refused(f"{dead}#m", *own)
    assert f"{dead} does not answer the question which models it has" in refused(dead, *own)
    assert "refuses a first request: 404 The model `other` does not exist." in refused(f"{small}#other", *own)
    assert "refuses a first request: 404 Not Found" in refused(f"{small}/v2#org/small", *own)
    with http_server(Small(folder, says=False)) as silent:
        said = refused(f"{silent}#org/small", "--value", "perplexity")
        assert "value 'perplexity' needs the samples' nll, which http://" in said
        assert said.endswith("#org/small did not give: the server gives no log-probabilities")
    assert "only the server can say how long" in refused(name, *own, "--on-long-prompt", "skip")
    for secret in ("me:sk-pass@127.0.0.1:1/v1#m", "127.0.0.1:1/v1?key=sk-pass#m"):
        said = refused(f"http://{secret}", *own)
        assert "is written http://HOST:PORT/v1#MODEL, without user, password or query" in said
        assert "sk-pass" not in said


def test_what_is_no_such_server_is_named(refused, rewards_file):
    own = ["--value", f"{rewards_file}:bees"]
    with http_server(lambda path, body: (200, {"hello": "world"})) as root:
        assert "does not answer a first request as an OpenAI API does: " in refused(f"{root}#m", *own)
        assert f"{root} has the models (none listed): write {root}#MODEL" in refused(root, *own)
    assert "is written http://HOST:PORT/v1#MODEL" in refused("http://localhost:port/v1#m", *own)
    assert "http://localhost:99999/v1#m " in refused("http://localhost:99999/v1#m", *own)


def test_several_models_are_listed(refused, rewards_file):
    listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in ("org/a", "org/b")]}
    with http_server(lambda path, body: (200, dict(listed))) as root:
        line = refused(root, "--value", f"{rewards_file}:bees")
    assert f"{root} has the models org/a, org/b: write {root}#MODEL" in line


def test_without_the_package_one_line_says_what_to_install():
    code = "import sys; sys.modules['openai'] = None; import exptilt.models.openai_client"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'ModelError: a model behind a server needs: pip install "exptilt[openai]"' in done.stderr


@pytest.fixture(scope="module")
def hugging(tmp_path_factory) -> str:
    """`transformers serve` with a small random llama that has a chat template."""
    folder = tmp_path_factory.mktemp("hugging")
    with transformers_serve(chat_model(folder / "letters"), folder / "log") as name:
        yield name


@pytest.mark.parametrize(("chat", "seen"), [("", "abc"), ("server", "fe abc cab")])
def test_transformers_serve_draws_by_the_models_own_law(hugging, chat, seen):
    """Both ways to ask, against the law by enumeration of the text that the model sees; asked one by one it
    heeds the seeds."""
    folder, n = hugging.partition("#")[2], 40
    engine = OpenAIEngine(p0(hugging, top_k=2, max_new_tokens=2, chat=chat))
    samples = engine.draw(["abc"], keys.seeds_for(0, ["abc"], 0, n), 1)[0]
    assert engine.notes["seeded"] is True
    assert set(engine.notes["null"]) == {"logprob", "nll"}
    exact: Counter[str] = Counter()
    for path, chance in law_of(p0(folder, top_k=2, max_new_tokens=2), seen).items():
        exact["".join(LETTERS[token - 1] for token in path if token)] += chance
    counts = Counter(sample.completion for sample in samples)
    assert set(counts) <= set(exact)
    assert len(counts) > 1
    expected = [chance * n for chance in exact.values()]
    assert stats.chisquare([counts[text] for text in exact], expected).pvalue > LEVEL


@pytest.mark.soak
def test_a_whole_run_on_transformers_serve(hugging, server, config, tmp_path):
    config("toy")
    arguments = ["--basemodel", hugging, "--data", "p.json", "--max-new-tokens", "3"]
    arguments += ["--batch-size", "1", "--shard-size", "4"]
    env = {**server, "OPENAI_API_KEY": "sk-very-secret"}
    done = run_flow(*arguments, env=env, cwd=tmp_path, file=ROOT / "flows" / "original.py")
    assert done.returncode == 0, done.stderr
    assert f"{hugging}: 4 prompts of p.json × 1 sample" in done.stderr
    assert "warning" not in done.stderr
    assert [r["prompt"] for r in json.loads((tmp_path / "results/letters-p.json").read_text())] == PROMPTS
    kept = [
        path for path in (*tmp_path.rglob("*"), *Path(server["PREFECT_HOME"]).rglob("*")) if path.is_file()
    ]
    assert len(kept) > 10
    assert [path for path in kept if b"sk-very-secret" in path.read_bytes()] == []
