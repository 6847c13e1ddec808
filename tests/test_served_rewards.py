"""Reward models behind a server: the numbers of the same checkpoint here, and what a server may get wrong."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from classifiers import MODEL, ROUTES, Scorer
from completions import http_server
from processes import free_port
from reward_models import build
from test_chat_rewards import COMPLETIONS, PROMPTS, beside, judge
from transformers import AutoConfig

from exptilt import rewards
from exptilt.config.command_line import command_line
from exptilt.config.scoring import Scoring
from exptilt.config.settings import MCAligned
from exptilt.errors import ConfigError, ModelError, ServerError, ShardsFailed, Stopped
from exptilt.local_run import run
from exptilt.planning import plan, score_file
from exptilt.rewards import catalogue, served
from exptilt.run import Run

TEXTS = ["the room", "why?", "Ärger im Café"]


@pytest.fixture
def folder(tmp_path) -> str:
    return judge(tmp_path / "rm", "llama")


@contextmanager
def serving(folder: str, **manners):
    """A server of the classifier in `folder`: what answers, and URL#MODEL."""
    scorer = Scorer(folder, **manners)
    with http_server(scorer) as root:
        yield scorer, f"{root}#{MODEL}"


def numbers(value: str, prompts=TEXTS, completions=COMPLETIONS, **changes) -> np.ndarray:
    spec = rewards.resolve(value, beside(**changes))
    return rewards.load(spec, "cpu").score(prompts, completions, [None] * len(prompts)).rewards


@pytest.mark.parametrize("form", ["text", "pair", "chat", "completion"])
def test_a_server_gives_the_numbers_of_its_checkpoint(folder, form):
    with serving(folder) as (_, name):
        prompts = PROMPTS if form == "chat" else TEXTS
        there, here = (numbers(f"tone={source}:{form}", prompts) for source in (name, folder))
    np.testing.assert_allclose(there, here, atol=1e-4)
    assert np.ptp(here) > 0.1


def configured(folder: Path, labels: int, problem_type: str | None) -> str:
    """A BERT with so many labels of that kind."""
    name = build("bert", folder, labels)
    config = AutoConfig.from_pretrained(name)
    config.problem_type = problem_type
    config.save_pretrained(name)
    return name


@pytest.mark.parametrize(
    ("labels", "kind", "how"),
    [
        (2, None, ""),
        (2, None, "#0"),
        (2, None, ":prob"),
        (3, "single_label_classification", "#2:logprob"),
        (3, "multi_label_classification", "#1:prob"),
        (1, None, ":prob"),
        (1, "regression", ""),
    ],
)
def test_labels_and_probabilities_are_those_of_the_checkpoint(tmp_path, labels, kind, how):
    folder = configured(tmp_path / "bert", labels, kind)
    with serving(folder) as (_, name):
        there, here = (numbers(f"tone={source}{how}") for source in (name, folder))
    np.testing.assert_allclose(there, here, atol=1e-4)


@pytest.mark.parametrize(
    ("labels", "kind", "how", "said"),
    [
        (1, "regression", ":prob", "makes no sigmoid or softmax of its logits.*leave :prob out"),
        (2, "multi_label_classification", "", "has the labels 0, 1; choose with #LABEL"),
        (3, None, "", "has the labels 0, 1, 2; choose with #LABEL"),
        (3, None, "#joy", "has the labels 0, 1, 2; choose with #LABEL: 'joy' is none of them"),
        (3, None, "#3", "'3' is none of them"),
        (2, None, ":pair", "refuses two texts by /score .*one label"),
        (2, None, ":chat", r"refuses a conversation by /classify \(:text gives it texts\): 400 default chat"),
    ],
)
def test_what_has_no_meaning_behind_a_server_is_refused_by_name(tmp_path, labels, kind, how, said):
    folder = configured(tmp_path / "bert", labels, kind)
    with (
        serving(folder, routes=ROUTES if labels == 1 else ROUTES[:2]) as (_, name),
        pytest.raises(ModelError, match=f"^value 'tone.*': .*{said}"),
    ):
        numbers(f"tone={name}{how}")


@pytest.mark.parametrize("labels", [1, 2])
def test_a_server_that_gives_probabilities_for_logits_is_refused(tmp_path, labels):
    folder = configured(tmp_path / "bert", labels, None)
    with (
        serving(folder, heeds=False) as (_, name),
        pytest.raises(ModelError, match="gives numbers between 0 and 1 also where raw logits"),
    ):
        numbers(f"tone={name}")


def test_pooling_is_asked_where_classify_is_not_there(folder):
    with serving(folder, routes=("/pooling",)) as (scorer, name):
        np.testing.assert_allclose(numbers(f"tone={name}"), numbers(f"tone={folder}"), atol=1e-4)
        assert {body["task"] for body in scorer.bodies} == {"classify"}


@pytest.mark.parametrize("routes", [(), ("/score",)])
@pytest.mark.parametrize("form", ["text", "pair"])
def test_a_server_without_logits_is_refused(folder, routes, form):
    """One that scores pairs without them gives the cosines of an embedding."""
    said = r"value 'tone': http.*#org/rm refuses the question for logits by /classify or /pooling \(does it"
    with serving(folder, routes=routes) as (_, name), pytest.raises(ModelError, match=said + ".*: 404 Not"):
        numbers(f"tone={name}:{form}")


@pytest.mark.parametrize(
    "answer",
    [
        {"hello": "world"},
        {"data": []},
        {"data": [{"data": [[0.5], [1.5]]}]},
        {"data": [{"probs": [None]}]},
        {"data": [{"probs": ["1.5"]}]},
        {"data": ["x"]},
    ],
)
def test_an_answer_without_numbers_is_named(answer):
    said = "does not answer the question for logits .* as vLLM's /classify does: "
    with http_server(lambda path, body: (200, dict(answer))) as root, pytest.raises(ModelError, match=said):
        numbers(f"tone={root}#m")


def test_equal_samples_and_values_of_one_model_are_asked_once(folder):
    with serving(folder) as (scorer, name):
        spec = rewards.resolve(f"tone={name}", beside())
        reward = rewards.load(spec, "cpu")
        before = scorer.asked
        found = reward.score(["a", "a", "b"], [" c", " c", " d"], [None] * 3).rewards
        assert (scorer.asked - before, found[0] == found[1]) == (2, True)
        numbers(f"other={name}:prob", ["a", "b"], [" c", " d"])
        assert scorer.asked - before == 2


class Failing:
    """A classifier of one label that answers `status`, so many times, once the first requests have passed."""

    def __init__(self, status: int, times: int, passed: int = 7) -> None:
        self.status, self.left, self.passed, self.asked, self.keys = status, times, passed, 0, set()

    def __call__(self, path: str, body: dict):
        self.asked += 1
        self.keys.add(body["key"])
        if self.asked > self.passed and self.left > 0:
            self.left -= 1
            return self.status, {"error": {"message": "busy, sk-secret"}, "headers": {"retry-after-ms": "5"}}
        number = float(len(body["input"]))
        return 200, {"data": [{"probs": [1.0 if body["use_activation"] else number + 9]}]}


@pytest.mark.parametrize("status", [429, 503])
def test_what_passes_is_tried_again(status):
    fault = Failing(status, 5)
    with http_server(fault) as root:
        assert numbers(f"tone={root}#m", ["a"], ["bc"]) == [12.0]
    assert fault.left == 0


def test_what_does_not_pass_is_a_failure_that_another_run_may_mend(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    fault = Failing(500, 10**6)
    with (
        http_server(fault) as root,
        pytest.raises(ServerError, match=r"^value 'tone': .* fails at a sample of the prompt that .*'a'"),
    ):
        numbers(f"tone={root}#m", ["a"], ["b"])
    assert fault.keys == {"Bearer sk-secret"}


def test_a_key_is_told_to_nobody(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with http_server(Failing(401, 10**6, 0)) as root, pytest.raises(ModelError, match=r"401 busy, \*\*\*$"):
        numbers(f"tone={root}#m")


def test_a_stop_leaves_what_is_not_yet_asked():
    fault = Failing(500, 0)
    with http_server(fault) as root:
        reward = rewards.load(rewards.resolve(f"tone={root}#m", beside()), "cpu")
        before, stopped = fault.asked, Run()
        stopped.stop()
        with stopped.entered(), pytest.raises(Stopped):
            reward.score(["a"] * 500, [str(i) for i in range(500)], [None] * 500)
    assert fault.asked == before


@pytest.fixture
def config(tmp_path):
    """Make a configuration of the toy engine tilted by a value, with some settings changed."""

    def make(value: str, **settings) -> MCAligned:
        common = {"basemodel": "toy", "end": 6, "nsamples": 4, "save_directory": str(tmp_path / "results")}
        return MCAligned(**{**common, "value": value, "lam": 1.0, **settings})

    return make


def test_a_whole_run_says_that_a_server_scored_it_and_needs_it_once(folder, config, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serving(folder) as (scorer, name):
        prepared = plan.prepare(config(f"tone={name}"))
        assert "tilted by 1 × tone (text, by a server)" in prepared.opening
        first = run(prepared)
        assert {body["key"] for body in scorer.bodies} == {"Bearer sk-secret"}
    manifest = json.loads(Path(first.folder, "manifest.json").read_text())
    said = {"name": name, "model": name, "revision": "served", "dtype": "served", "kind": "served"}
    assert manifest["rewards"][0] | said == manifest["rewards"][0]
    card = Path(first.folder, "README.md").read_text()
    assert f"- tone: {name} (text, as the server had it, its weights not known)" in card
    assert not [p for p in Path(first.folder).parent.rglob("*") if p.is_file() and b"sk-" in p.read_bytes()]
    served.classifier.cache_clear()
    rewards.load.cache_clear()
    again = run(plan.prepare(config(f"tone={name}", lam=2.0)))
    assert (first.reused, again.reused) == ({"samples": 0, "tone": 0}, {"samples": 1, "tone": 1})
    with pytest.raises(ServerError, match=r"value 'tone': .* does not answer"):
        plan.prepare(config(f"tone={name}", nsamples=5))


def test_a_sample_that_is_too_long_is_named_and_left_out_if_asked(folder, config, tmp_path):
    texts = ["a", "long " * 40, "b"]
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": text} for text in texts]))
    with serving(folder, limit=100) as (_, name):
        settings = {"data": str(tmp_path / "p.json"), "end": 3}
        said = r"shard 001: prompt 1 \('long .* refuses a sample of the prompt .*: 400 You passed"
        with pytest.raises(ShardsFailed, match=said):
            run(plan.prepare(config(f"tone={name}", **settings)))
        summary = run(plan.prepare(config(f"tone={name}", **settings, allow_missing=True)))
    assert [missing.prompt_index for missing in summary.missing] == [1]


def test_what_is_refused_to_every_sample_ends_the_run_in_one_line(folder, config):
    with (
        serving(folder, limit=12) as (_, name),
        pytest.raises(ModelError, match=r"value 'tone': .*400 You passed"),
    ):
        plan.prepare(config(f"tone={name}"))


def test_a_file_is_scored_by_a_server(folder, tmp_path):
    records = [{"prompt": x, "generated": x + y} for x, y in zip(TEXTS, COMPLETIONS, strict=True)]
    (tmp_path / "r.json").write_text(json.dumps(records))
    with serving(folder) as (_, name):
        settings = {"file": str(tmp_path / "r.json"), "save_directory": str(tmp_path / "results")}
        prepared = score_file.prepare(
            Scoring(**settings, value=f"tone={name}", output=str(tmp_path / "s.json"))
        )
        assert prepared.opening.endswith("adding tone (tone: text, by a server)")
        run(prepared)
    found = [record["tone"] for record in json.loads((tmp_path / "s.json").read_text())]
    np.testing.assert_allclose(found, numbers(f"tone={folder}"), atol=1e-4)


def test_the_key_is_of_url_model_and_form_and_needs_no_server():
    name = f"http://127.0.0.1:{free_port()}/v1#org/rm"
    spec = rewards.resolve(f"tone={name}", beside(in_chat=True))
    assert (spec.form, spec.model.name, spec.model.revision) == ("chat", name, "served")
    assert spec.identity == {
        "revision": "served",
        "model": name,
        "kind": "served",
        "pair": False,
        "form": "chat",
        "label": "",
        "transform": "logit",
        "dtype": "served",
    }
    forms = [
        rewards.resolve(f"tone={name}:{form}", beside()).identity for form in ("text", "pair", "completion")
    ]
    assert len({json.dumps(form) for form in forms}) == 3


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("t=http://h:8/v1#org/m", ("t", "http://h:8/v1#org/m", "", "logit", None)),
        ("t=http://h:8/v1", ("t", "http://h:8/v1", "", "logit", None)),
        ("t=https://h/v1:prob", ("t", "https://h/v1", "", "prob", None)),
        ("t=http://h/v1#m:8b#2:prob:pair", ("t", "http://h/v1#m:8b", "2", "prob", "pair")),
        ("t=http://[::1]:80/v1#m:chat", ("t", "http://[::1]:80/v1#m", "", "logit", "chat")),
        ("http://h/v1#m", ("", "http://h/v1#m", "", "logit", None)),
    ],
)
def test_how_a_server_is_written(value, parts):
    asked = catalogue.parse(value)
    assert (asked.name, asked.source, asked.label, asked.transform, asked.form) == parts


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("http://h/v1#m", "a model behind a server needs a name: NAME=http://HOST:PORT/v1#MODEL"),
        (
            "t=http://me:sk-pass@h/v1#m",
            "--value t: a model behind a server is written http://HOST:PORT/v1#MODEL",
        ),
        ("t=http://h/v1?key=sk-pass#m", "without user, password or query"),
        ("t=http://me:sk-pass@h/v1#m#1#2", "unknown value 't=http://…'"),
        ("t=http://localhost:port/v1#m", "is written http://HOST:PORT/v1#MODEL"),
        ("seed=http://h/v1#m", "the tables have a column 'seed' already"),
    ],
)
def test_what_is_not_written_so_is_refused_without_repeating_a_password(value, said):
    with pytest.raises(ConfigError) as refused:
        rewards.check_name(value)
    assert said in str(refused.value)
    assert "sk-pass" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_command_line_refuses_it_in_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line(MCAligned, ["--value", "t=http://me:sk-pass@h/v1#m", "--lam", "1"])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
