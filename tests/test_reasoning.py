"""Reasoning that a server sets apart from its answer: refused, kept in a column of its own, or dropped."""

import json
from pathlib import Path

import polars as pl
import pytest
from chats import chat_model
from completions import Small, http_server

from exptilt.config.settings import MCAligned, Original
from exptilt.engines import registry
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.errors import ConfigError, ModelError
from exptilt.local_run import run
from exptilt.planning.plan import prepare
from exptilt.storage import keys

PROMPTS = ["abc", "fed cab", "a"]


class Thinking(Small):
    """A server whose reasoning parser takes the first `letters` of every answer for reasoning, and says so in
    a message's field; with no field it leaves them in the text, as one without a parser."""

    def __init__(self, folder: str, field: str, letters: int = 2) -> None:
        super().__init__(folder)
        self.field, self.letters = field, letters

    def __call__(self, path: str, body: dict):
        status, said = super().__call__(path, body)
        if "messages" in body and status == 200:
            message = said["choices"][0]["message"]
            text, message["content"] = message["content"], None
            thought, answer = text[: self.letters], text[self.letters :]
            if self.field:
                message |= {self.field: thought, "content": answer or None}
            else:
                message["content"] = f"<think>{thought}</think>{answer}"
        return status, said


@pytest.fixture(autouse=True)
def _fresh():
    registry.load.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return chat_model(tmp_path_factory.mktemp("thinking") / "letters")


@pytest.fixture
def config(tmp_path):
    """Make a configuration of three prompts in chat, with some settings changed."""
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": prompt} for prompt in PROMPTS]))

    def make(basemodel: str, model=Original, **settings):
        common = {
            "data": str(tmp_path / "p.json"),
            "max_new_tokens": 6,
            "top_k": 5,
            "nsamples": 8,
            "chat": True,
        }
        where = {"basemodel": basemodel, "save_directory": str(tmp_path / "results")}
        return model(**{**common, **where, **settings})

    return make


def texts_here(folder: str, config) -> list[tuple[str, str]]:
    """What the model itself draws of the prompts: text and finish reason."""
    p0 = prepare(config(folder, dtype="float32")).recipe.p0
    seeds = keys.seeds_for(0, [keys.prompt_id(prompt) for prompt in PROMPTS], 0, 8)
    rows = TransformersEngine(p0, "cpu").draw(PROMPTS, seeds & 0x7FFFFFFF, 0)
    return [(sample.completion, sample.finish_reason) for row in rows for sample in row]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_it_ends_the_run_before_it_starts_unless_the_user_says_what_becomes_of_it(folder, config, field):
    with http_server(Thinking(folder, field)) as root, pytest.raises(ModelError) as refused:
        prepare(config(f"{root}#org/small"))
    said = str(refused.value)
    assert "\n" not in said
    assert "gives reasoning beside its answer to the prompt that begins 'abc': use --reasoning keep" in said


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_an_answer_is_the_completion_and_its_reasoning_is_kept_apart_or_dropped(folder, config, field):
    """Out of tokens while it reasons, the answer is empty; what is drawn is the same; keys differ."""
    drawn = {}
    with http_server(Thinking(folder, field)) as root:
        for way in ("keep", "drop"):
            plan = prepare(config(f"{root}#org/small", reasoning=way))
            assert "no logprob and no nll of the samples: an answer behind reasoning" in plan.opening
            summary = run(plan)
            drawn[way] = pl.read_parquet(f"{summary.folder}/samples/*.parquet")
            manifest = json.loads(Path(summary.folder, "manifest.json").read_text())
            assert manifest["p0"]["reasoning"] == way
    keep, drop = drawn["keep"], drawn["drop"]
    whole = [((row["reasoning"] or "") + row["completion"], row["finish_reason"]) for row in keep.to_dicts()]
    assert whole == texts_here(folder, config)
    assert set(keep["reasoning"].drop_nulls().str.len_chars()) <= {1, 2}
    assert drop["completion"].to_list() == keep["completion"].to_list()
    assert drop["n_tokens"].to_list() == keep["n_tokens"].to_list() == [len(text) for text, _ in whole]
    for table in (keep, drop):
        assert all(table[name].is_null().all() for name in ("logprob", "nll") if name in table.columns)
        assert "tokens" not in table.columns or table["tokens"].is_null().all()
    assert "reasoning" not in drop.columns or drop["reasoning"].is_null().all()


def test_an_answer_that_never_came_is_empty(folder, config):
    with http_server(Thinking(folder, "reasoning", letters=6)) as root:
        summary = run(prepare(config(f"{root}#org/small", reasoning="drop")))
    samples = pl.read_parquet(f"{summary.folder}/samples/*.parquet")
    assert set(samples["completion"]) == {""}
    assert samples["finish_reason"].to_list() == [reason for _, reason in texts_here(folder, config)]


def test_what_cannot_be_set_apart_is_refused(folder, config, rewards_file):
    """Reasoning in the text; a model that is no server's; a value of the samples' likelihood."""
    with http_server(Thinking(folder, "")) as root:
        name = f"{root}#org/small"
        with pytest.raises(ModelError, match=r"leaves reasoning in its answer .* --reasoning-parser\)$"):
            prepare(config(name, reasoning="drop"))
    with pytest.raises(ConfigError, match=r"^--reasoning keep: only a server sets reasoning apart"):
        prepare(config(folder, reasoning="keep"))
    with http_server(Thinking(folder, "reasoning")) as root:
        tilted = {"model": MCAligned, "value": "perplexity", "lam": 1.0, "reasoning": "keep"}
        with pytest.raises(
            ModelError, match=r"'perplexity' needs the samples' nll, .* behind reasoning has none"
        ):
            prepare(config(f"{root}#org/small", **tilted))


def test_keys_of_runs_that_say_nothing_of_it_stay(folder, config):
    assert "reasoning" not in prepare(config(folder)).recipe.p0.identity
