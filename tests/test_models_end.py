"""What a run loaded is let go of at its end: a loop over models takes the memory of one."""

import gc
import pickle
import weakref

import pytest
from checkpoints import causal, classifier
from reward_models import MAKERS, embedder
from reward_models import build as build_reward
from test_two_runs import at_once, meeting

import exptilt
from exptilt import rewards, stages
from exptilt.config.settings import Original
from exptilt.config.validation import build
from exptilt.models import loading, reference
from exptilt.planning.plan import prepare
from exptilt.rewards import classifier as classifiers
from exptilt.rewards import coherence
from exptilt.rewards.base import RewardSpec
from exptilt.run import Run

DRAWN = {"data": ["ab", "cd"], "nsamples": 2, "max_new_tokens": 4, "device": "cpu"}


@pytest.fixture
def loaded(monkeypatch):
    """What was loaded: the names, in order, and references that hold nothing."""
    names, models, load = [], [], loading.load_model

    def watched(auto, ref, *others):
        model = load(auto, ref, *others)
        names.append(ref.name)
        models.append(weakref.ref(model))
        return model

    for module in (loading, classifiers, coherence):
        monkeypatch.setattr(module, "load_model", watched)
    gc.collect()
    gc.disable()  # what only the collector frees stays for a long time
    yield names, models
    gc.enable()


def settings(base: str, *values: str, **changes):
    return {"basemodel": base, "value": list(values), "lam": [1.0] * len(values), **DRAWN, **changes}


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bloom"])
def test_a_loop_over_base_models_leaves_none(tmp_path, loaded, kind):
    names, models = loaded
    values = (f"tone={classifier(tmp_path / 'judge')}#1", "perplexity")
    for number in range(3):
        base = causal(tmp_path / str(number), kind)
        exptilt.mc_aligned(**settings(base, *values, save_directory=tmp_path / f"out{number}"))
        assert (len(names), [model() for model in models]) == (2 * (number + 1), [None] * len(models))


@pytest.mark.parametrize("kind", [*MAKERS, "coherence"])
def test_no_kind_of_reward_model_outlives_its_run(tmp_path, loaded, kind):
    names, models = loaded
    folder = embedder(tmp_path / "m") if kind == "coherence" else build_reward(kind, tmp_path / "m")
    ref = reference.resolve(folder, folder, "model")
    spec = RewardSpec(
        value="v", kind="coherence" if kind == "coherence" else "classifier", model=ref, label="1"
    )
    with Run().entered() as run:
        rewards.load(spec, "cpu").score(["a"], ["b"], [None])
    assert models[0]() is not None
    run.end()
    assert (names, models[0]()) == ([folder], None)


def test_a_run_that_fails_leaves_none_either(tmp_path, loaded):
    names, models = loaded
    (tmp_path / "broken.py").write_text("def broken(prompts, completions):\n    raise OSError('no')\n")
    wrong = settings(causal(tmp_path / "base", "gpt2"), f"{tmp_path / 'broken.py'}:broken")
    with pytest.raises(exptilt.ExptiltError):
        exptilt.mc_aligned(**wrong, save_directory=tmp_path / "out")
    assert names
    assert [model() for model in models] == [None]


def test_runs_at_once_share_a_model_and_the_last_one_lets_go_of_it(tmp_path, loaded):
    names, models = loaded
    base, value = causal(tmp_path / "base", "gpt2"), meeting(tmp_path, 2)
    drawn = settings(base, value)
    results = at_once(
        *[lambda name=name: exptilt.mc_aligned(**drawn, save_directory=tmp_path / name) for name in "ab"]
    )
    assert results[0].records.equals(results[1].records)
    assert (names, [model() for model in models]) == ([base], [None])


def test_a_process_that_gets_steps_one_by_one_loads_a_model_once_for_each_run(tmp_path, loaded):
    """As a worker elsewhere does, to which each step comes by pickle."""
    names, models = loaded
    base = causal(tmp_path / "base", "gpt2")
    (tmp_path / "prompts.txt").write_text("ab\ncd\n")
    given = {**DRAWN, "basemodel": base, "data": str(tmp_path / "prompts.txt")}
    plans = [prepare(build(Original, {**given, "save_directory": str(tmp_path / name)})) for name in "ab"]
    sent = [pickle.dumps(plan.recipe) for plan in plans]
    for plan in plans:
        plan.run.end()
    del names[:], models[:]
    for recipe in (sent[0], sent[0], sent[1]):
        stages.generate(pickle.loads(recipe), plans[0].shards[0])
    assert names == [base] * 2
    assert (models[0](), models[1]() is None) == (None, False)
