"""An ensemble is its members' rewards, standardised by the constants of its file and combined."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from processes import environment
from test_pipeline import go, records, table

import exptilt
from exptilt.config.settings import MCAligned
from exptilt.config.validation import build
from exptilt.errors import ConfigError, ModelError, ShardsFailed
from exptilt.planning.plan import prepare
from exptilt.stages.tables import prompts_of
from exptilt.tilting.ensemble import RULES, spread, standardised

OWN = """
def log(name, texts):
    with open(LOG, "a") as f: f.write(f"{name} {len(texts)}\\n")
def length(prompts, completions):
    log("length", completions)
    return [float(len(c)) for c in completions]
def bees(prompts, completions):
    log("bees", completions)
    return [float(c.count("b")) for c in completions]
def wins(prompt, completions): return [sum(c > d for d in completions) for c in completions]
def picky(prompts, completions): return [float("nan") if p == FIRST else 1.0 for p in prompts]
"""
SAMPLE = ["prompt_id", "sample_index"]
FILE = """
kind = "{kind}"
{k}
pool = "some pool"
[members]
"length=OWN:length" = {{ mean = 3.0, sd = 2.0 }}
"OWN:bees" = {{ mean = 0.5, sd = 0.25 }}
"""
RULE = {"mean": "", "min": "", "mean-k-sd": "k = 0.5"}


@pytest.fixture
def written(tmp_path, toy):
    """Write an ensemble's file, in which OWN is the file of functions; its value."""
    prompt = prompts_of(prepare(toy(nsamples=1)).shards[0])["prompt"][0]
    text = OWN.replace("FIRST", repr(prompt))
    (tmp_path / "own.py").write_text(text.replace("LOG", repr(f"{tmp_path}/calls.txt")))

    def write(text: str, name: str = "judge") -> str:
        (tmp_path / "e.toml").write_text(text.replace("OWN", f"{tmp_path}/own.py"))
        return f"{name}={tmp_path}/e.toml"

    return write


def of(kind: str) -> str:
    return FILE.format(kind=kind, k=RULE[kind])


def standard(summary) -> np.ndarray:
    """The standardised members of FILE, from the completions."""
    texts = table(summary, "samples").sort(SAMPLE)["completion"].to_list()
    rewards = np.array([[len(text), text.count("b")] for text in texts], dtype=float)
    return standardised(rewards, np.array([3.0, 0.5]), np.array([2.0, 0.25]))


def test_the_rules_are_what_they_are_called():
    members = np.array([[1.0, 2.0, 6.0], [-1.0, -1.0, -1.0]])
    assert spread(members).tolist() == pytest.approx([np.sqrt(7.0), 0.0])
    assert RULES["mean"](members, 0.0).tolist() == [3.0, -1.0]
    assert RULES["min"](members, 0.0).tolist() == [1.0, -1.0]
    assert RULES["mean-k-sd"](members, 2.0).tolist() == pytest.approx([3 - 2 * np.sqrt(7.0), -1.0])
    assert RULES["mean-k-sd"](members, 0.0).tolist() == RULES["mean"](members, 0.0).tolist()


@pytest.mark.parametrize("kind", RULE)
def test_an_ensembles_rewards_spread_and_draws_come_from_its_members(toy, written, kind):
    summary = go(toy(value=written(of(kind)), nsamples=6, end=40, ndraws=2))
    members, said = standard(summary), table(summary, "rewards").sort(SAMPLE)
    assert said["value"].unique().to_list() == ["judge"]
    assert said["reward"].to_list() == pytest.approx(RULES[kind](members, 0.5).tolist())
    spreads = said.select(SAMPLE).with_columns(spread=spread(members))
    before = spreads.group_by("prompt_id").agg(pl.col("spread").mean()).sort("prompt_id")["spread"]
    kept = table(summary, "draws").join(spreads, on=SAMPLE).group_by("prompt_id")
    after = kept.agg(pl.col("spread").mean()).sort("prompt_id")["spread"]
    diagnostics = table(summary, "diagnostics").sort("prompt_id")
    assert diagnostics["spread_before_judge"].to_list() == pytest.approx(before.to_list())
    assert diagnostics["spread_after_judge"].to_list() == pytest.approx(after.to_list())
    (change,) = summary.spreads
    assert (change.before.mean, change.after.mean) == pytest.approx((before.mean(), after.mean()))


def test_members_are_scored_once_and_what_was_scored_is_used(toy, written, tmp_path):
    value = written(of("mean"))
    go(toy(value=f"length={tmp_path}/own.py:length", nsamples=6))
    (tmp_path / "calls.txt").unlink()
    go(toy(value=value, nsamples=6))
    assert (tmp_path / "calls.txt").read_text().split("\n")[:-1] == ["bees 1", "bees 180"]
    (tmp_path / "calls.txt").unlink()
    again = go(toy(value=written(of("min")), nsamples=6))
    assert not (tmp_path / "calls.txt").exists()
    assert again.reused == {"samples": 1, "judge": 0}
    assert go(toy(value=value, nsamples=6, lam=3.0)).reused == {"samples": 1, "judge": 1}


def test_constants_are_in_the_key_and_the_pools_name_is_not(toy, written):
    config = toy(value=written(of("mean")), nsamples=4)
    go(config)
    written(of("mean").replace("some pool", "another"))
    assert go(config).reused["judge"] == 1
    written(of("mean").replace("0.25", "0.5"))
    assert go(config).reused["judge"] == 0


def test_manifest_card_opening_and_summary_say_it(toy, written):
    config = toy(value=written(of("mean-k-sd")), nsamples=4)
    assert "tilted by 1 × judge (mean-k-sd, k = 0.5, of length, bees)" in prepare(config).opening
    summary = go(config)
    (said,) = json.loads(Path(summary.folder, "manifest.json").read_text())["rewards"]
    assert (said["rule"], said["k"], said["pool"]) == ("mean-k-sd", 0.5, "some pool")
    assert [(m["value"], m["mean"], m["sd"]) for m in said["members"]] == [
        ("length", 3.0, 2.0),
        ("bees", 0.5, 0.25),
    ]
    card = Path(summary.folder, "README.md").read_text()
    assert (
        "(mean-k-sd, k = 0.5, of length (mean 3, sd 2), bees (mean 0.5, sd 0.25); constants of some" in card
    )
    assert "- spread: judge: sd across 2 members " in card


def test_more_samples_and_top_up_are_as_drawn_at_once(toy, written, tmp_path):
    value = written(of("min"))
    go(toy(value=value, nsamples=4))
    more = go(toy(value=value, nsamples=9))
    fresh = go(toy(value=value, nsamples=9, save_directory=str(tmp_path / "b")))
    assert records(more) == records(fresh)
    topped = go(toy(value=value, nsamples=8, lam=3.0, min_ess=4.0, max_nsamples=64))
    assert topped.samples > 30 * 8
    members, said = standard(topped), table(topped, "rewards").sort(SAMPLE)
    assert said["reward"].to_list() == pytest.approx(members.min(axis=1).tolist())


GROUP = 'kind = "mean"\n[members]\n"OWN:wins" = {mean = 3.0, sd = 2.0}\n"OWN:bees" = {mean = 0, sd = 1}\n'


def test_an_ensemble_with_a_group_is_of_a_group(toy, written, tmp_path):
    value = written(GROUP)
    go(toy(value=value, nsamples=8))
    few = go(toy(value=value, nsamples=4))
    assert records(few) == records(go(toy(value=value, nsamples=4, save_directory=str(tmp_path / "b"))))
    with pytest.raises(
        ConfigError, match=r"^--min-ess .* value 'judge' is of each prompt's 4 samples together"
    ):
        prepare(toy(value=value, nsamples=4, min_ess=2.0))


def test_a_prompt_that_a_member_fails_at_may_be_left_out(toy, written):
    value = written(GROUP.replace("wins", "picky"))
    with pytest.raises(ShardsFailed, match=r"value 'picky'.* gave nan for prompt 0"):
        go(toy(value=value, nsamples=4))
    summary = go(toy(value=value, nsamples=4, allow_missing=True))
    assert [missing.prompt_index for missing in summary.missing] == [0]


MEMBER = '"OWN:{}" = {{ mean = 0, sd = 1 }}\n'
TWO = MEMBER.format("length") + MEMBER.format("bees")
BAD = {
    "kind = 1": "kind is mean, min, mean-k-sd, got 1",
    f'[members]\n{TWO}': "kind is mean, min, mean-k-sd, got None",
    f'kind = "median"\n[members]\n{TWO}': "got 'median'",
    f'kind = "mean-k-sd"\n[members]\n{TWO}': "kind mean-k-sd needs k",
    f'kind = "mean"\nk = 1\n[members]\n{TWO}': "and no other kind has it",
    f'kind = "mean-k-sd"\nk = nan\n[members]\n{TWO}': "k is a finite number of at least 0, got nan",
    f'kind = "mean-k-sd"\nk = true\n[members]\n{TWO}': "k is a finite number of at least 0, got True",
    f'kind = "mean"\nweights = 1\n[members]\n{TWO}': "unknown key 'weights'",
    'kind = "mean"': "needs two or more members",
    f'kind = "mean"\n[members]\n{MEMBER.format("bees")}': "needs two or more members",
    f'kind = "mean"\n[members]\n{TWO.replace("1", "0", 1)}': "member '.*:length' .* an sd over 0, got 0, 0",
    f'kind = "mean"\n[members]\n{TWO.replace("1", "inf", 1)}': "member '.*:length' needs .* got 0, inf",
    f'kind = "mean"\n[members]\n{TWO}positive = 1': r"member 'positive' needs \{ mean, sd \}, got 1",
    f'kind = "mean"\n[members]\n{TWO}positive = {{mean = 1}}': r"needs \{ mean, sd \}",
    f'kind = "mean"\n[members]\n{TWO}nonesuch = {{mean = 1, sd = 1}}': "unknown value 'nonesuch'",
    f'kind = "mean"\n[members]\n{TWO}"a=FOLDER/e.toml" = {{mean = 1, sd = 1}}': "is an ensemble itself",
    f'kind = "mean"\n[members]\n{TWO}"bees=OWN:length" = {{mean = 1, sd = 1}}': "'bees' is there twice",
    f'kind = "mean"\n[members]\n{TWO}"judge=OWN:length" = {{mean = 1, sd = 1}}': "'judge' is there twice",
    f'kind = "mean"\n[members]\n{TWO}{MEMBER.format("bees")}': "is not TOML",
    "kind = ": "is not TOML",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_a_file_that_is_no_ensemble_is_refused_in_one_line(toy, written, tmp_path, text):
    value = written(text.replace("FOLDER", str(tmp_path)))
    with pytest.raises(ConfigError, match=BAD[text]) as caught:
        build(MCAligned, {"basemodel": "toy", "value": value, "lam": 1.0})
    assert str(caught.value).startswith("--value judge=")
    assert "\n" not in str(caught.value)


def test_a_missing_name_a_missing_file_and_one_member_twice_are_refused(toy, written, tmp_path):
    value = written(of("mean"))
    for bad, said in [
        (value.removeprefix("judge="), "an ensemble needs a name, NAME="),
        (f"judge={tmp_path}/none.toml", "none.toml: No such file"),
        (f"{value}:prob", "are for classifiers"),
    ]:
        with pytest.raises(ConfigError, match=said):
            build(MCAligned, {"basemodel": "toy", "value": bad, "lam": 1.0})
    twice = written(f'kind = "mean"\n[members]\n{TWO}"again=OWN:bees" = {{ mean = 0, sd = 1 }}')
    with pytest.raises(ModelError, match="value 'judge': 'bees' and 'again' are one member"):
        prepare(toy(value=twice))


def test_constants_come_from_a_runs_samples_and_standardise_them(toy, written, tmp_path):
    written("")
    members = (f"length={tmp_path}/own.py:length", f"{tmp_path}/own.py:bees")
    run = go(toy(value=members, lam=(0.0, 0.0), nsamples=8))
    text = exptilt.constants(run.folder)
    command = [sys.executable, "-m", "exptilt.command", "constants", run.folder, "--value", "bees,length"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), check=True)
    assert tomllib.loads(done.stdout) == tomllib.loads(text)
    found = tomllib.loads(text)["members"]
    for name, value in zip(("length", "bees"), members, strict=True):
        numbers = table(run, f"rewards/{name}")["reward"].to_numpy()
        assert found[value] == pytest.approx({"mean": numbers.mean(), "sd": numbers.std(ddof=1)})
    judged = table(go(toy(value=written(text), nsamples=8)), "rewards")["reward"].to_numpy()
    assert judged.mean() == pytest.approx(0.0, abs=1e-12)
    for bad, said in [(str(tmp_path), "no finished data set"), (run.folder, "has no member 'humor'")]:
        with pytest.raises(ConfigError, match=said):
            exptilt.constants(bad, ["humor"])


def test_sweeps_palettes_and_files_take_ensembles(written, tmp_path):
    value = written(of("mean-k-sd"))
    where = {"basemodel": "toy", "save_directory": str(tmp_path / "results")}
    drawn = {**where, "end": 30, "nsamples": 6, "value": value}
    assert len(exptilt.sweep(lam="judge=0:1:0.5", **drawn).summary.points) == 3
    assert exptilt.palette(target="judge=+0.1", **drawn).summary.feasible
    (tmp_path / "t.json").write_text(
        json.dumps([{"prompt": "a", "generated": text} for text in ("abb", "a")])
    )
    scored = exptilt.score(
        file=str(tmp_path / "t.json"), output=str(tmp_path / "o.json"), value=value, **where
    )
    members = np.array([[(2 - 3) / 2, (2 - 0.5) / 0.25], [(0 - 3) / 2, (0 - 0.5) / 0.25]])
    expected = members.mean(axis=1) - 0.5 * members.std(axis=1, ddof=1)
    assert scored.records["judge"].to_list() == pytest.approx(expected.tolist())
