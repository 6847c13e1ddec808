"""The code of docs/how-to/extending.md runs, and its engine and its reward keep the contracts."""

import re
from types import ModuleType

import pytest
from contracts import EngineContract, RewardContract
from processes import ROOT

from exptilt.config.settings import MCAligned, Original
from exptilt.engines import registry
from exptilt.engines.base import P0
from exptilt.errors import ModelError
from exptilt.local_run import run
from exptilt.planning.plan import prepare
from exptilt.rewards.base import RewardSpec
from exptilt.rewards.catalogue import CATALOGUE, Entry
from exptilt.rewards.registry import KINDS
from exptilt.rewards.resolving import Beside, resolve

PAGE = (ROOT / "docs" / "how-to" / "extending.md").read_text(encoding="utf-8")
CODE = dict(re.findall(r'```python title="(\w+)[.]py"\n(.*?)```', PAGE, flags=re.DOTALL))


def module(name: str) -> ModuleType:
    """A code block of the page as a module."""
    made = ModuleType(name)
    exec(compile(CODE[name], f"docs/how-to/extending.md: {name}", "exec"), made.__dict__)
    return made


def test_every_block_runs():
    assert set(CODE) == {"lab_engines", "rewards", "calm", "flag"}
    for name in CODE:
        module(name)


class TestEngine(EngineContract):
    @pytest.fixture(scope="class")
    def spec(self):
        return module("lab_engines").ENGINE

    @pytest.fixture
    def p0(self, spec):
        settings = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "max_new_tokens": 5}
        return P0(model=spec.base_model("coin"), dtype="float32", **settings)


class TestReward(RewardContract):
    @pytest.fixture
    def reward(self):
        kind = module("calm").KIND
        model = resolve(
            "diversity", Beside(base=registry.base_model("toy"), dtype="float32", base_dtype="float32")
        ).model
        return kind.load(RewardSpec(value="calm", kind="calm", model=model), "cpu")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The page's engine, installed as a package, and its kind of reward, in the registry."""
    (tmp_path / "lab_engines.py").write_text(CODE["lab_engines"])
    info = tmp_path / "lab_engines-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-engines\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[exptilt.engines]\ncoin = lab_engines:ENGINE\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(KINDS, "calm", module("calm").KIND)
    monkeypatch.setitem(CATALOGUE, "calm", Entry(kind="calm"))
    registry.engines.cache_clear()
    yield tmp_path
    registry.engines.cache_clear()


def test_a_run_draws_from_the_engine_and_scores_by_both_rewards(installed, tmp_path):
    (tmp_path / "r.py").write_text(CODE["rewards"])
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    settings = {"basemodel": "coin", "data": str(tmp_path / "p.txt"), "save_directory": str(tmp_path / "out")}
    config = MCAligned(**settings, value=("calm", f"{tmp_path}/r.py:brevity"), lam=(1.0, 0.0), nsamples=3)
    summary = run(prepare(config))
    assert (summary.prompts, summary.samples, summary.kept) == (2, 6, 2)


def test_what_the_engine_cannot_do_is_refused_in_one_line(installed, tmp_path):
    (tmp_path / "p.txt").write_text("one\n")
    settings = {"basemodel": "coin", "data": str(tmp_path / "p.txt"), "save_directory": str(tmp_path / "out")}
    with pytest.raises(ModelError, match=r"--chat: .* no chat template"):
        prepare(Original(**settings, chat=True))
    with pytest.raises(ModelError, match="perplexity needs the model's logits, which coin does not give"):
        prepare(MCAligned(**settings, value=("perplexity",), lam=(1.0,)))


def test_an_engine_that_does_not_load_is_named(installed):
    (installed / "lab_engines-1.0.dist-info" / "entry_points.txt").write_text(
        "[exptilt.engines]\na = lost:E\n"
    )
    with pytest.raises(ModelError, match=r"the engine 'a' \(lost:E\) does not load: .*lost"):
        registry.base_model("toy")
