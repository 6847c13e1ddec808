"""A score is that of the text alone, unpadded, whatever shares its batch; what cannot be is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reward_models import KINDS, POSITIONS, build, embedder
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from exptilt import rewards
from exptilt.engines import registry
from exptilt.errors import ConfigError, ModelError, RewardError
from exptilt.models import reference
from exptilt.models.batching import Budget, batches, in_batches
from exptilt.models.fused_layers import fuse
from exptilt.models.packed_linear import GELU, Packed, pack
from exptilt.rewards import diversity, prefix_sharing
from exptilt.rewards.base import CONVERSATION, RewardSpec
from exptilt.rewards.catalogue import check_name, parse
from exptilt.rewards.classifier import ClassifierReward
from exptilt.rewards.coherence import CoherenceReward
from exptilt.rewards.prefix_sharing import shared_length

PROMPTS = [
    "why?",
    "the goose",
    "Ärger",
    "the room was",
    "שלום",
    "🙂🙃",
    "x",
    "long",
    "\n\n",
    "why?",
    "y" * 200,
]
COMPLETIONS = ["", " paid for the towels", " im Café: 100 %", " fine\n", " עולם טוב", " 🦆", "!" * 30]
COMPLETIONS += [" and the towels" * 667, " ", " the room was fine", " z"]
NLLS = [None] * len(PROMPTS)
BOUND_FLOAT32 = 1e-4
BOUND_BFLOAT16 = 0.15  # or 2 % of the largest logit, where that is more


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory) -> str:
    return build(request.param, tmp_path_factory.mktemp("reward") / request.param.replace(" ", "-"))


def spec(folder: str, kind="classifier", **changes) -> RewardSpec:
    return RewardSpec(value="tone", kind=kind, model=reference.resolve("tone", folder, "model"), **changes)


def alone(folder: str, pair: bool, prompts=PROMPTS, completions=COMPLETIONS) -> np.ndarray:
    """Logits of each text by itself: no batch, no padding, the tail of what is too long."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, truncation_side="left")
    found = []
    for x, y in zip(prompts, completions, strict=True):
        text = (f"{CONVERSATION[0]}{x}{CONVERSATION[1]}", y.strip()) if pair else (x + y,)
        if pair and len(tokenizer("", text[1])["input_ids"]) >= POSITIONS:
            text, how = ("", text[1]), "only_second"
        else:
            how = "only_first"
        columns = [[part] for part in text]
        one = tokenizer(*columns, truncation=how, max_length=POSITIONS, return_tensors="pt")
        with torch.no_grad():
            found.append(model(**one).logits[0].double().numpy())
    return np.array(found)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("tokens", [1, 130, 10_000])
def test_scores_are_those_of_each_text_alone(folder, pair, tokens):
    reward = ClassifierReward(spec(folder, form="pair" if pair else "text"), "cpu")
    reward.classifier.kept.clear()
    reward.classifier.budget = Budget(tokens)
    expected = alone(folder, pair)
    assert np.ptp(expected[:, 1]) > 0.1
    scored = reward.score(PROMPTS, COMPLETIONS, NLLS)
    np.testing.assert_allclose(scored.rewards, expected[:, 1], atol=BOUND_FLOAT32, rtol=0)
    assert 1 <= scored.cut <= 4
    backwards = reward.score(PROMPTS[::-1], COMPLETIONS[::-1], NLLS).rewards[::-1]
    np.testing.assert_allclose(backwards, expected[:, 1], atol=BOUND_FLOAT32, rtol=0)


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("tokens", [1, 60, 10_000])
def test_what_texts_share_changes_no_score(folder, pair, tokens):
    """Samples of one prompt begin alike; some end where others go on, and one is too long."""
    prompts = ["the room was fine and the goose", "why?", "the room was fine"] * 4
    completions = [
        "",
        " paid",
        " paid for the towels",
        "!",
        " the the",
        " 🦆",
        " paid",
        "!!",
        "",
        " z",
        "a",
        "b" * 90,
    ]
    reward = ClassifierReward(spec(folder, form="pair" if pair else "text"), "cpu")
    reward.classifier.kept.clear()
    reward.classifier.budget = Budget(tokens)
    scored = reward.score(prompts, completions, [None] * 12)
    expected = alone(folder, pair, prompts, completions)[:, 1]
    np.testing.assert_allclose(scored.rewards, expected, atol=BOUND_FLOAT32, rtol=0)


def test_too_little_memory_for_one_prompts_samples_halves_their_batch(tmp_path, monkeypatch):
    reward = ClassifierReward(spec(build("gpt2", tmp_path / "gpt2")), "cpu")
    prompts, completions = ["the room was fine"] * 10, [" paid" * i for i in range(10)]
    expected = reward.score(prompts, completions, [None] * 10).rewards
    whole = prefix_sharing._logits

    def small(model, rows, *more):
        if len(rows) > 3:
            raise torch.OutOfMemoryError("no memory left")
        return whole(model, rows, *more)

    monkeypatch.setattr(prefix_sharing, "_logits", small)
    reward.classifier.kept.clear()
    np.testing.assert_allclose(reward.score(prompts, completions, [None] * 10).rewards, expected, atol=1e-4)


def test_packed_layers_give_the_same_bits(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokens = torch.arange(4, 24)[None]
    with torch.no_grad():
        before = model.base_model(input_ids=tokens)[0]
        assert torch.equal(before, pack(model).base_model(input_ids=tokens)[0])


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU packs nothing")
def test_a_fused_gelu_is_that_of_the_exact_sum_rounded_once():
    """Within two units in the last place of bfloat16, also far out."""
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(size).bfloat16() for size in ((64, 96), (80, 96), (80,)))
    x[:8] *= 20
    packed = Packed(weight, bias)
    packed.after = GELU
    exact = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    expected = torch.nn.functional.gelu(exact, approximate="tanh")
    torch.testing.assert_close(packed(x).double(), expected, rtol=2**-7, atol=2**-10)


def test_fusing_keeps_a_model_as_near_to_float32_as_it_was(folder):
    def hidden(model):
        with torch.no_grad():
            return model.base_model(input_ids=torch.arange(4, 24)[None])[0].float()

    load = AutoModelForSequenceClassification.from_pretrained
    exact = hidden(load(folder).eval())
    plain, fused = (load(folder, dtype=torch.bfloat16).eval() for _ in range(2))
    errors = [(hidden(m) - exact).abs().mean().item() for m in (plain, fuse(pack(fused)))]
    assert errors[1] <= 1.25 * errors[0]


@pytest.mark.parametrize(
    ("rows", "length"),
    [
        ([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7, 8]], 5),
        ([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]], 4),
        ([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]], 4),
        ([[1, 2, 3, 4], [1, 2, 3, 4, 5]], 0),
        ([[1, 2, 9], [1, 2, 3]], 0),
        ([[1, 2, 3, 4, 5, 6]], 0),
    ],
)
def test_rows_share_a_beginning_that_is_worth_it_and_keep_a_token_of_their_own(rows, length):
    assert shared_length(rows) == length


def test_bfloat16_stays_within_its_bound(folder):
    scored = ClassifierReward(spec(folder, dtype="bfloat16"), "cpu").score(PROMPTS, COMPLETIONS, NLLS)
    expected = alone(folder, pair=False)
    bound = max(BOUND_BFLOAT16, 0.02 * np.abs(expected).max())
    assert np.abs(scored.rewards - expected[:, 1]).max() < bound


def test_a_cut_text_keeps_its_completion(folder):
    """Two long prompts that differ only at their beginning score alike: it is the beginning that goes."""
    reward = ClassifierReward(spec(folder, form="pair"), "cpu")
    long = "the room was fine " * 200
    scored = reward.score([long, "goose " + long, long], [" paid", " paid", " towels"], [None] * 3)
    assert scored.cut == 3
    assert scored.rewards[0] == pytest.approx(scored.rewards[1], abs=1e-6)
    assert scored.rewards[0] != pytest.approx(scored.rewards[2], abs=1e-5)


@pytest.fixture(scope="module")
def two_labels(tmp_path_factory) -> str:
    return build("bert", tmp_path_factory.mktemp("reward") / "two")


def test_labels_and_transforms(two_labels, tmp_path):
    logits = torch.tensor(alone(two_labels, pair=False))

    def score(**changes) -> np.ndarray:
        return ClassifierReward(spec(two_labels, **changes), "cpu").score(PROMPTS, COMPLETIONS, NLLS).rewards

    np.testing.assert_allclose(score(), logits[:, 1], atol=1e-4)
    np.testing.assert_allclose(score(label="0"), logits[:, 0], atol=1e-4)
    np.testing.assert_allclose(score(label="LABEL_0"), logits[:, 0], atol=1e-4)
    np.testing.assert_allclose(score(transform="prob"), logits.softmax(-1)[:, 1], atol=1e-4)
    np.testing.assert_allclose(score(transform="logprob"), logits.log_softmax(-1)[:, 1], atol=1e-4)
    one = build("bert", tmp_path / "one", labels=1)
    single = ClassifierReward(spec(one, transform="logprob"), "cpu").score(PROMPTS, COMPLETIONS, NLLS).rewards
    np.testing.assert_allclose(single, np.log(1 / (1 + np.exp(-alone(one, False)[:, 0]))), atol=1e-4)


NAMES = ("calm", "kind", "fair")
HEADS = [(1, None), (1, "multi_label_classification"), (2, None), (2, "single_label_classification")]
HEADS += [(2, "multi_label_classification"), (3, None), (3, "multi_label_classification")]


def head(folder: Path, labels: int, scale: float = 1.0, **config) -> str:
    """A random classifier of labels NAMES, the second the first's opposite, with a head of `scale` and
    changes to its configuration."""
    build("bert", folder, labels)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.classifier.weight.data.mul_(scale)
    model.classifier.weight.data[1:2] = -model.classifier.weight.data[:1]
    model.save_pretrained(folder)
    said = json.loads((folder / "config.json").read_text())
    names = dict(enumerate(NAMES[:labels]))
    both = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    (folder / "config.json").write_text(json.dumps({**said, **both, **config}))
    return str(folder)


def resolved(folder: str, how: str) -> RewardSpec:
    return rewards.resolve(
        f"tone={folder}{how}",
        rewards.Beside(base=registry.base_model("toy"), dtype="float32", base_dtype="float32"),
    )


def scored(folder: str, how: str) -> np.ndarray:
    prompts, completions = ["the room", "why?", "x"], [" was fine", "", " paid for the towels"]
    return rewards.load(resolved(folder, how), "cpu").score(prompts, completions, [None] * 3).rewards


@pytest.mark.parametrize(("labels", "problem"), HEADS)
@pytest.mark.parametrize("function", [None, "none", "sigmoid", "softmax"])
def test_a_probability_is_that_of_transformers_pipeline(tmp_path, labels, problem, function):
    """By each label's name and number; the pipeline, too, asks what the labels are to one another first."""
    own = {"function_to_apply": function} if function else {}
    folder = head(tmp_path / "model", labels, scale=2, problem_type=problem, **own)
    said = pipeline("text-classification", model=folder, top_k=None)
    rows = said(["the room was fine", "why?", "x paid for the towels"])
    for number, name in enumerate(NAMES[:labels]):
        expected = [next(each["score"] for each in row if each["label"] == name) for row in rows]
        for label in (name, number):
            np.testing.assert_allclose(scored(folder, f"#{label}:prob"), expected, atol=1e-5)
            np.testing.assert_allclose(scored(folder, f"#{label}:logprob"), np.log(expected), atol=1e-5)


@pytest.mark.parametrize(("labels", "problem"), HEADS)
def test_the_log_of_a_probability_is_finite_for_large_logits(tmp_path, labels, problem):
    folder = head(tmp_path / "model", labels, scale=1e5, problem_type=problem)
    numbers = [scored(folder, f"#{label}:logprob") for label in range(labels)]
    assert np.isfinite(numbers).all()
    assert np.max(numbers) <= 0
    assert np.min(numbers) < -1000 or labels == 1
    assert all(np.isfinite(scored(folder, f"#{label}:prob")).all() for label in range(labels))


@pytest.mark.parametrize("transform", ["prob", "logprob"])
def test_a_regression_has_no_probability(tmp_path, transform):
    folder = head(tmp_path / "model", 1, problem_type="regression")
    said = rf"value 'tone:{transform}': .*model is a regression .* has no probability; leave :{transform} out"
    with pytest.raises(ModelError, match=said):
        resolved(folder, f":{transform}")
    assert np.isfinite(scored(folder, "")).all()


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_the_second_of_two_is_usual_only_where_one_of_them_is_true(tmp_path, problem):
    folder = head(tmp_path / "model", 2, problem_type=problem)
    with pytest.raises(ModelError, match=r"has the labels calm, kind; choose with #LABEL$"):
        resolved(folder, "")
    assert resolved(folder, "#kind").label == "kind"


def test_a_label_of_two_meanings_or_none_is_refused_before_weights_are_read(tmp_path):
    folder = head(tmp_path / "model", 3, label2id={"kind": 0, "warm": 2})
    (tmp_path / "model" / "model.safetensors").write_bytes(b"damaged")
    for label, said in {
        "kind": "'kind' means several",
        "²": "'²' is none of them",
        "3": "'3' is none",
    }.items():
        with pytest.raises(ModelError, match=f"has the labels calm, kind, fair; choose with #LABEL: {said}"):
            resolved(folder, f"#{label}")
    assert [resolved(folder, f"#{label}").label for label in ("warm", "fair", "1")] == ["warm", "fair", "1"]


@pytest.mark.parametrize(("labels", "problem"), HEADS)
@pytest.mark.parametrize("how", ["#0", "#0:prob", "#0:logprob"])
def test_only_a_number_that_changed_has_another_key(tmp_path, labels, problem, how):
    """The identity as the first build had it, but for probabilities of several labels that are not shares."""
    spec = resolved(head(tmp_path / "model", labels, problem_type=problem), how)
    first = {
        "revision": spec.model.revision,
        "model": "",
        "kind": "classifier",
        "pair": False,
        "label": "0",
        "transform": how.partition(":")[2] or "logit",
        "dtype": "float32",
    }
    changed = problem == "multi_label_classification" and labels > 1 and ":" in how
    assert spec.identity == {**first, **({"multi_label": True} if changed else {})}


def test_values_of_one_model_share_one_forward_pass(two_labels):
    first, second = (ClassifierReward(spec(two_labels, transform=t), "cpu") for t in ("logit", "prob"))
    assert first.classifier is second.classifier
    first.classifier.kept.clear()
    first.score(PROMPTS, COMPLETIONS, NLLS)
    first.classifier.budget = Budget(0)
    second.classifier.model.forward, kept = None, second.classifier.model.forward
    try:
        assert np.isfinite(second.score(PROMPTS, COMPLETIONS, NLLS).rewards).all()
    finally:
        second.classifier.model.forward = kept
        first.classifier.budget = Budget(4096)


def test_a_label_that_is_not_there_is_named(tmp_path):
    three = build("bert", tmp_path / "three", labels=3)
    for label in ("", "7", "nice"):
        with pytest.raises(ModelError, match=r"'tone'.*has the labels LABEL_0, LABEL_1, LABEL_2"):
            ClassifierReward(spec(three, label=label), "cpu")


def test_coherence_is_the_cosine_of_the_poolers(tmp_path):
    folder = embedder(tmp_path / "simcse")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokenizer.truncation_side = "left"

    def embed(text: str) -> torch.Tensor:
        with torch.no_grad():
            batch = tokenizer(text, return_tensors="pt", truncation=True, max_length=POSITIONS)
            return model(**batch).pooler_output[0].double()

    pairs = zip(PROMPTS, COMPLETIONS, strict=True)
    expected = [float(torch.cosine_similarity(embed(x), embed(y.strip()), dim=0)) for x, y in pairs]
    scored = CoherenceReward(spec(folder, kind="coherence"), "cpu").score(PROMPTS, COMPLETIONS, NLLS)
    np.testing.assert_allclose(scored.rewards, expected, atol=1e-4)


def test_a_head_that_would_be_random_stops_the_run(tmp_path):
    with pytest.raises(ModelError, match=r"'tone': model 'tone' lacks weights: classifier\.bias"):
        ClassifierReward(spec(embedder(tmp_path / "headless")), "cpu")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a b c d e f", (5 / 6) * (4 / 5) * (3 / 4)),
        ("", 0.0),
        ("one", 0.0),
        ("a b a b a b", (2 / 6) * (2 / 5) * (2 / 4)),
        ("Mr. Fox ran. He hid.", (6 / 7) * (5 / 6) * (4 / 5)),
    ],
)
def test_diversity_by_hand(text, value):
    assert diversity.diversity(text) == pytest.approx(value)


def test_words_are_those_of_sentences():
    assert diversity.words("Mr. Fox can't. He ran!") == ["Mr.", "Fox", "ca", "n't", ".", "He", "ran", "!"]


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("positive", ("", "positive", "", "logit")),
        ("positive:prob", ("", "positive", "", "prob")),
        ("tone=org/model", ("tone", "org/model", "", "logit")),
        ("tone=org/model#joy:logprob", ("tone", "org/model", "joy", "logprob")),
        ("short=a/b.py:brevity", ("short", "a/b.py:brevity", "", "logit")),
        ("b.py:prob", ("", "b.py", "", "prob")),
    ],
)
def test_a_value_is_read_in_parts(value, parts):
    asked = parse(value)
    assert (asked.name, asked.source, asked.label, asked.transform) == parts


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("org/model", "unknown value 'org/model'"),
        ("diversity:prob", "are for classifiers"),
        ("perplexity#1", "are for classifiers"),
        ("weight=org/model", "have a column 'weight' already"),
        ("a=b=c", "unknown value"),
    ],
)
def test_a_value_that_means_nothing_is_named(value, said):
    with pytest.raises(ConfigError, match=said):
        check_name(value)


def test_a_package_may_bring_values(tmp_path, monkeypatch):
    """An installed package with the entry point group exptilt.rewards."""
    (tmp_path / "lab_rewards.py").write_text(
        "def calm(prompts, completions):\n    return [1] * len(prompts)\n"
    )
    info = tmp_path / "lab_rewards-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-rewards\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[exptilt.rewards]\ncalm = lab_rewards:calm\n")
    monkeypatch.syspath_prepend(tmp_path)
    check_name("calm")
    found = rewards.resolve(
        "calm", rewards.Beside(base=registry.base_model("toy"), dtype="float32", base_dtype="float32")
    )
    assert found.model.revision == "lab-rewards-1.2"
    assert rewards.load(found, "cpu").score(["a", "b"], ["", ""], [None, None]).rewards.tolist() == [1, 1]


def test_a_user_function_that_does_not_load_is_named(tmp_path):
    (tmp_path / "bad.py").write_text("import nowhere_to_be_found\n")
    found = rewards.resolve(
        f"{tmp_path}/bad.py:f",
        rewards.Beside(base=registry.base_model("toy"), dtype="float32", base_dtype="float32"),
    )
    with pytest.raises(RewardError, match=r"value 'f'.*nowhere_to_be_found"):
        rewards.load(found, "cpu")


def test_batches_hold_every_text_once_within_the_budget():
    lengths = [5, 1, 9, 3, 3, 20, 2]
    found = list(batches(lengths, Budget(10)))
    assert sorted(i for batch in found for i in batch) == list(range(7))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 10 for b in found)


def test_out_of_memory_halves_the_batch_and_remembers():
    budget, sizes = Budget(64), []

    def forward(places: list[int]) -> list[int]:
        sizes.append(len(places))
        if len(places) > 4:
            raise torch.OutOfMemoryError("no memory left")
        return places

    assert in_batches([1] * 100, budget, forward) == list(range(100))
    assert budget.tokens <= 8
    with pytest.raises(torch.OutOfMemoryError):
        in_batches([1], Budget(1), lambda places: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
