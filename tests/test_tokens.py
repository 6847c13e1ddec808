"""A text is opened by its tokenizer's tokens once and closed by none, and one beyond the model's context
counts by its last tokens."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import LETTERS, causal
from families import causal_model
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers import models as token_models
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from exptilt.config.settings import MCAligned, Original
from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.errors import PromptError
from exptilt.local_run import run
from exptilt.models import reference
from exptilt.models.likelihood import text_nll
from exptilt.models.tokenization import are_opened, encode, positions
from exptilt.planning.plan import prepare
from exptilt.reports.summary_text import facts
from exptilt.storage import keys

START = 7  # the token "<s>"; 0 is "<e>"
PROMPTS = ["abc", "fed", "a", "cabbed"]


def tokenizer(template: str, more: tuple[str, ...] = (), lstrip: bool = False) -> PreTrainedTokenizerFast:
    """One token per letter behind what `template` puts around a text; `more` are tokens that a model can
    draw and no text gives."""
    names = ["<e>", *"abcdef", "<s>"]
    names[8 - len(more) - 1 : 7] = more
    inner = Tokenizer(token_models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="a"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    inner.post_processor = TemplateProcessing(single=template, special_tokens=[("<e>", 0), ("<s>", START)])
    start = AddedToken("<s>", special=True, lstrip=lstrip)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<e>", bos_token=start)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """The same weights with tokenizers that put different tokens around a text."""
    root = tmp_path_factory.mktemp("tokens")
    weights = causal(root / "weights", "llama", 16)
    found = {}
    for template in ("$A", "<s> $A", "$A <e>", "<s> $A <e>"):
        found[template] = str(root / f"model{len(found)}")
        shutil.copytree(weights, found[template])
        tokenizer(template).save_pretrained(found[template])
    return found


def law_of(folder: str, **changes) -> P0:
    settings = {"dtype": "float32", "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 6}
    return P0(model=reference.checkpoint(folder), ends=(0,), named_ends=(0,), **{**settings, **changes})


def draw(folder: str, prompts: list[str]):
    return TransformersEngine(law_of(folder), "cpu").draw(prompts, keys.seeds_for(0, PROMPTS, 0, 8), 0)


def planned(folder: str, prompts: list[str], **changes) -> P0:
    root = Path(folder).parent
    (root / "p.json").write_text(json.dumps([{"prompt": text} for text in prompts]))
    settings = {"data": str(root / "p.json"), "save_directory": str(root / "results"), "max_new_tokens": 6}
    return prepare(Original(basemodel=folder, dtype="float32", **{**settings, **changes})).recipe.p0


def by_hand(folder: str, tokens: list[int]) -> float:
    """The mean NLL of tokens by one pass over them."""
    model = TransformersEngine(law_of(folder), "cpu").model
    with torch.no_grad():
        logp = model(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    return -float(np.mean([logp[i, token] for i, token in enumerate(tokens[1:])]))


@pytest.mark.parametrize(("closing", "plain"), [("$A <e>", "$A"), ("<s> $A <e>", "<s> $A")])
def test_what_a_tokenizer_puts_at_the_end_is_no_part_of_a_prompt(folders, closing, plain):
    assert AutoTokenizer.from_pretrained(folders[closing])("a")["input_ids"][-1] == 0
    assert draw(folders[closing], PROMPTS) == draw(folders[plain], PROMPTS)


def test_a_prompt_that_opens_itself_is_opened_once(folders):
    written = [f"<s>{prompt}" for prompt in PROMPTS]
    expected = draw(folders["<s> $A"], PROMPTS)
    for template in ("$A", "<s> $A", "<s> $A <e>"):
        assert draw(folders[template], written) == expected
    assert draw(folders["$A"], PROMPTS) != expected


def test_the_law_says_so_where_it_changes_a_draw_and_only_there(folders):
    before = planned(folders["<s> $A"], PROMPTS).identity
    assert "opened" not in before | planned(folders["$A"], ["<s>abc"]).identity
    assert planned(folders["<s> $A"], [*PROMPTS, "<s>abc"]).identity == {**before, "opened": True}
    for template in ("$A <e>", "<s> $A <e>"):
        assert planned(folders[template], PROMPTS).identity["opened"] is True


@pytest.mark.parametrize("lstrip", [False, True])
@pytest.mark.parametrize("template", ["$A", "<s> $A", "<s> <s> $A"])
def test_a_text_is_opened_where_its_tokens_say_so(template, lstrip):
    """However it is written: some tokens take in the spaces before them."""
    own = tokenizer(template, lstrip=lstrip)
    for text in ("abc", "<s>abc", "  <s>abc", "a<s>", "<s><s>abc", "<s>"):
        assert are_opened(own, [text]) == (encode(own, [text]) != own([text])["input_ids"])
        assert are_opened(own, ["abc", text]) == are_opened(own, [text])


def test_likelihoods_are_those_of_one_pass_over_the_opened_text(folders):
    for template, opening in (("$A <e>", []), ("<s> $A <e>", [START]), ("<s> $A", [START])):
        engine = TransformersEngine(law_of(folders[template]), "cpu")
        texts = ["abc", "fedcab", "<s>abc" if opening else "abba"]
        expected = [[*opening, *(LETTERS.index(c) + 1 for c in text.removeprefix("<s>"))] for text in texts]
        found = text_nll(engine.model, engine.tokenizer, texts, "cpu")
        for own, tokens in zip(found, expected, strict=True):
            assert own.nll == pytest.approx(by_hand(folders[template], tokens), abs=1e-4)
            assert not own.cut
        for sample in engine.draw(["abc"], keys.seeds_for(0, ["abc"], 0, 16), 0)[0]:
            tokens = [*opening, 1, 2, 3, *sample.tokens[: sample.n_tokens]]
            assert sample.nll == pytest.approx(by_hand(folders[template], tokens), abs=1e-4)
            assert not sample.rescored


@pytest.mark.parametrize("template", ["$A", "<s> $A", "<s> $A <e>"])
def test_a_text_that_is_too_long_counts_by_its_last_tokens(folders, template):
    engine = TransformersEngine(law_of(folders[template]), "cpu")
    text, opening = "abcdeffedcbaabcfedacbd", [START] * template.startswith("<s>")
    tokens = [LETTERS.index(c) + 1 for c in text]
    kept = [*opening, *tokens[len(tokens) - 16 + len(opening) :]]
    room = 16 - len(opening)
    long, whole, short = text_nll(engine.model, engine.tokenizer, [text, text[:room], "abc"], "cpu")
    assert (long.cut, whole.cut, short.cut) == (True, False, False)
    assert long.nll == pytest.approx(by_hand(folders[template], kept), abs=1e-4)
    assert whole.nll == pytest.approx(by_hand(folders[template], [*opening, *tokens[:room]]), abs=1e-4)


@pytest.fixture
def merging(tmp_path) -> str:
    """A model of 16 positions that draws "ab" as one token, which a text never gives."""
    folder = causal(tmp_path / "merging", "gpt2", 16)
    own = tokenizer("$A", ("ab",))
    own.save_pretrained(folder)
    return folder


def test_a_draw_up_to_the_limit_whose_text_has_more_tokens_is_kept(merging, tmp_path):
    prompt = "abcdeabcdeab"
    law = law_of(merging, max_new_tokens=4)
    engine = TransformersEngine(law, "cpu")
    samples = engine.draw([prompt], keys.seeds_for(0, [prompt], 0, 64), 0)[0]
    before = [LETTERS.index(c) + 1 for c in prompt]
    for sample in samples:
        drawn = sample.tokens[: sample.n_tokens]
        assert engine.tokenizer.decode(drawn, skip_special_tokens=True) == sample.completion
        assert sample.nll == pytest.approx(by_hand(merging, before + drawn), abs=1e-4)
        assert not sample.rescored
    assert 5 < sum(len(prompt + sample.completion) > 16 for sample in samples) < 64


def test_a_text_that_a_stop_text_cut_and_that_is_too_long_is_counted(merging, tmp_path):
    """Its nll is of the kept text, which has more tokens than the model takes."""
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": "abcdeabcdeab"}]))
    where = {
        "data": str(tmp_path / "p.json"),
        "save_directory": str(tmp_path / "results"),
        "dtype": "float32",
        "stop": ("bd", "be", "bf", "bc"),
    }
    config = MCAligned(
        basemodel=merging, **where, max_new_tokens=4, value="perplexity", lam=1.0, nsamples=256
    )
    summary = run(prepare(config))
    assert summary.cut["nll"] > 0
    manifest = json.loads(Path(summary.folder, "manifest.json").read_text())
    assert manifest["summary"]["cut"]["nll"] == summary.cut["nll"]
    assert ("too long", f"{summary.cut['nll']} texts cut for nll") in facts(summary)


@pytest.mark.parametrize("kind", ["gpt2", "opt", "llama", "roberta", "xmod"])
def test_a_model_takes_as_many_tokens_as_is_said_and_a_table_of_positions_no_more(tmp_path, kind):
    """RoBERTa's kin count positions from behind the padding token's number."""
    known = kind in ("gpt2", "opt", "llama")
    folder = (
        causal(tmp_path / kind, kind, 16) if known else causal_model(kind, tmp_path / kind, pad_token_id=5)
    )
    engine = TransformersEngine(law_of(folder, max_new_tokens=3), "cpu")
    most = positions(engine.model.config)
    assert most == (16 if known else 128 - 6)
    prompt = "a" * (most - 3)
    (row,) = engine.draw([prompt], keys.seeds_for(0, [prompt], 0, 4), 0)
    assert not any(sample.cut for sample in row)
    assert text_nll(engine.model, engine.tokenizer, [prompt + "abc", prompt + "abca"], "cpu")[1].cut
    if kind != "llama":
        with pytest.raises((IndexError, RuntimeError)), torch.no_grad():
            engine.model(input_ids=torch.ones(1, most + 1, dtype=torch.long))
    root = {"data": str(tmp_path / "p.json"), "save_directory": str(tmp_path / "results")}
    for extra, good in (("", True), ("a", False)):
        (tmp_path / "p.json").write_text(json.dumps([{"prompt": prompt + extra}]))
        config = Original(basemodel=folder, **root, max_new_tokens=3, dtype="float32")
        if good:
            assert run(prepare(config)).samples == 1
        else:
            with pytest.raises(
                PromptError, match=f"prompt 0 has {most - 2} tokens, .* has room for {most - 3} "
            ):
                prepare(config)


def test_a_token_beyond_the_embedding_is_an_error_and_no_crash(tmp_path):
    folder = causal(tmp_path / "grown", "gpt2")
    own = tokenizer("$A")
    own.add_tokens(["Ω"])
    own.save_pretrained(folder)
    engine = TransformersEngine(law_of(folder), "cpu")
    said = "token 8 of the tokenizer is beyond the model's 8 embeddings"
    with pytest.raises(IndexError, match=said):
        engine.draw(["aΩ"], keys.seeds_for(0, ["aΩ"], 0, 1), 0)
    with pytest.raises(IndexError, match=said):
        text_nll(engine.model, engine.tokenizer, ["abc", "aΩ"], "cpu")
