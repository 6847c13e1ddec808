"""Refined draws: their law by enumeration of the toy engine, and that no layout or crash changes them."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from checkpoints import causal
from scipy import stats
from test_moves import engine, moved, paths, resampled, system
from transformers import AutoModelForCausalLM, AutoTokenizer

import exptilt
from exptilt.config.settings import MCAligned
from exptilt.engines import registry
from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.engines.huggingface.token_choice import choose
from exptilt.engines.toy import ToyEngine
from exptilt.errors import ConfigError, ShardsFailed
from exptilt.models import reference
from exptilt.planning.plan import prepare
from exptilt.planning.values import check_refine
from exptilt.storage import inventory, pool

LEVEL = 1e-4
PROMPTS, SAMPLES, LAM = 100, 4, 3.0
LEVELS = """
def levels(prompts, completions):
    return [1.5 * (len(t) % 3) + 0.75 * ("a" in t) - 0.75 * ("d" in t) for t in completions]
"""  # those of test_moves


@pytest.fixture(scope="module")
def make(tmp_path_factory, rewards_file):
    """Run the toy engine, tilted by `bees`, in a root by its name."""
    roots = tmp_path_factory.mktemp("refined")

    def run(root: str, **settings) -> exptilt.Result:
        defaults = {"basemodel": "toy", "value": f"{rewards_file}:bees", "lam": LAM, "nsamples": SAMPLES}
        given = {**defaults, "end": PROMPTS, **settings, "save_directory": str(roots / root)}
        return exptilt.mc_aligned(**given)

    return run


@pytest.fixture(scope="module")
def plain(make):
    return make("plain")


@pytest.fixture(scope="module")
def refined(make):
    return make("one", refine=16, export="all", ndraws=2)


def rows(result: exptilt.Result, name: str = "refined") -> list[dict]:
    return result.table(name).to_dicts()


def root_of(result: exptilt.Result) -> Path:
    """The save directory of a run of a range of prompts."""
    return Path(result.paths["folder"]).parents[1]


def entries(result: exptilt.Result) -> list[Path]:
    """The pool's folders of moves."""
    return sorted(root_of(result).glob("pool/chains/*"))


def test_moves_leave_samples_draws_and_their_levels_as_they_are(make, plain):
    with_moves = make("more", refine=3)
    for name in ("samples", "draws", "levels", "diagnostics"):
        assert rows(with_moves, name) == rows(plain, name)
    assert make("plain", refine=0).records.to_dicts() == plain.records.to_dicts()


def test_many_shards_and_a_crash_give_the_moves_of_one(make, refined):
    """Eight moves, some entries of which are lost then, and sixteen from what is left."""
    eight = make("many", refine=8, ndraws=2, shard_size=1)
    whole = {folder.name for folder in entries(eight)}
    for folder in entries(eight)[::3]:
        shutil.rmtree(folder)
    left = {folder.name: (folder / pool.MANIFEST).stat().st_mtime_ns for folder in entries(eight)}
    assert 0 < len(left) < len(whole)
    again = make("many", refine=16, export="all", ndraws=2, shard_size=1)
    assert rows(again) == rows(refined)
    assert again.records.to_dicts() == refined.records.to_dicts()
    now = {folder.name: (folder / pool.MANIFEST).stat().st_mtime_ns for folder in entries(again)}
    assert all(now[name] == at for name, at in left.items())


def test_nothing_is_moved_twice(make, refined):
    again = make("one", refine=16, export="all", ndraws=2)
    assert again.summary.refinement.tokens == 0
    assert again.summary.reused["moves"] == again.summary.shards


def test_the_mean_is_the_tilts_where_that_of_the_draws_is_not(make):
    made = make("mean", nsamples=2, refine=16, end=230)
    toy, closed = ToyEngine(_law(MCAligned(basemodel="toy"))), []
    for prompt in made.records["prompt"]:
        p = sum(q for text, q in toy.enumerate(prompt) if "b" in text)
        closed.append(p * np.exp(LAM) / (p * np.exp(LAM) + 1 - p))
    spread = np.sqrt(sum(q * (1 - q) for q in closed))
    drawn, kept = made.table("levels")["drawn"].sum(), made.records["bees"].sum()
    assert abs(kept - sum(closed)) < 3 * spread < abs(drawn - sum(closed))


def _law(config: MCAligned) -> P0:
    names = ("dtype", "temperature", "top_k", "top_p", "max_new_tokens")
    given = {name: getattr(config, name) for name in names}
    return P0(model=registry.base_model("toy"), **given)


def test_refined_draws_follow_the_law_of_so_many_moves(make, tmp_path):
    """One prompt many times, each with samples of its own, against the law of the draw and the moves."""
    n, times, k, changes = 3, 800, 2, {"max_new_tokens": 2, "top_k": 4}
    (tmp_path / "levels.py").write_text(LEVELS)
    prompts = ["x"] * times
    settings = {"value": f"{tmp_path}/levels.py:levels", "data": prompts, "end": None, **changes}
    made = make("law", lam=1.0, nsamples=n, refine=k, seed=5, **settings)
    q, reward, size, p = system(changes)
    law = resampled(p, reward, n) @ np.linalg.matrix_power(moved(q, reward, size), k)
    seen = Counter(tuple(tokens) for tokens in made.table("refined")["tokens"].to_list())
    states = list(paths(engine(**changes)))
    assert set(seen) <= set(states)
    common = [place for place, chance in enumerate(law) if chance * times >= 5]
    counts, expected = [seen[states[place]] for place in common], law[common] * times
    counts, expected = [*counts, times - sum(counts)], [*expected, times - sum(expected)]
    assert stats.chisquare(counts, expected, sum_check=False).pvalue > LEVEL


def test_records_and_sft_are_the_refined_texts_and_pairs_the_pools(refined):
    kept = refined.table("refined")
    prompts = refined.table("prompts").select("prompt_id", "prompt")
    texts = kept.join(prompts, on="prompt_id", maintain_order="left").select("prompt", "completion")
    assert refined.records.select("prompt", "completion").equals(texts)
    assert refined.table("sft").equals(texts)
    assert json.loads(Path(refined.paths["records"]).read_text())[0]["moves"] == 16
    pooled = set(refined.samples["completion"])
    pairs = refined.table("pairs")
    assert set(pairs["chosen"]) | set(pairs["rejected"]) <= pooled
    assert refined.table("weighted").height == refined.samples.height
    manifest = json.loads((Path(refined.paths["folder"]) / pool.MANIFEST).read_text())
    assert {f"chains/{name}" for name in manifest["pool"]["chains"]} == {
        pool.name_of(str(folder)) for folder in entries(refined)
    }
    found = inventory.walk(str(root_of(refined)))
    assert not [each.path for each in found if getattr(each, "kind", "") == "unknown"]


def test_samples_of_a_pool_without_tokens_are_drawn_again(make, plain):
    """Not tokenized again: the same moves follow."""
    expected = rows(make("plain", refine=3))
    made = make("old")
    for folder in root_of(made).glob("pool/samples/*/*-*"):
        entry = pool.find(str(folder))
        table = entry.table("samples").with_columns(tokens=pl.lit(None, dtype=pl.List(pl.UInt32)))
        shutil.rmtree(folder)
        pool.put(str(folder), {"samples": table}, entry.meta)
    assert rows(make("old", refine=3)) == expected


def test_the_rest_of_a_completion_is_that_of_passes_without_a_cache(tmp_path):
    folder = causal(tmp_path / "letters", "llama")
    settings = {"dtype": "float32", "temperature": 0.8, "top_k": 5, "top_p": 0.9, "max_new_tokens": 12}
    law = P0(model=reference.checkpoint(folder), ends=(0,), **settings)
    begun = [[], [1], [2, 3, 4], [5, 1, 2, 3, 4, 5], [1] * 11, [4, 4]]
    prompts, seeds = ["abc", "fed", "a", "cabbed", "abc", "abc"], np.arange(6) + 7
    drawing = TransformersEngine(law, "cpu")
    found = drawing.extend(prompts, begun, seeds, 0)
    assert drawing.extend(prompts, begun, seeds, 0) == found  # behind the prompts' prefills, which were kept
    (kept,) = drawing.prefills
    assert sorted(len(ids) for ids in kept.kept) == [1, 4]
    kept.most = 0
    assert drawing.extend(prompts, begun, seeds, 0) == found
    assert not kept.kept
    texts = drawing.shown(prompts, [sample.tokens[: sample.n_tokens] for sample in found])
    assert texts == [sample.completion for sample in found]
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    for prompt, start, seed, sample in zip(prompts, begun, seeds, found, strict=True):
        ids, tokens = tokenizer(prompt)["input_ids"], list(start)
        while len(tokens) < 12 and (len(tokens) == len(start) or tokens[-1] != 0):
            with torch.no_grad():
                logits = model(torch.tensor([[*ids, *tokens]])).logits[:, -1]
            tokens.append(int(choose(logits, torch.tensor([seed]), len(tokens), law)[0]))
        assert sample.tokens == tokens
        assert sample.finish_reason == ("stop" if tokens[-1] == 0 else "length")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"resampler": "gumbel-top-k"}, "--resampler gumbel-top-k"),
        ({"resampler": "best-of-n"}, "--resampler best-of-n"),
        ({"min_ess": 2.0}, "--refine and --min-ess"),
        ({"value": "GROUP"}, "value 'rarity' is of each prompt's 4 samples together"),
        ({"value": "accepted=org/model"}, "column 'accepted'"),
    ],
)
def test_what_cannot_be_refined_is_named(make, tmp_path, settings, said):
    (tmp_path / "of_group.py").write_text("def rarity(prompt, completions):\n    return [0.0]\n")
    settings = {k: f"{tmp_path}/of_group.py:rarity" if v == "GROUP" else v for k, v in settings.items()}
    with pytest.raises(ConfigError, match=said):
        make("refused", refine=4, **settings)


def test_a_value_that_gives_one_text_two_numbers_is_named(tmp_path):
    (tmp_path / "lot.py").write_text(
        "import random\n\ndef lot(prompts, completions):\n    return [random.random() for _ in prompts]\n"
    )
    settings = {"basemodel": "toy", "value": f"{tmp_path}/lot.py:lot", "save_directory": str(tmp_path)}
    said = "value 'lot' gave one text two numbers"
    assert said in prepare(MCAligned(**settings, end=3, nsamples=2, refine=1)).opening
    assert said not in prepare(MCAligned(**settings, end=3, nsamples=2)).opening


def test_a_server_is_refused_by_name():
    model = reference.served("", "http://localhost:1/v1#lab/model", engine="openai")
    law = P0(model=model, dtype="", temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=5)
    with pytest.raises(ConfigError, match="draw by transformers"):
        check_refine(MCAligned(refine=2), law, ())


def test_the_summary_says_how_far_the_moves_came(refined):
    said = str(refined)
    for name in ("after the moves", "moves", "Σ λ r", "from above", "the draws"):
        assert name in said
    course = refined.summary.refinement.course
    assert [point.moves for point in course] == [0, 1, 2, 4, 8, 16]


def test_a_palette_out_of_reach_says_what_moves_bring(rewards_file, tmp_path):
    settings = {"basemodel": "toy", "nsamples": 2, "end": 64, "save_directory": str(tmp_path)}
    found = exptilt.palette(**settings, target=f"{rewards_file}:bees=0.99")
    moved = found.summary.moved
    assert not found.summary.feasible
    assert (moved.moves, moved.prompts) == (16, 16)
    assert moved.after["bees"].mean > moved.before["bees"].mean
    assert f"--refine {moved.moves}" in str(found)
    near = exptilt.palette(**settings, target=f"{rewards_file}:bees=+0.01")
    assert near.summary.moved is None


def test_prompts_at_which_a_move_fails_are_left_out_where_they_may_be(tmp_path):
    (tmp_path / "picky.py").write_text(
        "def picky(prompts, completions):\n"
        '    return [float("nan") if "dd" in c else float(len(c)) for c in completions]\n'
    )
    value = f"{tmp_path}/picky.py:picky"
    settings = {"basemodel": "toy", "value": value, "lam": 1.0, "nsamples": 1, "refine": 4, "end": 20}
    made = exptilt.mc_aligned(**settings, save_directory=str(tmp_path / "some"), allow_missing=True)
    assert 0 < made.summary.kept == 20 - len(made.summary.missing) < 20
    assert not made.records["completion"].str.contains("dd").any()
    with pytest.raises(ShardsFailed, match="value 'picky'"):
        exptilt.mc_aligned(**settings, save_directory=str(tmp_path / "all"))
