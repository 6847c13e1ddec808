"""With --chat a prompt is a user's turn: the model sees the template's text, everything else the prompt."""

import json
from pathlib import Path

import pytest
from chats import by_hand, chat_model
from checkpoints import causal
from transformers import AutoTokenizer

from exptilt.config.settings import MCAligned, Original
from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.errors import ModelError, PromptError
from exptilt.local_run import run
from exptilt.models import chat_template, reference
from exptilt.planning.plan import prepare
from exptilt.rewards.base import RewardSpec
from exptilt.rewards.perplexity import PerplexityReward
from exptilt.storage import keys

PROMPTS = ["abc", "fed cab", "a"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return chat_model(tmp_path_factory.mktemp("chat") / "letters")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> str:
    """The same weights; its tokenizer adds nothing and has no template."""
    return causal(tmp_path_factory.mktemp("plain") / "letters", "llama")


def p0(folder: str, **changes) -> P0:
    settings = {"dtype": "float32", "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 6}
    return P0(model=reference.checkpoint(folder), ends=(0,), **{**settings, **changes})


def draw(law: P0, prompts: list[str]):
    return TransformersEngine(law, "cpu").draw(prompts, keys.seeds_for(0, PROMPTS, 0, 8), 0)


def test_the_model_sees_the_template_once_filled_in(folder, plain):
    """The same samples, likelihoods included, as the text by hand with no special token added."""
    assert AutoTokenizer.from_pretrained(folder)("abc")["input_ids"] == [0, 1, 2, 3]
    asked = draw(p0(folder, chat=chat_template.digest(reference.checkpoint(folder))), PROMPTS)
    assert asked == draw(p0(plain), [by_hand(prompt) for prompt in PROMPTS])
    assert asked != draw(p0(folder), PROMPTS)


def test_perplexity_anew_is_that_of_the_draw(folder):
    law = p0(folder, chat=chat_template.digest(reference.checkpoint(folder)))
    spec = RewardSpec(value="perplexity", kind="perplexity", model=law.model, chat=law.chat)
    rows = draw(law, PROMPTS)
    texts = [prompt for prompt, row in zip(PROMPTS, rows, strict=True) for _ in row]
    samples = [sample for row in rows for sample in row]
    anew = PerplexityReward(spec, "cpu").score(texts, [s.completion for s in samples], [None] * len(samples))
    assert anew.recomputed == len(samples)
    assert anew.rewards == pytest.approx([-s.nll for s in samples], abs=1e-4)


@pytest.fixture
def config(folder, tmp_path):
    """Make a configuration of three prompts, with some settings changed."""
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": prompt} for prompt in PROMPTS]))

    def make(model=Original, **settings):
        common = {
            "basemodel": folder,
            "data": str(tmp_path / "p.json"),
            "max_new_tokens": 6,
            "top_k": 0,
            "chat": True,
        }
        return model(**{**common, "save_directory": str(tmp_path / "results"), **settings})

    return make


def test_prompts_and_records_stay_the_users_own(config, folder):
    said = {}
    for asked in (True, False):
        summary = run(prepare(config(MCAligned, value="perplexity", lam=1.0, nsamples=4, chat=asked)))
        said[asked] = json.loads(Path(summary.folder, "manifest.json").read_text())
        assert summary.tokens > 0
        assert [r["prompt"] for r in json.loads(Path(summary.json).read_text())] == PROMPTS
        card = Path(summary.folder, "README.md").read_text()
        assert asked == (", prompts in its chat template), resampled" in card)
    digest = chat_template.digest(reference.checkpoint(folder))
    assert said[True]["p0"]["chat"] == said[True]["rewards"][0]["chat"] == digest
    assert "chat" not in said[False]["p0"] | said[False]["rewards"][0]


def test_a_run_without_it_keeps_its_keys(toy_original):
    """The pool's key of a toy run, as it was before there was --chat."""
    config = toy_original(end=3, shard_size=3)
    run(prepare(config))
    folders = list(Path(config.save_directory, "pool", "samples").iterdir())
    assert [folder.name for folder in folders] == ["3d5f5ee0fa614781f27821fb69d93021"]


def test_the_template_takes_room(config, tmp_path):
    narrow = chat_model(tmp_path / "narrow", positions=20)
    with pytest.raises(PromptError, match=r"prompt 1 has 15 tokens, .* has room for 14 beside 6 new ones"):
        prepare(config(basemodel=narrow))
    assert prepare(config(basemodel=narrow, chat=False)).n_prompts == 3
    assert prepare(config(basemodel=narrow, on_long_prompt="truncate")).truncated == (1,)
    with pytest.raises(PromptError, match=r"prompt 0 fits into .* by no part of it"):
        prepare(config(basemodel=narrow, on_long_prompt="truncate", max_new_tokens=12))


@pytest.mark.parametrize("model", ["demo", "toy"])
def test_a_model_without_a_template_is_named(config, model):
    with pytest.raises(ModelError, match=f"^--chat: the tokenizer of '{model}' has no chat template"):
        prepare(config(basemodel=model))
