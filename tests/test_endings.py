"""A completion ends at each end token that the checkpoint names, wherever it names it."""

import json
from pathlib import Path

import pytest
from checkpoints import LETTERS, causal, letters_tokenizer

from exptilt.config.settings import Original
from exptilt.engines.base import P0
from exptilt.engines.huggingface.engine import TransformersEngine
from exptilt.errors import ModelError
from exptilt.local_run import run
from exptilt.models import reference
from exptilt.models.generation_config import end_tokens
from exptilt.planning.plan import prepare
from exptilt.storage import keys

B, C, D = (LETTERS.index(letter) + 1 for letter in "bcd")
GENERATION, CONFIG = "generation_config.json", "config.json"


@pytest.fixture
def folder(tmp_path) -> str:
    return causal(tmp_path / "letters", "llama")


def says(folder: str, generation=0, config=0, tokenizer: str | None = "<e>") -> str:
    """Let the three files name end tokens; without a `generation` there is no such file."""
    file = Path(folder, CONFIG)
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": config}))
    Path(folder, GENERATION).unlink()
    if generation is not None:
        Path(folder, GENERATION).write_text(json.dumps({"eos_token_id": generation}))
    own = letters_tokenizer()
    own.eos_token = tokenizer
    own.save_pretrained(folder)
    return folder


def law(folder: str, **changes) -> P0:
    settings = {"max_new_tokens": 8, "top_k": 0, "dtype": "float32"}
    where = {"data": str(prompts_of(folder)), "save_directory": f"{folder}/../results"}
    return prepare(Original(basemodel=folder, **where, **{**settings, **changes})).recipe.p0


def prompts_of(folder: str) -> Path:
    path = Path(folder).parent / "p.json"
    path.write_text(json.dumps([{"prompt": text} for text in ("abc", "fade", "cab")]))
    return path


CASES = [
    ({}, (0,)),
    ({"generation": C}, (0, C)),
    ({"config": C}, (0, C)),
    ({"tokenizer": "c"}, (0, C)),
    ({"generation": [0, C], "config": None}, (0, C)),
    ({"generation": None, "config": [C, B]}, (0, B, C)),
    ({"generation": C, "config": B, "tokenizer": "d"}, (B, C, D)),
    ({"generation": C, "config": None, "tokenizer": None}, (C,)),
    ({"generation": None, "config": None, "tokenizer": "d"}, (D,)),
    ({"generation": None, "config": None, "tokenizer": None}, ()),
]


@pytest.mark.parametrize(("said", "ends"), CASES)
def test_a_completion_ends_at_every_end_token(folder, said, ends):
    p0 = law(says(folder, **said))
    assert p0.ends == ends
    seeds = keys.seeds_for(0, ["abc"], 0, 64)
    samples = TransformersEngine(p0, "cpu").draw(["abc"], seeds, 0)[0]
    letters = {LETTERS[token - 1] for token in ends if token}
    assert not letters & set("".join(s.completion for s in samples))
    reasons = {s.finish_reason for s in samples}
    assert ("stop" in reasons) == bool(ends)


@pytest.mark.parametrize("said", [{}, {"generation": [0, C]}, {"generation": None}, {"generation": [C, 0]}])
def test_older_pools_stay_where_all_ends_are_the_generation_configurations(folder, said):
    says(folder, **said)
    if said.get("generation") == [C, 0]:
        says_no_more = law(folder)
        assert says_no_more.ends == says_no_more.named_ends == (0, C)
    assert "ends" not in law(folder).identity


def test_another_set_of_ends_is_another_law(folder):
    before = law(says(folder))
    after = law(says(folder, tokenizer="d"))
    assert (before.identity.get("ends"), after.identity["ends"]) == (None, [0, D])


def test_the_manifest_lists_all(folder):
    for said, ends in (({}, [0]), ({"config": [C, 0], "tokenizer": "d"}, [0, C, D])):
        says(folder, **said)
        data, root = str(prompts_of(folder)), f"{folder}/../results"
        config = Original(basemodel=folder, data=data, save_directory=root, dtype="float32", max_new_tokens=4)
        summary = run(prepare(config))
        assert json.loads(Path(summary.folder, "manifest.json").read_text())["p0"]["ends"] == ends


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"max_new_tokens": "a"}', '{"eos_token_id": "x"}'])
def test_a_generation_configuration_that_cannot_be_read_is_refused(folder, text):
    """It may name the end of a text: without it another law would be drawn from."""
    Path(folder, GENERATION).write_text(text)
    with pytest.raises(
        ModelError, match=r"^base model '.*letters'.* (generation_config.json|eos_token_id) "
    ) as e:
        law(folder)
    assert "\n" not in str(e.value)


NOTES = [
    ({"temperature": 0.6}, {}, "temperature 0.6"),
    ({"temperature": 0.6, "top_p": 0.9}, {"temperature": 0.6}, "top_p 0.9"),
    ({"repetition_penalty": 1.1, "top_k": 20}, {}, "top_k 20, repetition_penalty 1.1"),
    ({"min_new_tokens": 3}, {}, "min_new_tokens 3"),
    ({"stop_strings": ["###"]}, {}, "stop_strings ['###']"),
    ({}, {}, ""),
    ({"do_sample": True, "temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}, {}, ""),
    ({"temperature": 0.6, "top_p": 0.9, "top_k": 20}, {"temperature": 0.6, "top_p": 0.9, "top_k": 20}, ""),
    ({"stop_strings": ["###"]}, {"stop": ["###"]}, ""),
]


@pytest.mark.parametrize(("asked", "used", "note"), NOTES)
def test_the_opening_says_which_sampler_the_model_asks_for(folder, asked, used, note):
    Path(folder, GENERATION).write_text(json.dumps({"eos_token_id": 0, **asked}))
    config = Original(basemodel=folder, data=str(prompts_of(folder)), save_directory=f"{folder}/../r", **used)
    first, *rest = prepare(config).opening.splitlines()
    assert "3 prompts of " in first
    said = f"note: {folder} asks for {note} (generation_config.json), which this run does not use"
    assert rest == ([said] if note else [])


def test_the_demo_and_engines_without_files_ask_for_nothing(toy_original, tmp_path):
    assert "note" not in prepare(toy_original(end=3)).opening
    demo = Original(end=1, save_directory=str(tmp_path / "demo"), dtype="float32")
    assert "note" not in prepare(demo).opening
    assert end_tokens(reference.checkpoint("demo"))[0]
