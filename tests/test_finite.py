"""Logits that are not finite end the draw by name; nothing of it is kept, and what is finite is exact."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from checkpoints import LETTERS, alter, causal
from families import CHARACTERS, causal_model
from processes import ROOT, run_flow

from exptilt.config.settings import MCAligned, Original
from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.errors import LogitsError, RefusedError, ShardsFailed, StorageError
from exptilt.local_run import run
from exptilt.models import reference
from exptilt.models.likelihood import text_nll
from exptilt.planning.plan import prepare
from exptilt.storage import filesystem, keys, pool, schemas

BAD = CHARACTERS.index("d") + 1  # the token whose embedding is NaN
TEXTS = ["abc", "fade", "cab", "bad", "face"]
DAMAGED = "its checkpoint is damaged: fetch or save it anew"


def p0(folder: str, **changes) -> P0:
    settings = {"dtype": "float32", "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 6}
    return P0(model=reference.checkpoint(folder), ends=(0,), named_ends=(0,), **{**settings, **changes})


def draw(law: P0, prompts: list[str], n: int = 8):
    return TransformersEngine(law, "cpu").draw(prompts, keys.seeds_for(0, prompts, 0, n), 0)


def go(config):
    return run(prepare(config))


@pytest.fixture
def overflowing(tmp_path) -> str:
    """A model whose numbers are too large for float16 alone."""
    folder = causal(tmp_path / "large", "llama")
    return alter(folder, "model.layers.1.mlp.down_proj.weight", lambda w: w.mul_(1e5))


@pytest.fixture(scope="module")
def holed(tmp_path_factory) -> str:
    """A model that gives NaN behind one token, which it never draws: its logit is -Inf everywhere."""
    folder = causal_model("phi", tmp_path_factory.mktemp("holed") / "letters")
    alter(folder, "model.embed_tokens.weight", lambda w: w[BAD].fill_(torch.nan))
    return alter(folder, "lm_head.bias", lambda b: b[BAD].fill_(-torch.inf))


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": text} for text in TEXTS]))
    common = {"data": str(tmp_path / "p.json"), "shard_size": 1, "max_new_tokens": 4, "dtype": "float32"}
    return {**common, "save_directory": str(tmp_path / "results"), "nsamples": 3}


@pytest.mark.parametrize("top_k", [0, 3])
def test_what_float16_cannot_hold_is_said_with_prompt_model_and_type(overflowing, top_k):
    said = (
        r"^large in float16 .* finite at 'abc': .* too large for the type: use --dtype bfloat16 or float32$"
    )
    with pytest.raises(LogitsError, match=said):
        draw(p0(overflowing, dtype="float16", top_k=top_k), ["abc"])
    for dtype in ("bfloat16", "float32"):
        assert all(np.isfinite(s.logprob) for s in draw(p0(overflowing, dtype=dtype), ["abc"])[0])


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(("dtype", "advice"), [("float32", DAMAGED), ("bfloat16", "try --dtype float32; ")])
def test_a_weight_that_is_no_number_is_found(tmp_path, number, dtype, advice):
    folder = causal(tmp_path / "broken", "gpt2")
    alter(folder, "transformer.h.1.mlp.c_fc.weight", lambda w: w[3, 5].fill_(number))
    with pytest.raises(
        LogitsError, match=f"^broken in {dtype} gives logits that are not finite at 'abc': {advice}"
    ):
        draw(p0(folder, dtype=dtype), ["abc"])


def test_logits_behind_a_drawn_token_count(tmp_path):
    """The end of a completion may be NaN where its beginning is not: neither is kept."""
    folder = causal(tmp_path / "late", "llama")
    alter(folder, "model.embed_tokens.weight", lambda w: w[LETTERS.index("d") + 1].fill_(torch.nan))
    assert all(np.isfinite(s.logprob) for s in draw(p0(folder, max_new_tokens=1), ["abc"], 32)[0])
    with pytest.raises(LogitsError, match="not finite at 'abc'") as caught:
        draw(p0(folder), ["abc"], 32)
    assert caught.value.place == 0


def test_a_token_without_probability_is_never_drawn_and_the_rest_is_exact(tmp_path):
    folder = causal_model("phi", tmp_path / "masked")
    alter(folder, "lm_head.bias", lambda b: b[2:].fill_(-torch.inf))  # what is left: the end token and "a"
    engine = TransformersEngine(p0(folder), "cpu")
    samples = engine.draw(["abc"], keys.seeds_for(0, ["abc"], 0, 64), 0)[0]
    assert {letter for s in samples for letter in s.completion} == {"a"}
    tokens = engine.tokenizer("abc" + "a" * 6)["input_ids"]
    with torch.no_grad():
        logp = engine.model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    for s in samples:
        drawn = [1] * len(s.completion) + [0] * (s.finish_reason == "stop")
        expected = sum(float(logp[2 + i, token]) for i, token in enumerate(drawn))
        assert s.logprob == pytest.approx(expected, abs=1e-4)


def test_nothing_but_tokens_without_probability_is_refused(tmp_path):
    folder = causal_model("phi", tmp_path / "empty")
    alter(folder, "lm_head.bias", lambda b: b.fill_(-torch.inf))
    with pytest.raises(LogitsError, match=r"^empty in float32 gives logits that are not finite at 'abc'"):
        draw(p0(folder), ["abc"])


def test_the_prompts_own_logits_count(tmp_path):
    """+Inf within the prompt alone makes no draw impossible, but its likelihood is not known."""
    folder = causal(tmp_path / "within", "llama")
    engine = TransformersEngine(p0(folder), "cpu")
    pairs = [a + b for a in LETTERS for b in LETTERS]
    tokens = torch.tensor([engine.tokenizer(text)["input_ids"] for text in pairs])
    with torch.no_grad():
        up = (engine.model.model(tokens).last_hidden_state > 0).int()
    column = int((up[:, 0] * (1 - up[:, 1])).any(0).logical_and((up.sum(1) == 0).any(0)).nonzero()[0])
    bad, good = (
        pairs[int((up[..., column] == torch.tensor(w)).all(1).nonzero()[0])] for w in ([1, 0], [0, 0])
    )
    alter(folder, "lm_head.weight", lambda w: w[1].zero_()[column].fill_(torch.inf))  # "a": +Inf or -Inf
    engine = TransformersEngine(p0(folder, max_new_tokens=1), "cpu")
    (row,) = engine.draw([good], keys.seeds_for(0, [good], 0, 4), 0)
    assert all(np.isfinite(s.logprob) for s in row)
    with pytest.raises(LogitsError, match=f"not finite at '{bad}'"):
        engine.draw([bad], keys.seeds_for(0, [bad], 0, 4), 0)
    with pytest.raises(LogitsError, match=f"not finite at '{bad}'"):
        text_nll(engine.model, engine.tokenizer, [good, bad], "cpu")


def test_padding_brings_no_nan_to_a_prompt(tmp_path):
    """The shorter prompt of a batch is padded, but not by a token that gives NaN."""
    whole, holed = (causal_model("phi", tmp_path / name) for name in ("whole", "holed"))
    alter(holed, "model.embed_tokens.weight", lambda w: w[0].fill_(torch.nan))
    assert TransformersEngine(p0(holed), "cpu").way == "shared"
    prompts = ["ab", "abcabcab"]
    for expected, row in zip(draw(p0(whole), prompts), draw(p0(holed), prompts), strict=True):
        assert [s.completion for s in row] == [s.completion for s in expected]
        assert [s.logprob for s in row] == pytest.approx([s.logprob for s in expected], abs=1e-4)


def test_a_run_saves_the_shards_without_it_and_leaves_it_out_if_asked(holed, settings):
    with pytest.raises(
        ShardsFailed, match=r"prompt 1 \('fade'\): drawing failed with LogitsError: letters in"
    ):
        go(Original(**settings, basemodel=holed))
    config = Original(**settings, basemodel=holed, allow_missing=True)
    summary = go(config)
    assert [m.prompt_index for m in summary.missing] == [1, 3]
    assert (summary.prompts, summary.samples) == (3, 9)
    manifest = json.loads(Path(summary.folder, "manifest.json").read_text())
    assert "LogitsError" in manifest["summary"]["missing"][0]["why"]
    drawn = pl.read_parquet(f"{summary.folder}/samples/*.parquet")
    assert drawn["logprob"].is_finite().all()
    assert {r["prompt"] for r in json.loads(Path(summary.json).read_text())} == {"abc", "cab", "face"}


def test_where_no_prompt_can_be_drawn_it_is_said_while_planning(overflowing, settings):
    settings["dtype"] = "float16"
    for allowed in (False, True):
        with pytest.raises(LogitsError, match=r"^large in float16 gives logits that are not finite at 'abc'"):
            prepare(Original(**settings, basemodel=overflowing, allow_missing=allowed))
    assert not list(Path(settings["save_directory"]).rglob("samples"))


@pytest.mark.soak
def test_the_flow_ends_with_one_line_and_no_records(overflowing, server, tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": text} for text in TEXTS]))
    arguments = ["--basemodel", overflowing, "--dtype", "float16", "--data", "p.json", "--nsamples", "4"]
    original = ROOT / "flows" / "original.py"
    done = run_flow(*arguments, "--max-new-tokens", "8", env=server, cwd=tmp_path, file=original)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "error: large in float16 gives logits that are not finite at 'abc': its numbers are too large for "
        "the type: use --dtype bfloat16 or float32"
    ]
    assert not list((tmp_path / "results").glob("*.json"))


@pytest.mark.parametrize("temperature", [1e-30, 1e-50, 5e-324])
def test_a_tiny_temperature_takes_the_likeliest_token(tmp_path, toy_original, temperature):
    folder = causal(tmp_path / "cold", "llama")
    cold, greedy = (draw(p0(folder, **c), ["abc"])[0] for c in ({"temperature": temperature}, {"top_k": 1}))
    assert [s.completion for s in cold] == [s.completion for s in greedy]
    assert all(s.logprob == 0 for s in cold)
    found = [go(toy_original(end=3, **c)) for c in ({"temperature": temperature}, {"top_k": 1})]
    assert found[0].samples == 3
    rows = [pl.read_parquet(f"{summary.folder}/samples/*.parquet")["completion"] for summary in found]
    assert rows[0].equals(rows[1])


def test_a_value_of_a_prompt_that_the_model_gives_no_probability_is_no_reward(settings, tmp_path):
    """Its likelihood is 0, and so its NLL infinite: no NaN, but no reward either."""
    masked = causal_model("phi", tmp_path / "masked")
    alter(masked, "lm_head.bias", lambda b: b[BAD].fill_(-torch.inf))
    found = [s.nll for row in draw(p0(masked), ["abc", "bad"], 2) for s in row]
    assert [np.isfinite(nll) for nll in found] == [True, True, False, False]
    with pytest.raises(ShardsFailed, match=r"value 'perplexity' .* gave -inf for prompt 1"):
        go(MCAligned(**settings, basemodel=masked, value="perplexity", lam=1.0))


FLOATS = [(name, c) for name, t in schemas.TABLES.items() for c, kind in t.items() if kind == pl.Float64()]


@pytest.mark.parametrize(("name", "column"), [*FLOATS, ("explored", "levels")])
def test_no_table_holds_nan_and_infinity_may_be(name, column):
    schema = schemas.TABLES[name]
    values = {pl.String(): "a", pl.Categorical(): "a", pl.List(pl.Float64()): [0.0, 1.0]}
    row = {c: values.get(kind, 1) for c, kind in schema.items()}
    for number in (np.inf, -np.inf, np.nan):
        changed = [1.0, number] if column == "levels" else number
        table = pl.DataFrame([row, {**row, column: changed}], schema=schema, strict=False)
        if np.isnan(number):
            with pytest.raises(StorageError, match=f"^table '{name}' has NaN in column '{column}'$"):
                schemas.validate(name, table)
        else:
            assert schemas.validate(name, table) is table


def test_samples_with_nan_of_an_older_pool_are_refused_by_name(toy_original):
    """They were written when NaN was no error, without a count of cut texts."""
    config = toy_original(end=3, shard_size=3)
    go(config)
    (folder,) = Path(config.save_directory, "pool", "samples").iterdir()
    entry = pool.described(str(folder / "0-1"))
    table = entry.table("samples").with_columns(logprob=pl.lit(np.nan))
    data = filesystem.parquet_bytes(table)
    (folder / "0-1" / "samples.parquet").write_bytes(data)
    files = {"samples": {"rows": 3, "bytes": len(data), "sha256": filesystem.sha256(data)}}
    meta = {name: value for name, value in entry.meta.items() if name != "cut"}
    (folder / "0-1" / "manifest.json").write_text(json.dumps({"files": files, "meta": meta}))
    with pytest.raises(
        RefusedError, match=r"0-1 was drawn by an older version .* 'logprob'\): remove it and run"
    ):
        go(config)
    with pytest.raises(RefusedError, match="remove it and run again"):
        go(toy_original(end=3, shard_size=3, nsamples=2))
