"""A configuration is built once and its plan prepared once, and a plan belongs to the files of its moment."""

from pathlib import Path

import pytest
from checkpoints import LETTERS, causal
from safetensors.torch import load_file, save_file

from exptilt.config.scoring import Scoring
from exptilt.config.settings import MCAligned, Original
from exptilt.errors import ConfigError
from exptilt.local_run import run
from exptilt.planning.plan import prepare
from flows.mc_aligned import mc_aligned
from tasks.explore import load_explored
from tasks.prompts import load_prompts
from tasks.records import load_records
from tasks.runtime.flow import gen, prepared


def train_on(folder: str) -> None:
    """Change the weights of the model in `folder`, as more training would."""
    path = Path(folder, "model.safetensors")
    weights = load_file(path)
    save_file({name: 3 * weight for name, weight in weights.items()}, path, metadata={"format": "pt"})


def test_a_model_folder_that_was_trained_on_gets_a_new_plan(tmp_path):
    folder = causal(tmp_path / "letters", "llama")
    (tmp_path / "p.txt").write_text("\n".join(LETTERS[:4]))
    where = {"data": str(tmp_path / "p.txt"), "save_directory": str(tmp_path / "results")}
    config = Original(basemodel=folder, **where, max_new_tokens=4, dtype="float32")
    first = prepare(config)
    assert run(first).tokens > 0
    assert run(prepare(config)).tokens == 0
    train_on(folder)
    second = prepare(config)
    assert first.recipe.p0
    assert second.recipe.p0
    assert second.recipe.p0.model.revision != first.recipe.p0.model.revision
    assert run(second).tokens > 0


def test_the_body_of_a_flow_gets_the_plan_that_was_prepared(toy):
    given = []
    flow = gen(MCAligned)(lambda config, plan: given.append((config, plan)))
    config = toy()
    plan = prepare(config)
    handed = prepared(flow, config, plan)
    handed.fn(**config.model_dump())
    flow.fn(**config.model_dump())
    assert given == [(config, plan), (config, None)]
    assert given[0][0] is config
    assert handed.parameters == flow.parameters


@pytest.mark.parametrize("load", [load_prompts, load_explored, load_records])
def test_a_load_step_gives_the_plan_that_there_is(load):
    plan = object()
    assert load.fn(None, plan) is plan


@pytest.mark.parametrize("lam", [{"positive": 2}, "positive=2", ["positive=2"]])
def test_a_deployment_takes_lam_by_value(lam):
    """Prefect hands the settings on as they were given, with its form's defaults for the others."""
    given = []
    flow = gen(MCAligned)(lambda config, plan: given.append(config))
    settings = {**{name: p.default for name, p in MCAligned.model_fields.items()}, "lam": lam}
    parameters = flow.validate_parameters(settings)
    assert parameters == settings
    flow.fn(**parameters)
    assert given[0].tilt == {"positive": 2.0}


def test_the_form_of_a_deployment_has_every_setting():
    form = mc_aligned.parameters.properties
    assert list(form) == list(MCAligned.model_fields)
    assert {"type": "object", "additionalProperties": {"type": "number"}} in form["lam"]["anyOf"]
    assert form["nsamples"]["minimum"] == 1
    assert form["stop"]["description"] == MCAligned.model_fields["stop"].description
    assert gen(Scoring)(lambda config, plan: None).parameters.required == ["file"]


def test_a_deployment_refuses_what_the_command_line_refuses():
    with pytest.raises(ConfigError, match="--nsamples: input should be greater"):
        mc_aligned.fn(nsamples=0)
