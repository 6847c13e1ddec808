"""A user's function is given what its parameters name: samples, conversations, or a prompt's whole group."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from test_pipeline import go, records, table

import exptilt
from exptilt.config.scoring import Scoring
from exptilt.conversation import Message
from exptilt.engines import registry
from exptilt.errors import ConfigError, RewardError, ShardsFailed
from exptilt.local_run import run
from exptilt.planning import score_file
from exptilt.planning.plan import prepare
from exptilt.planning.values import resolve_values
from exptilt.rewards import load
from exptilt.stages.tables import prompts_of

OWN = """
import asyncio, functools, statistics

def pairs(prompts, completions): return [len(p) * 100 + len(c) for p, c in zip(prompts, completions)]
def others(xs, ys): return pairs(xs, ys)
def only(prompts, completions, /): return pairs(prompts, completions)
def named(*, completions, prompts): return pairs(prompts, completions)
def turned(completions, prompts): return pairs(prompts, completions)
def many(*args): return pairs(*args)
def more(prompts, completions, weight=1.0, **rest): return [weight * n for n in pairs(prompts, completions)]
def answers(completions, **rest): return [len(c) for c in completions]
def turns(messages): return [len(m) * 1000 + len(m[-1]["content"]) for m in messages]
def both(prompts, weight=1, messages=None): return [len(p) + len(m) for p, m in zip(prompts, messages)]
def wins(prompt, completions): return [sum(len(c) > len(d) for d in completions) for c in completions]
def winning(prompt, messages): return wins(prompt, [m[-1]["content"] for m in messages])
def scaled(power, prompts, completions): return [n**power for n in pairs(prompts, completions)]
square = functools.partial(scaled, 2)
short = lambda p, c: pairs(p, c)

class Judge:
    def __call__(self, messages): return turns(messages)
    async def later(self, messages): return turns(messages)
    def count(self, prompts, completions): return pairs(prompts, completions)
    def __init__(self, *names): pass
judge = Judge()
count = judge.count

def kept(f):
    @functools.wraps(f)
    def wrapper(*args): return f(*args)
    return wrapper
decorated = kept(wins)

async def slow(prompts, completions): return pairs(prompts, completions)
later = judge.later
async def stream(prompts, completions): yield 1.0
def none(): return []
def one(prompts): return [1.0 for _ in prompts]
def alone(prompt): return [1.0]
def three(a, b, c): return a
def single(prompt, completion): return 1.0
def mixed(prompt, prompts, completions): return 1.0
def swapped(answers, prompts): return 1.0
def lacking(messages, weight): return [weight for _ in messages]

def spread(prompt, completions):
    lengths = [len(c) for c in completions]
    return [(n - statistics.mean(lengths)) / (statistics.stdev(lengths) + 1) for n in lengths]
def picky(prompt, completions):
    if prompt == FIRST: raise KeyError("the first")
    return [float("b" in c) for c in completions]
def few(prompt, completions): return 1.0
def written(prompt, completions):
    with open(LOG, "a") as f: f.write(f"{len(completions)}\\n")
    return wins(prompt, completions)
"""
PROMPTS, COMPLETIONS = ("why?", "oh", "why?"), ("yes", "", "because")
CHAT = (Message("system", "Be brief."), Message("user", "why?"))


@pytest.fixture
def own(tmp_path, toy):
    """The value of a function of OWN, by its name."""
    prompt = prompts_of(prepare(toy(nsamples=1)).shards[0])["prompt"][0]
    text = OWN.replace("FIRST", repr(prompt)).replace("LOG", repr(f"{tmp_path}/calls.txt"))
    (tmp_path / "own.py").write_text(text)
    return lambda name: f"{tmp_path}/own.py:{name}"


def spec_of(value: str, n: int = 3):
    (spec,) = resolve_values([value], registry.base_model("toy"), "cpu", "float32", n=n)
    return spec


def scored(value: str, prompts=PROMPTS, completions=COMPLETIONS) -> list[float]:
    reward = load(spec_of(value), "cpu")
    return reward.score(prompts, completions, [None] * len(prompts)).rewards.tolist()


@pytest.mark.parametrize(
    "name", ["pairs", "others", "only", "named", "turned", "many", "more", "short", "count"]
)
def test_samples_are_given_by_name_and_where_no_name_says_it_by_place(own, name):
    assert scored(own(name)) == [403, 200, 407]
    assert spec_of(own(name)).group is None


def test_other_shapes_of_the_same(own):
    assert scored(own("answers")) == [3, 0, 7]
    assert scored(own("square")) == [403**2, 200**2, 407**2]


@pytest.mark.parametrize("name", ["turns", "judge"])
def test_messages_are_the_conversation_with_its_answer(own, name):
    assert scored(own(name)) == [2003, 2000, 2007]
    assert scored(own(name), (CHAT, "why?"), ("yes", "no")) == [3003, 2002]
    assert scored(own("both")) == [6, 4, 6]


def test_messages_are_dicts_of_role_and_content(tmp_path):
    body = f"open('{tmp_path}/seen', 'w').write(repr(messages)); return [1] * len(messages)"
    (tmp_path / "r.py").write_text(f"def f(messages): {body}")
    scored(f"{tmp_path}/r.py:f", (CHAT, "why?"), ("yes", "no"))
    asked, yes, no = (
        {"role": "user", "content": "why?"},
        *({"role": "assistant", "content": c} for c in ("yes", "no")),
    )
    system = {"role": "system", "content": "Be brief."}
    assert eval((tmp_path / "seen").read_text()) == [[system, asked, yes], [asked, no]]


@pytest.mark.parametrize("name", ["wins", "winning", "decorated"])
def test_a_group_is_all_samples_of_one_prompt(own, name):
    assert scored(own(name), ("why?",) * 3, ("a", "abc", "ab")) == [0, 2, 1]
    assert spec_of(own(name), 3).identity["group"] == 3


def test_the_usual_contract_leaves_the_key_as_it_was(own):
    for name in ("pairs", "others", "many", "short"):
        assert not {"takes", "group"} & spec_of(own(name)).identity.keys()
    keys = [spec_of(own(name)).identity for name in ("turned", "turns", "wins")]
    assert [key["takes"] for key in keys] == [
        ["completions", "prompts"],
        ["messages"],
        ["prompt", "completions"],
    ]


REFUSED = ["none", "one", "alone", "three", "single", "mixed", "swapped", "lacking"]
OTHER = {
    "Judge": "is a class",
    "slow": "is async",
    "later": "is async",
    "stream": "is async",
    "OWN": "no attribute",
}


@pytest.mark.parametrize("name", [*REFUSED, *OTHER])
def test_what_fits_no_contract_is_refused_in_one_line_before_anything_is_drawn(toy, own, name):
    config = toy(value=own(name))
    said = OTHER.get(name, r"takes \(.*\), which fits no contract: write \(prompts, completions\) or ")
    with pytest.raises(RewardError, match=rf"^value '{name}': .*own.py:{name} .*{said}") as caught:
        prepare(config)
    assert "\n" not in str(caught.value)
    assert not Path(config.save_directory, "pool", "samples").exists()


def rewards_of(summary) -> pl.DataFrame:
    return table(summary, "rewards").sort("prompt_id", "sample_index")


def test_a_groups_rewards_are_of_all_its_samples_whatever_the_shards(toy, own, tmp_path):
    one = go(toy(value=own("wins"), nsamples=6, end=70, shard_size=70))
    said = rewards_of(one).join(table(one, "samples"), on=["prompt_id", "sample_index"])
    for _, rows in said.group_by("prompt_id"):
        lengths = rows["completion"].str.len_chars().to_numpy()
        assert rows["reward"].to_list() == (lengths[:, None] > lengths).sum(axis=1).tolist()
    other = go(toy(value=own("wins"), nsamples=6, end=70, shard_size=1, save_directory=str(tmp_path / "b")))
    assert records(one) == records(other)


def test_more_samples_make_another_value_and_a_larger_pool_none(toy, own, tmp_path):
    few = go(toy(value=own("wins"), nsamples=4))
    more = go(toy(value=own("wins"), nsamples=9))
    assert (few.reused, more.reused) == ({"samples": 0, "wins": 0}, {"samples": 0, "wins": 0})
    assert rewards_of(more)["reward"].max() > 3
    fresh = go(toy(value=own("wins"), nsamples=9, save_directory=str(tmp_path / "b")))
    assert records(more) == records(fresh)
    again = go(toy(value=own("wins"), nsamples=4))
    assert again.reused == {"samples": 1, "wins": 1}
    assert records(again) == records(few)


def test_the_function_is_called_once_for_each_prompt_with_all_its_samples(toy, own, tmp_path):
    config = toy(value=own("written"), nsamples=5, end=40)
    plan = prepare(config)
    (tmp_path / "calls.txt").unlink()
    run(plan)
    assert (tmp_path / "calls.txt").read_text().split() == ["5"] * 40


def test_top_up_is_refused_beside_a_group(toy, own):
    config = toy(value=own("wins"), nsamples=4, min_ess=2.0)
    said = r"^--min-ess draws more samples .* value 'wins' is of each prompt's 4 samples together"
    with pytest.raises(ConfigError, match=said):
        prepare(config)
    assert not Path(config.save_directory, "pool", "samples").exists()


def test_a_group_is_tried_with_a_group(toy, own):
    assert go(toy(value=own("spread"), nsamples=5)).kept == 30
    assert go(toy(value=own("spread"), nsamples=5, lam=2.0)).tokens == 0
    with pytest.raises(RewardError, match=r"value 'few' gave shape \(\) for 5 samples"):
        prepare(toy(value=own("few"), nsamples=5, seed=3))


def test_a_group_that_fails_is_named_and_may_be_left_out(toy, own):
    config = toy(value=own("picky"), nsamples=4)
    with pytest.raises(ShardsFailed, match=r"prompt 0 .*value 'picky' failed with KeyError: 'the first'"):
        go(config)
    summary = go(toy(value=own("picky"), nsamples=4, allow_missing=True))
    assert [missing.prompt_index for missing in summary.missing] == [0]
    assert summary.kept == 29


def test_opening_manifest_and_card_say_that_a_value_is_of_a_group(toy, own):
    config = toy(value=own("wins"), nsamples=4)
    said = "note: value 'wins' is of each prompt's 4 samples together: another --nsamples scores them anew"
    assert said in prepare(config).opening.splitlines()
    summary = go(config)
    (described,) = json.loads(Path(summary.folder, "manifest.json").read_text())["rewards"]
    assert (described["takes"], described["group"]) == (["prompt", "completions"], 4)
    card = Path(summary.folder, "README.md").read_text()
    assert "own.py:wins (function of each prompt's 4 samples together)" in card


def test_a_files_group_is_the_records_of_a_prompt(own, tmp_path):
    rows = [("a", "a x"), ("b", "b"), ("a", "a xyz"), ("a", "a")]
    given = [{"prompt": p, "generated": t} for p, t in rows]
    (tmp_path / "t.json").write_text(json.dumps(given))
    where = {"basemodel": "toy", "save_directory": str(tmp_path / "out")}
    values = [own("wins"), own("turns")]
    for reused in (0, 1):
        done = exptilt.score(
            file=str(tmp_path / "t.json"), output=str(tmp_path / "o.json"), value=values, **where
        )
        assert done.summary.reused == {"wins": reused, "turns": reused}
    config = Scoring(file=str(tmp_path / "t.json"), output=str(tmp_path / "p.json"), value=values, **where)
    said = "note: value 'wins' is of each prompt's samples in the file together"
    assert score_file.prepare(config).opening.splitlines()[1:] == [said]
    found = json.loads((tmp_path / "o.json").read_text())
    assert [row["wins"] for row in found] == [1, 0, 2, 0]
    assert [row["turns"] for row in found] == [2002, 2000, 2004, 2000]


def test_sweeps_and_palettes_take_groups(toy, own, tmp_path):
    where = {"basemodel": "toy", "end": 30, "nsamples": 6, "save_directory": str(tmp_path / "results")}
    swept = exptilt.sweep(value=f"w={own('wins')}", lam="w=0:1:0.5", **where)
    assert len(swept.summary.points) == 3
    found = exptilt.palette(value=f"w={own('wins')}", target="w=+0.2", **where)
    assert found.summary.feasible
    assert np.isfinite(found.records["lam"][0])
