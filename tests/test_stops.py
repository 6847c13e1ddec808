"""--stop: a completion is what it would be without, cut before the first stop text."""

import itertools
import json
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from checkpoints import causal
from completions import Small, http_server
from families import causal_model
from test_toy import draws, fits, p0
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerFast

from exptilt.config.command_line import command_line
from exptilt.config.settings import MCAligned, Original
from exptilt.config.validation import build
from exptilt.engines import registry
from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.engines.openai import OpenAIEngine
from exptilt.engines.toy import ToyEngine
from exptilt.errors import ConfigError
from exptilt.local_run import run
from exptilt.planning.plan import prepare
from exptilt.storage import keys

PROMPTS = ["a", "abcdef", "fedcabace", "bb"]
STOPS = [("a",), ("ab",), ("ca", "db"), ("dcb", "b"), ("abcd",)]


def cut(text: str, stop: tuple[str, ...]) -> str:
    return re.split("|".join(map(re.escape, stop)), text, maxsplit=1)[0]


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("changes", [{}, {"top_k": 3, "temperature": 0.7}, {"max_new_tokens": 2}])
def test_the_law_is_the_one_without_cut_before_the_first_stop_text(stop, changes):
    law, n = defaultdict(float), 20_000
    for text, q in ToyEngine(p0(**changes)).enumerate("x"):
        law[cut(text, stop)] += q
    with_stop, found = p0(**changes, stop=stop), defaultdict(float)
    for text, q in ToyEngine(with_stop).enumerate("x"):
        found[text] += q
    assert found == pytest.approx(law)
    assert fits(Counter(s.completion for s in draws(with_stop, "x", n)), law, n)


@pytest.mark.parametrize("stop", STOPS)
def test_the_toy_engines_samples_are_those_without_cut(stop):
    for whole, found in zip(draws(p0(), "x", 500), draws(p0(stop=stop), "x", 500), strict=True):
        assert found.completion == cut(whole.completion, stop)
        stopped = found.completion != whole.completion
        assert found.finish_reason == ("stop" if stopped else whole.finish_reason)
        assert found.logprob >= whole.logprob - 1e-12


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """A model of every way of drawing."""
    root = tmp_path_factory.mktemp("stops")
    return {
        "shared": causal(root / "llama", "llama"),
        "copied": causal(root / "bloom", "bloom"),
        "plain": causal_model("mamba", root / "mamba"),
        "uncached": causal_model("rwkv", root / "rwkv"),
    }


def law_of(folder: str, **changes) -> P0:
    settings = {"dtype": "float32", "temperature": 1.0, "top_k": 7, "top_p": 1.0, "max_new_tokens": 12}
    return P0(model=registry.base_model(folder), ends=(0,), named_ends=(0,), **{**settings, **changes})


def draw(law: P0, prompts: list[str], n: int, rows: int = 0):
    return engine_of(law).draw(prompts, keys.seeds_for(0, prompts, 0, n), rows)


@cache
def engine_of(law: P0) -> TransformersEngine:
    return TransformersEngine(law, "cpu")


@pytest.mark.parametrize("way", ["shared", "copied", "plain", "uncached"])
def test_a_models_samples_are_those_without_cut(folders, way):
    """Their log p0 is that of the tokens up to the one that completes the stop text, their NLL that of the
    text that is left."""
    plain = TransformersEngine(law_of(folders[way], top_k=0), "cpu")
    assert plain.way == way
    seeds = keys.seeds_for(0, PROMPTS, 0, 24)
    whole = [s for row in plain.draw(PROMPTS, seeds, 0) for s in row]
    text = "".join(s.completion for s in whole)
    (common, _), (second, _) = Counter(a + b for a, b in itertools.pairwise(text)).most_common(2)
    stop = (common, second[::-1])
    law = law_of(folders[way], top_k=0, stop=stop)
    found = [s for row in TransformersEngine(law, "cpu").draw(PROMPTS, seeds, 0) for s in row]
    prompts = [prompt for prompt in PROMPTS for _ in range(24)]
    stopped = 0
    for prompt, was, now in zip(prompts, whole, found, strict=True):
        assert now.completion == cut(was.completion, stop)
        if now.completion == was.completion:
            assert (now.finish_reason, now.n_tokens) == (was.finish_reason, was.n_tokens)
            continue
        stopped += 1
        assert (now.finish_reason, now.n_tokens) == ("stop", len(now.completion) + 2)
        logp = logp_of(plain, prompt + was.completion[: now.n_tokens])
        assert now.logprob == pytest.approx(sum(logp[len(prompt) - 1 :]), abs=1e-3)
        nll = -np.mean(logp[:-2]) if len(logp) > 2 else None
        assert now.nll == pytest.approx(nll, abs=1e-3) if nll is not None else now.nll is None
    assert stopped > 3


@torch.no_grad()
def logp_of(engine: TransformersEngine, text: str) -> list[float]:
    """log p of each token of a text behind its first, by one pass."""
    tokens = engine.tokenizer(text)["input_ids"]
    logp = engine.model(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    return [float(logp[i, token]) for i, token in enumerate(tokens[1:])]


def test_batch_layout_changes_no_draw_and_more_samples_extend_fewer(folders):
    law = law_of(folders["shared"], stop=("ab", "d"))
    together = draw(law, PROMPTS, 12)
    for rows in (1, 7, 24):
        found = draw(law, PROMPTS, 12, rows)
        assert [[(s.completion, s.n_tokens, s.finish_reason) for s in row] for row in found] == [
            [(s.completion, s.n_tokens, s.finish_reason) for s in row] for row in together
        ]
    few = draw(law, PROMPTS, 5)
    assert [[s.completion for s in row] for row in few] == [
        [s.completion for s in row[:5]] for row in together
    ]


def test_a_stop_text_may_begin_with_a_space_that_a_decoder_eats(folders, tmp_path):
    """As decoders of sentencepiece do at a text's first token, so also at a completion's."""
    folder = causal(tmp_path / "words", "llama")
    vocabulary = {"<e>": 0, **{f"▁{c}": i + 1 for i, c in enumerate("abcdefg")}}
    inner = Tokenizer(token_models.WordLevel(vocabulary, unk_token="▁a"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<e>").save_pretrained(folder)
    whole, found = (draw(law_of(folder, **c), ["a", "a b"], 64) for c in ({}, {"stop": (" b",)}))
    firsts = 0
    for was, now in zip([*whole[0], *whole[1]], [*found[0], *found[1]], strict=True):
        assert now.completion == was.completion.partition(" b")[0]
        if now.completion != was.completion:
            assert (now.finish_reason, now.n_tokens) == ("stop", now.completion.count(" ") + 1)
            firsts += now.n_tokens == 1
    assert firsts > 3


def test_it_is_in_the_law_and_costs_older_pools_nothing(folders):
    plain, stopped = law_of(folders["shared"]), law_of(folders["shared"], stop=("\n", "ab"))
    assert stopped.identity == {**plain.identity, "stop": ["\n", "ab"]}
    assert "stop" not in plain.identity


def test_a_run_keeps_it_in_key_and_manifest_and_a_larger_n_extends_it(toy_original):
    found = {}
    for stop, n in (((), 2), (("ab",), 2), (("ab",), 4)):
        summary = run(prepare(toy_original(stop=stop, nsamples=n, top_k=0)))
        manifest = json.loads(Path(summary.folder, "manifest.json").read_text())
        assert manifest["p0"].get("stop", []) == list(stop) == manifest["configuration"]["stop"]
        found[stop, n] = pl.read_parquet(f"{summary.folder}/samples/*.parquet"), summary
    few, many = (found[("ab",), n][0].select("prompt_id", "sample_index", "completion") for n in (2, 4))
    assert not any("ab" in text for text in many["completion"])
    assert many.filter(pl.col("sample_index") < 2).sort(pl.all()).equals(few.sort(pl.all()))
    assert found[("ab",), 4][1].tokens < found[("ab",), 4][0]["n_tokens"].sum()
    assert found[(), 2][0]["completion"].str.contains("ab").any()


@pytest.mark.parametrize(
    ("given", "stop"),
    [
        ([], ()),
        (["--stop", "\n\n"], ("\n\n",)),
        (["--stop", " a, b ", "--stop", "###"], (" a, b ", "###")),
        (["--stop=---", "--stop", "-1"], ("---", "-1")),
        (["--stop", "[x]"], ("[x]",)),
    ],
)
def test_a_stop_text_is_taken_as_it_is_written(given, stop):
    assert command_line(Original, given).stop == stop
    assert build(Original, {"stop": list(stop)}).stop == stop  # as a deployment gives it


def test_a_file_may_hold_one_or_several(tmp_path):
    for text, stop in (('"\\n, "', ("\n, ",)), ('["a,b", " "]', ("a,b", " "))):
        (tmp_path / "c.toml").write_text(f"stop = {text}\n")
        assert command_line(MCAligned, ["--config", str(tmp_path / "c.toml")]).stop == stop
    assert command_line(Original, ["--config", str(tmp_path / "c.toml"), "--stop", "x"]).stop == ("x",)


@pytest.mark.parametrize("given", ["", ["a", ""], 5, ["\udcff"]])
def test_what_is_no_text_is_refused_in_one_line(given):
    with pytest.raises(ConfigError, match=r"^--stop: a text that ends .* one character, got .*$"):
        build(Original, {"stop": given})


def test_the_command_line_refuses_an_empty_one(capsys):
    with pytest.raises(SystemExit) as ended:
        command_line(Original, ["--stop", ""])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: --stop: a text that ends a completion has at least one character, got ['']"


def test_a_server_is_asked_for_it(folders):
    asked = []

    def answer(path, body):
        asked.append(body.get("stop"))
        return small(path, body)

    small = Small(folders["shared"])
    law = law_of(folders["shared"], top_k=5, stop=("ab", "d"))
    with http_server(answer) as root:
        engine = OpenAIEngine(law_of(f"{root}#org/small", top_k=5, stop=("ab", "d")))
        seeds = keys.seeds_for(0, PROMPTS, 0, 4)
        found = engine.draw(PROMPTS, seeds, 0)
    assert asked.count(["ab", "d"]) >= 16
    here = TransformersEngine(law, "cpu").draw(PROMPTS, seeds & 0x7FFFFFFF, 0)
    columns = ("completion", "n_tokens", "finish_reason")
    assert [[[getattr(s, c) for c in columns] for s in row] for row in found] == [
        [[getattr(s, c) for c in columns] for s in row] for row in here
    ]
