"""Every engine and every kind of reward keeps its contract."""

import subprocess
import sys

import pytest
from checkpoints import causal
from classifiers import MODEL, Scorer
from completions import Small, http_server
from contracts import EngineContract, RewardContract
from reward_models import build, embedder

from exptilt import rewards
from exptilt.engines import huggingface, openai, registry, toy
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


def test_every_engine_of_the_registry_is_tried_here():
    assert set(registry.engines()) == {spec.name for spec in (toy.ENGINE, openai.ENGINE, huggingface.ENGINE)}


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


class TestRewards(RewardContract):
    @pytest.fixture(params=sorted(set(KINDS) - {"file"}))
    def reward(self, request, models, classifier, rewards_file):
        kind, model = request.param, ModelRef(name="r", source="r", revision="1")
        if kind in models:
            model = reference.resolve("r", models[kind], "model")
        if kind == "function":
            model = ModelRef(name="length", source=f"{rewards_file}:length", revision="1")
        if kind == "served":
            model = classifier
        return rewards.load(RewardSpec(value=kind, kind=kind, model=model), "cpu")
