"""Every engine and every kind of reward keeps its contract."""

import subprocess
import sys

import pytest
from checkpoints import causal
from classifiers import MODEL, Scorer
from completions import Small, http_server
from contracts import EngineContract, RewardContract
from reward_models import build, embedder
from test_judges import spoken

from exptilt import rewards
from exptilt.engines import huggingface, openai, registry, toy, vllm
from exptilt.engines.base import P0
from exptilt.models import reference
from exptilt.models.reference import ModelRef
from exptilt.rewards.base import RewardSpec
from exptilt.rewards.registry import KINDS


def p0_of(name: str, **changes) -> P0:
    settings = {"dtype": "float32", "temperature": 1.0, "top_k": 5, "top_p": 1.0, "max_new_tokens": 4}
    return P0(model=registry.base_model(name), **{**settings, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return causal(tmp_path_factory.mktemp("contract") / "letters", "llama")


class TestToy(EngineContract):
    @pytest.fixture
    def spec(self):
        return toy.ENGINE

    @pytest.fixture
    def p0(self):
        return p0_of("toy")


class TestHuggingFace(EngineContract):
    @pytest.fixture
    def spec(self):
        return huggingface.ENGINE

    @pytest.fixture
    def p0(self, folder):
        return p0_of(folder, ends=(0,), named_ends=(0,))


class TestOpenAI(EngineContract):
    @pytest.fixture
    def spec(self):
        return openai.ENGINE

    @pytest.fixture(scope="class")
    def root(self, folder):
        with http_server(Small(folder)) as root:
            yield root

    @pytest.fixture
    def p0(self, root):
        return p0_of(f"{root}#org/small", dtype=reference.SERVED)


def test_every_engine_of_the_registry_is_tried():
    tried_here = (toy.ENGINE, openai.ENGINE, huggingface.ENGINE)
    tried_in_test_vllm = (vllm.ENGINE,)  # the server is OpenAIEngine's, started by the run
    assert set(registry.engines()) == {spec.name for spec in tried_here + tried_in_test_vllm}


def test_what_engines_can_is_known_without_their_libraries():
    code = (
        "import sys; from exptilt.engines import registry\n"
        "for name in ('toy', 'demo', 'http://localhost/v1#m'):\n"
        "    registry.capabilities(registry.base_model(name))\n"
        "print({'torch', 'transformers', 'openai'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """A checkpoint for each kind of reward that needs one."""
    root = tmp_path_factory.mktemp("rewards")
    return {"classifier": build("bert", root / "bert"), "coherence": embedder(root / "embedder")}


@pytest.fixture(scope="module")
def classifier(models):
    """A classifier behind a server."""
    with http_server(Scorer(models["classifier"])) as root:
        yield reference.served("", f"{root}#{MODEL}")


def opinion(path: str, body: dict):
    """A judge's answer, by the length of the question."""
    chance = 1 / len(body["messages"][0]["content"])
    return 200, spoken([("2", 1 - chance), ("1", chance)])


@pytest.fixture(scope="module")
def judge():
    with http_server(opinion) as root:
        yield reference.served("", f"{root}#m")


class TestRewards(RewardContract):
    @pytest.fixture(params=sorted(set(KINDS) - {"file", "ensemble"}))  # numbers that others have
    def reward(self, request, models, classifier, judge, rewards_file):
        kind, model = request.param, ModelRef(name="r", source="r", revision="1")
        if kind in models:
            model = reference.resolve("r", models[kind], "model")
        if kind == "function":
            model = ModelRef(name="length", source=f"{rewards_file}:length", revision="1")
        if kind == "served":
            model = classifier
        if kind == "judge":
            asked = "answers: 1, 2\n{prompt} {completion}"
            return rewards.load(
                RewardSpec(value=kind, kind=kind, model=judge, transform="expected", rubric=asked), "cpu"
            )
        return rewards.load(RewardSpec(value=kind, kind=kind, model=model), "cpu")
