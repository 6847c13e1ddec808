"""Judges: the mean of a rubric's numbers under a real model's first token, and what is refused by name."""

import json
import math
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import causal
from completions import Answer, http_server
from test_chat_rewards import beside
from transformers import AutoModelForCausalLM, AutoTokenizer

from exptilt import rewards
from exptilt.config.exploration import Palette, Sweep
from exptilt.config.scoring import Scoring
from exptilt.config.settings import MCAligned
from exptilt.conversation import Message, text_of
from exptilt.errors import ConfigError, ModelError, PromptRefused, RewardError, ServerError, ShardsFailed
from exptilt.local_run import run
from exptilt.planning import plan, score_file
from exptilt.rewards import catalogue, first_tokens, rubric

LETTERS = "answers: a=1, b=2, c=3, d=4, e=5, f=7\n{prompt} {completion}\n"
DIGITS = "answers: 1, 2, 3\nIs {completion} a good answer to {prompt}?"
SAMPLES = [("abc", " fed"), ("cab", "bad"), ("a", ""), ("abc", " fed")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return causal(tmp_path_factory.mktemp("judge") / "letters", "llama", 512)


class Speaker:
    """A real model of letters behind the chat route: it never ends a text, and answers with a letter."""

    def __init__(self, folder: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.lock, self.bodies = threading.Lock(), []

    @torch.inference_mode()
    def law(self, question: str) -> dict[str, float]:
        """The log-probability of each letter behind a question."""
        row = torch.tensor([self.tokenizer(question)["input_ids"]])
        with self.lock:
            logits = self.model(input_ids=row).logits[0, -1, 1:7]
        return dict(zip("abcdef", torch.log_softmax(logits.double(), -1).tolist(), strict=True))

    def __call__(self, path: str, body: dict) -> Answer:
        self.bodies.append(body)
        if path != "/v1/chat/completions":
            return 404, {"detail": "Not Found"}
        law = self.law(body["messages"][0]["content"])
        return 200, spoken([(letter, math.exp(law[letter])) for letter in sorted(law, key=lambda a: -law[a])])


def spoken(tokens: list[tuple[str, float]], text: str | None = None, gives: bool = True) -> dict:
    """A chat completion whose first token has these probabilities, the first one drawn."""
    listed = [{"token": token, "logprob": math.log(p), "bytes": None} for token, p in tokens]
    content = [{**listed[0], "top_logprobs": listed[:20]}] if gives else None
    message = {"role": "assistant", "content": tokens[0][0] if text is None else text}
    choice = {"index": 0, "message": message, "finish_reason": "length", "logprobs": {"content": content}}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


@pytest.fixture
def file(tmp_path):
    """Write a rubric; its path."""

    def write(text: str = DIGITS) -> str:
        (tmp_path / "rubric.md").write_text(text, encoding="utf-8")
        return str(tmp_path / "rubric.md")

    return write


@contextmanager
def saying(answer, file: str):
    """A judge that answers by `answer(body)`; the value."""
    with http_server(lambda path, body: answer(body)) as root:
        yield f"fit={file}@{root}#m"


def numbers(value: str, samples=SAMPLES) -> np.ndarray:
    spec = rewards.resolve(value, beside())
    prompts, completions = zip(*samples, strict=True)
    return rewards.load(spec, "cpu").score(prompts, completions, [None] * len(prompts)).rewards


def test_the_number_is_the_mean_under_the_models_own_law(folder, file):
    """By enumeration of the answers; equal samples are asked once, and each without thinking."""
    speaker, values = Speaker(folder), rubric.parse(LETTERS, "r").numbers
    expected = []
    for prompt, completion in SAMPLES:
        law = speaker.law(f"{prompt} {completion}")
        expected.append(sum(math.exp(law[answer]) * number for answer, number in values.items()))
    with http_server(speaker) as root:
        found = numbers(f"fit={file(LETTERS)}@{root}#m")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(found) > 0.02
    assert len(speaker.bodies) == 1 + 3
    for body in speaker.bodies:
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
        assert (body["max_tokens"], body["temperature"], body["top_logprobs"]) == (1, 1.0, 20)


@pytest.mark.parametrize(
    ("tokens", "number"),
    [
        ([("1", 0.5), ("3", 0.5)], 2.0),
        ([("2", 0.5), (" 2", 0.25), ("\n3", 0.25)], 2.25),
        ([("1", 0.46), ("3", 0.46), ("The", 0.08)], 2.0),
        ([("3", 1.0)], 3.0),
    ],
)
def test_tokens_of_one_answer_add_up_and_the_answers_are_renormalised(file, tokens, number):
    with saying(lambda body: (200, spoken(tokens)), file()) as value:
        np.testing.assert_allclose(numbers(value, [("x", "y")]), [number], atol=1e-12)


def test_a_drawn_token_that_is_not_listed_counts(file):
    answer = spoken([("1", 0.6), ("2", 0.3)])
    answer["choices"][0]["logprobs"]["content"][0] |= {"token": "3", "logprob": math.log(0.1)}
    with saying(lambda body: (200, dict(answer)), file()) as value:
        np.testing.assert_allclose(numbers(value, [("x", "y")]), [1.5], atol=1e-12)


def test_answers_without_the_mass_are_refused_by_name(file):
    said = (
        r"answers a sample of the prompt that begins 'why' with a probability of 0\.85 by 1, 2, 3, less than "
        r"0\.9; the likeliest other token is 'Well' \(0\.10\)"
    )
    with (
        saying(lambda body: (200, spoken([("1", 0.85), ("Well", 0.1), ("<", 0.05)])), file()) as value,
        pytest.raises(PromptRefused, match=said),
    ):
        numbers(value, [("why", "y")])


def by_text(text: str):
    return lambda body: (200, spoken([("x", 1.0)], text, gives=False))


@pytest.mark.parametrize(("text", "number"), [("3", 3.0), (" 2\n", 2.0), ("1 out of 3", 1.0)])
def test_without_probabilities_it_is_the_number_that_is_written(file, text, number):
    bodies = []
    answer = by_text(text)
    with saying(lambda body: (bodies.append(body), answer(body))[1], file()) as value:
        spec = rewards.resolve(value, beside())
        assert (spec.transform, spec.identity["transform"]) == ("written", "written")
        assert rewards.manner(spec) == "the written answer of a judge, by a server"
        assert numbers(value, [("x", "y")]) == [number]
    assert (bodies[-1]["temperature"], "logprobs" in bodies[-1]) == (0.0, False)


@pytest.mark.parametrize("text", ["4", "good", "", "2.5", "1.", "<think>"])
def test_a_written_answer_that_is_none_is_refused_by_name(file, text):
    word = (text.split() or [""])[0]
    with (
        saying(by_text(text), file()) as value,
        pytest.raises(PromptRefused, match=rf"the likeliest other token is '{word}' \(1\.00\)"),
    ):
        numbers(value, [("x", "y")])


@pytest.mark.parametrize(
    "refused", [("chat_template_kwargs",), ("logprobs",), ("chat_template_kwargs", "logprobs")]
)
@pytest.mark.parametrize("most", [20, 5])
def test_what_a_server_does_not_take_is_left_out(file, refused, most):
    """Telling the model not to think, 20 probabilities, or any."""

    def answer(body: dict) -> Answer:
        if any(name in body for name in refused) or body.get("top_logprobs", 0) > most:
            return 400, {"error": {"message": "unknown parameter"}}
        return 200, spoken([("2", 1.0)], gives="logprobs" in body)

    with saying(answer, file()) as value:
        spec = rewards.resolve(value, beside())
        assert spec.transform == ("written" if "logprobs" in refused else "expected")
        assert numbers(value, [("x", "y")]) == [2.0]


@pytest.mark.parametrize(
    "answer",
    [
        {"hello": "world"},
        {"choices": []},
        spoken([("1", 3.0)]),
        {"choices": [{"index": 0, "logprobs": {"content": [{"token": "1", "top_logprobs": [{}]}]}}]},
    ],
)
def test_an_answer_that_cannot_be_read_is_named(file, answer):
    said = r"value 'fit': .* does not answer a first question as an OpenAI API does"
    with (
        saying(lambda body: (200, json.loads(json.dumps(answer))), file()) as value,
        pytest.raises(ModelError, match=said),
    ):
        numbers(value)


def test_braces_of_a_sample_stay_text(file):
    """Fields are put in by one pass; other braces of the rubric stay, too."""
    text = 'answers: 1, 2\n{"rate": {}} { prompt } {prompt}|{completion}|{prompt}'
    assert rubric.parse(text, "r").filled("{completion}", r"{prompt}\1") == (
        r'{"rate": {}} { prompt } {completion}|{prompt}\1|{completion}'
    )


def test_a_conversation_is_put_in_as_a_transcript(file):
    prompt, bodies = (Message("system", "be brief"), Message("user", "why?")), []
    answer = spoken([("1", 1.0)])
    with saying(lambda body: (bodies.append(body), (200, dict(answer)))[1], file()) as value:
        numbers(value, [(prompt, "so")])
    question = bodies[-1]["messages"]
    assert question == [{"role": "user", "content": f"Is so a good answer to {text_of(prompt)}?"}]


TEXT = "\n{prompt} {completion}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Rate {prompt} {completion}", "must begin with a line as `answers: 1, 2, 3` or `answers: A=1, B=0`"),
        ("", "must begin with a line as `answers"),
        ("answers: 1, 2", "must begin with a line as `answers"),
        ("answers:" + TEXT, "must have two answers at least, not none"),
        ("answers: 1" + TEXT, "must have two answers at least, not 1"),
        ("answers: 1, 2, 1" + TEXT, "has the answer 1 twice"),
        ("answers: A=1, B=2, C=1.0" + TEXT, "has the number 1.0 twice"),
        ("answers: A, B" + TEXT, "the answer 'A' is no number; write it as ANSWER=NUMBER"),
        ("answers: A=1, B=nan" + TEXT, "the answer 'B=nan' is no number"),
        ("answers: A=1, =2" + TEXT, "the answer '=2' is no number"),
        ("answers: A=1, B=0," + TEXT, "the answer '' is no number"),
        ("answers: not good=0, good=1" + TEXT, "the answer 'not good' must be one word"),
        ("answers: 1, 5, 10" + TEXT, "the answer 1 begins the answer 10, and a first token may mean both"),
        ("answers: 1, 2\n{prompt}", "has no {completion}: it must say where the completion is put in"),
        ("answers: 1, 2\n{completion}", "has no {prompt}"),
        ("answers: 1, 2\n{prompt} {completion} {response}", "has a field {response}: known are {prompt} and"),
    ],
)
def test_a_rubric_that_cannot_be_used_is_refused_in_one_line(file, text, said):
    with pytest.raises(ConfigError) as refused:
        rewards.check_name(f"fit={file(text)}@http://h/v1#m")
    assert said in str(refused.value)
    assert str(refused.value).startswith("--value fit: the rubric ")
    assert "\n" not in str(refused.value)


def test_a_rubric_is_read_as_people_write_it(tmp_path):
    (tmp_path / "r").write_bytes(
        "\ufeffanswers: gut=1,schlecht = -0.5\r\n\r\nÄ {prompt}\r\n{completion}\r\n".encode()
    )
    found = rubric.parse(rubric.read(str(tmp_path / "r"), "r"), "r")
    assert (found.text, found.numbers) == ("Ä {prompt}\n{completion}", {"gut": 1.0, "schlecht": -0.5})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("fit=none.md@http://h/v1#m", "--value fit: the rubric none.md cannot be read: No such file"),
        ("fit={file}@http://me:sk-pass@h/v1#m", "without user, password or query"),
        ("{file}@http://h/v1#m", "needs a name"),
        ("fit={file}@http://h/v1#m:prob", "#LABEL, :prob, :logprob and :chat are for classifiers"),
        ("fit={file}@http://h/v1#m#1", "are for classifiers"),
        ("fit={file}@http://h/v1#m:chat", "are for classifiers"),
        ("fit={binary}@http://h/v1#m", "is not UTF-8 at byte 0"),
    ],
)
def test_how_a_judge_is_not_written(file, tmp_path, value, said):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError) as refused:
        rewards.check_name(value.format(file=file(), binary=tmp_path / "binary"))
    assert said in str(refused.value)
    assert "sk-pass" not in str(refused.value)


def test_how_a_judge_is_written(file):
    asked = catalogue.parse("fit=a/r.md@http://h:8/v1#org/m:8b")
    assert (asked.name, asked.rubric, asked.source) == ("fit", "a/r.md", "http://h:8/v1#org/m:8b")


def test_the_key_is_of_the_rubric_and_the_answer(file):
    with saying(lambda body: (200, spoken([("1", 1.0)])), file()) as value:
        first = rewards.resolve(value, beside())
        file(DIGITS + " Be strict.")
        second = rewards.resolve(value, beside())
    assert first.identity == second.identity | {"rubric": first.identity["rubric"]}
    assert first.identity["rubric"] != second.identity["rubric"]
    said = {"revision": "served", "kind": "judge", "transform": "expected", "dtype": "served"}
    assert first.identity | said == first.identity
    assert first.model.name == f"rubric.md@{first.identity['model']}"


@pytest.fixture
def config(tmp_path):
    """Make a configuration of the toy engine tilted by a value, with some settings changed."""

    def make(value: str, **settings) -> MCAligned:
        common = {"basemodel": "toy", "end": 6, "nsamples": 4, "save_directory": str(tmp_path / "results")}
        return MCAligned(**{**common, "value": value, "lam": 1.0, **settings})

    return make


def opinion(body: dict) -> Answer:
    """More for questions of more letters b; nothing to say of one that has `secret`."""
    question = body["messages"][0]["content"]
    if "secret" in question:
        return 200, spoken([("Sorry", 0.8), ("1", 0.2)])
    chance = 1 / (2 + question.count("b"))
    return 200, spoken([("3", 1 - chance), ("1", chance)])


def test_a_whole_run_says_that_a_judge_scored_it_and_asks_nothing_twice(config, file):
    with saying(opinion, file()) as value:
        prepared = plan.prepare(config(value))
        assert "tilted by 1 × fit (the expected answer of a judge, by a server)" in prepared.opening
        first = run(prepared)
    manifest = json.loads(Path(first.folder, "manifest.json").read_text())
    assert manifest["rewards"][0]["transform"] == "expected"
    assert manifest["rewards"][0]["rubric"].startswith("blake2b:")
    card = Path(first.folder, "README.md").read_text()
    assert "#m (judge, expected answer, as the server had it, its weights not known)" in card
    first_tokens.judge.cache_clear()
    rewards.load.cache_clear()
    again = run(plan.prepare(config(value, lam=2.0)))  # the server is gone
    assert again.reused == {"samples": 1, "fit": 1}
    with pytest.raises(ServerError, match=r"value 'fit': .* does not answer a first question"):
        plan.prepare(config(value, nsamples=5))


class Counting:
    """Answers after a while, and knows how many questions were there at once, at most."""

    def __init__(self, wait: float = 0.05) -> None:
        self.lock, self.now, self.most, self.wait = threading.Lock(), 0, 0, wait

    def __call__(self, body: dict) -> Answer:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.wait)
        with self.lock:
            self.now -= 1
        return opinion(body)


@pytest.mark.parametrize(("given", "most"), [(1, 1), (3, 3), ("auto", 8)])
def test_requests_in_flight_are_bounded_by_the_batch_size(config, file, tmp_path, given, most):
    counting = Counting()
    rows = [{"prompt": f"p{k}", "completion": f"b{k}"} for k in range(24)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with saying(counting, file()) as value:
        run(plan.prepare(config(value, batch_size=given, nsamples=8)))
        assert counting.most == most
        counting.most, asked = 0, {"file": str(tmp_path / "a.json"), "value": value, "batch_size": given}
        run(score_file.prepare(Scoring(**asked, save_directory=str(tmp_path / "results"))))
    assert counting.most == most


def test_the_number_of_requests_changes_no_key(config, file):
    with saying(opinion, file()) as value:
        run(plan.prepare(config(value, batch_size=2)))
        assert run(plan.prepare(config(value, batch_size=3))).reused == {"samples": 1, "fit": 1}


def test_members_behind_servers_are_asked_at_once(config, file, tmp_path):
    counting = Counting()
    with saying(counting, file()) as one, saying(counting, file()) as other:
        members = [
            f'"{name}={value.removeprefix("fit=")}" = {{ mean = 0, sd = 1 }}'
            for name, value in (("a", one), ("b", other))
        ]
        (tmp_path / "e.toml").write_text("\n".join(['kind = "mean"', 'pool = "p"', "[members]", *members]))
        planned = plan.prepare(config(f"judge={tmp_path}/e.toml", batch_size=1))
        counting.most = 0
        run(planned)
    assert counting.most == 2


def test_sweeps_and_palettes_open_with_what_scores(config, file, tmp_path):
    common = {"basemodel": "toy", "end": 6, "nsamples": 4, "save_directory": str(tmp_path / "results")}
    said = " scored by fit (the expected answer of a judge, by a server), diversity"
    with saying(opinion, file()) as value:
        both = {**common, "value": (value, "diversity")}
        for found in (Sweep(**both, lam="1,1"), Palette(**both, target=("fit=+0.1",))):
            assert plan.prepare(found).opening.splitlines()[0].endswith(said)


def test_a_sample_that_is_not_judged_is_named_and_left_out_if_asked(config, file, tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": text} for text in ("a", "secret", "b")]))
    settings = {"data": str(tmp_path / "p.json"), "end": 3}
    said = r"prompt 1 \('secret'\): value 'fit' failed with PromptRefused: .* probability of 0\.20 by 1, 2, 3"
    with saying(opinion, file()) as value:
        with pytest.raises(ShardsFailed, match=said):
            run(plan.prepare(config(value, **settings)))
        summary = run(plan.prepare(config(value, **settings, allow_missing=True)))
    assert [missing.prompt_index for missing in summary.missing] == [1]


def test_a_judge_that_answers_otherwise_ends_the_run_in_one_line(config, file):
    said = r"^value 'fit': .* answers a sample of the prompt that begins"
    answer = spoken([("Sorry", 1.0)])
    with saying(lambda body: (200, dict(answer)), file()) as value, pytest.raises(RewardError, match=said):
        plan.prepare(config(value))
