"""Threads share models: each is loaded once, and one that draws is run by nobody else meanwhile."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from checkpoints import causal, classifier
from tokenizers import Tokenizer

from exptilt import local_run, rewards
from exptilt.config.settings import MCAligned
from exptilt.engines import registry
from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.engines.huggingface.ways import way_of
from exptilt.models import loading, reference
from exptilt.models.causality import words_of
from exptilt.models.likelihood import text_nll
from exptilt.models.tokenization import encode
from exptilt.once import once
from exptilt.planning.plan import prepare
from exptilt.rewards import classifier as classifiers
from exptilt.rewards.base import RewardSpec
from exptilt.storage import keys

THREADS = 8
PROMPTS = ["abc", "fed cab", "a", "bad face"]
TEXTS = [f"{prompt} cab {prompt}" for prompt in PROMPTS] * 4


def p0(folder: str, **changes) -> P0:
    settings = {"dtype": "float32", "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 12}
    return P0(model=reference.checkpoint(folder), ends=(0,), **{**settings, **changes})


def at_once(*works):
    """What works give that begin at the same moment, each in a thread of its own."""
    ready = threading.Barrier(len(works))

    def begin(work):
        ready.wait(timeout=60)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [done.result() for done in [pool.submit(begin, work) for work in works]]


@pytest.fixture
def loads(monkeypatch):
    """The names of the models that are loaded, each time."""
    found, load = [], loading.load_model

    def watched(auto, ref, *others):
        found.append(ref.name)
        return load(auto, ref, *others)

    for module in (loading, classifiers):
        monkeypatch.setattr(module, "load_model", watched)
    return found


def test_a_model_is_loaded_once_whoever_asks(tmp_path, loads):
    """Engines of two laws, likelihoods, and the value of them."""
    folder = causal(tmp_path / "letters", "llama")
    law, other = p0(folder), p0(folder, top_k=3)
    spec = RewardSpec(value="perplexity", kind="perplexity", model=law.model)
    works = [
        lambda: registry.load(law, "cpu").model,
        lambda: registry.load(other, "cpu").model,
        lambda: loading.causal_model(law.model, "cpu", "float32"),
        lambda: (
            rewards.load(spec, "cpu").score(["ab"], ["c"], [None])
            and loading.causal_model(law.model, "cpu", "float32")
        ),
    ]
    found = at_once(*works, *works)
    assert loads == [folder]
    assert all(model is found[0] for model in found)
    assert not any(weight.is_meta for weight in found[0].parameters())


@pytest.mark.parametrize("ask", [registry.load, rewards.load, loading.causal_model])
def test_threads_that_ask_at_once_get_one_and_the_same(tmp_path, loads, ask):
    folder = (
        causal(tmp_path / "letters", "gpt2") if ask is not rewards.load else classifier(tmp_path / "judge")
    )
    ref = reference.checkpoint(folder)
    arguments = {
        registry.load: (p0(folder), "cpu"),
        rewards.load: (RewardSpec(value="tone", kind="classifier", model=ref, label="1"), "cpu"),
        loading.causal_model: (ref, "cpu", "float32"),
    }[ask]
    found = at_once(*[lambda: ask(*arguments)] * THREADS)
    assert loads == [folder]
    assert all(each is found[0] for each in found)


def test_different_models_may_be_asked_for_at_once(tmp_path, loads):
    folders = [causal(tmp_path / str(i), "gpt2") for i in range(THREADS)]
    engines = at_once(*[lambda folder=folder: registry.load(p0(folder), "cpu") for folder in folders])
    assert sorted(loads) == sorted(folders)
    assert [engine.model.name_or_path for engine in engines] == folders


def test_what_fails_is_tried_again_by_who_asks_next():
    tried = []

    @once
    def make(number: int) -> int:
        tried.append(number)
        if len(tried) == 1:
            raise OSError("not now")
        return number

    with pytest.raises(OSError, match="not now"):
        make(1)
    assert at_once(*[lambda: make(1)] * THREADS) == [1] * THREADS
    assert tried == [1, 1]


def test_nobody_changes_the_tokenizer_that_all_share(tmp_path):
    """Neither who draws, renders chats, looks for stop texts or scores, though its file asks for cutting."""
    folder = causal(tmp_path / "letters", "gpt2")
    named = Tokenizer.from_file(f"{folder}/tokenizer.json")
    named.enable_truncation(2)
    named.enable_padding(length=9, pad_token="<e>")
    named.save(f"{folder}/tokenizer.json")
    Path(folder, "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    judge = classifier(tmp_path / "judge")  # of the same kind of tokenizer, which is its own
    shared = loading.load_tokenizer(reference.checkpoint(folder))

    def state():
        sides = shared.padding_side, shared.truncation_side, shared.pad_token, shared.chat_template
        return sides, shared.special_tokens_map, shared.backend_tokenizer.to_str()

    before = state()
    settings = {
        "basemodel": folder,
        "dtype": "float32",
        "data": str(tmp_path / "p.json"),
        "max_new_tokens": 8,
    }
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": text} for text in TEXTS]))
    values = {"value": (f"tone={judge}#1", "perplexity"), "lam": (1.0, 1.0)}
    for more in ({"stop": ("a",)}, {"chat": True}, {"on_long_prompt": "truncate"}):
        given = {**settings, **values, **more, "save_directory": str(tmp_path / "results")}
        local_run.run(prepare(MCAligned(**given)))
    assert state() == before
    assert [len(row) for row in encode(shared, TEXTS)] == [len(text) for text in TEXTS]


def test_drawing_and_likelihoods_at_once_give_what_they_give_alone(tmp_path):
    """On devices that do not take turns, as GPUs: one model, two computing threads."""
    engine = TransformersEngine(p0(causal(tmp_path / "letters", "llama")), "cpu")
    assert engine.way == "shared"
    seeds = keys.seeds_for(0, PROMPTS, 0, 16)

    def drawn():
        return [engine.draw(PROMPTS, seeds, 0) for _ in range(10)]

    def likelihoods():
        return [text_nll(engine.model, engine.tokenizer, TEXTS, "cpu:0") for _ in range(60)]

    expected = drawn()[0], likelihoods()[0]
    draws, nlls = at_once(drawn, likelihoods)
    assert all(found == expected[0] for found in draws)
    for found in nlls:
        assert [own.nll for own in found] == pytest.approx([own.nll for own in expected[1]], abs=1e-6)


def test_finding_the_way_and_likelihoods_at_once_do_not_meet(tmp_path):
    engine = TransformersEngine(p0(causal(tmp_path / "letters", "llama")), "cpu")
    words = words_of(engine.tokenizer, engine.model)

    def likelihoods():
        return [text_nll(engine.model, engine.tokenizer, TEXTS, "cpu:0") for _ in range(60)]

    expected = likelihoods()[0]
    ways, nlls = at_once(
        lambda: {way_of.__wrapped__(engine.model, words, "cpu") for _ in range(20)}, likelihoods
    )
    assert ways == {"shared"}
    for found in nlls:
        assert [own.nll for own in found] == pytest.approx([own.nll for own in expected], abs=1e-6)
