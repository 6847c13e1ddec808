"""The research API: attributes, defaults, methods, and the command line."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from completions import Answer, http_server
from processes import ROOT
from reward_models import build
from test_judges import DIGITS, opinion

from gendata import TextGeneration, _parsed


@pytest.fixture
def generation(tmp_path) -> TextGeneration:
    return TextGeneration("toy", "demo", save_directory=str(tmp_path))


def test_attributes_are_those_of_the_research_code(generation, tmp_path):
    assert generation.device in ("cpu", "cuda")
    assert (generation.basemodel_name, generation.data_name) == ("toy", "demo")
    assert generation.basemodel_filename == "toy"
    assert generation.file_path == f"{tmp_path}/toy-demo.json"
    assert (generation.top_k, generation.max_new_tokens) == (50, 50)
    config = generation.generation_config
    assert (config.do_sample, config.top_k, config.temperature, config.num_beams) == (True, 50, 1.0, 1)
    assert TextGeneration("facebook/opt-1.3b", "Imdb").file_path == "results/opt-1.3b-Imdb.json"


def test_methods_have_the_research_codes_defaults():
    original = inspect.signature(TextGeneration.generate_from_original_model).parameters
    aligned = inspect.signature(TextGeneration.generate_from_MC_aligned_model).parameters
    assert {n: p.default for n, p in original.items() if n != "self"} == {"batch_size": 32}
    assert [*aligned][1:3] == ["lam_list", "value_list"]
    defaults = {n: p.default for n, p in aligned.items() if p.default is not p.empty}
    assert defaults == {"value_list": (), "MC_nsamples": 32, "start_index": 0, "end_index": None}


@pytest.mark.parametrize(
    ("lam", "value", "name"),
    [
        (-0.5, "{}:bees", "toy-demo_lam=-0.500_val=bees_0to4.json"),
        ([1, 2.5], "{0}:bees,{0}:length", "toy-demo_lam=1.000,2.500_val=bees,length_0to4.json"),
        ((1, 2.5), ["{}:bees", "{}:length"], "toy-demo_lam=1.000,2.500_val=bees,length_0to4.json"),
    ],
)
def test_lam_and_values_come_in_every_shape(generation, tmp_path, rewards_file, lam, value, name):
    filled = value.format(rewards_file) if isinstance(value, str) else [v.format(rewards_file) for v in value]
    generation.generate_from_MC_aligned_model(lam, filled, MC_nsamples=3, end_index=4)
    assert len(json.loads((tmp_path / "temp" / name).read_text())) == 4


@pytest.mark.parametrize("mapping", [True, False])
def test_lam_may_name_its_values(generation, tmp_path, rewards_file, mapping):
    given = {f"{rewards_file}:bees": -0.5, f"{rewards_file}:length": 2}
    lam = given if mapping else ",".join(f"{value}={number}" for value, number in given.items())
    generation.generate_from_MC_aligned_model(lam, MC_nsamples=3, end_index=4)
    rows = json.loads((tmp_path / "temp/toy-demo_lam=-0.500,2.000_val=bees,length_0to4.json").read_text())
    assert len(rows) == 4


def test_attributes_are_obeyed(generation):
    generation.max_new_tokens = 1
    generation.generate_from_original_model()
    rows = json.loads(Path(generation.file_path).read_text())
    assert max(len(r["generated"]) - len(r["prompt"]) for r in rows) == 1


def gendata(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "gendata.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_command_line_is_the_research_codes(tmp_path):
    done = gendata("--basemodel_name=toy", "--data_name=demo", "generate_from_original_model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "results" / "toy-demo.json").read_text())) >= 200
    assert "toy-demo.json" in done.stdout


def test_the_command_line_refuses_in_one_line(tmp_path):
    done = gendata("--data_name=Wikipedia", "generate_from_original_model", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown data 'Wikipedia': supported are")
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_command_line_tells_failure_from_bad_input(tmp_path):
    (tmp_path / "own.py").write_text(
        "def picky(prompts, completions):\n    return [1 / ('bad' not in p) for p in prompts]\n"
    )
    (tmp_path / "p.txt").write_text("\n".join("bad" if k == 8 else f"p {k}" for k in range(20)))
    run = ["generate_from_MC_aligned_model", "--lam_list=1", "--value_list=own.py:picky", "--MC_nsamples=2"]
    done = gendata("--basemodel_name=toy", "--data_name=p.txt", *run, cwd=tmp_path)
    assert done.returncode == 1
    assert "error: 1 of 1 shard failed" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "  shard 001: prompt 8 ('bad'): value 'picky' failed with Zero"
    )


VALUES = """
def wins(prompt, completions): return [sum(len(c) > len(d) for d in completions) for c in completions]
def length(prompts, completions): return [len(c) for c in completions]
"""
ENSEMBLE = """
kind = "min"
pool = "p"
[members]
"own.py:length" = { mean = 1, sd = 2 }
diversity = { mean = 0, sd = 1 }
"""


def test_values_of_every_kind_are_written_as_they_are_elsewhere(tmp_path):
    """Groups, ensembles, judges, classifiers behind servers, and labels, whose # is no comment."""
    (tmp_path / "own.py").write_text(VALUES)
    (tmp_path / "judge.toml").write_text(ENSEMBLE)
    (tmp_path / "rubric.md").write_text(DIGITS)
    tone = build("distilbert", tmp_path / "tone", labels=3)
    answer = {"index": 0, "label": "LABEL_0", "probs": [0.5, 2.0], "num_classes": 2}

    def answers(path: str, body: dict) -> Answer:
        return opinion(body) if path == "/v1/chat/completions" else (200, {"data": [dict(answer)]})

    with http_server(answers) as root:
        values = [
            "own.py:wins",
            "best=judge.toml",
            f"fit=rubric.md@{root}#m",
            f"far={root}#m#1",
            f"tone={tone}#2",
        ]
        common = [
            "--basemodel_name=toy",
            "generate_from_MC_aligned_model",
            "--MC_nsamples=3",
            "--end_index=3",
        ]
        done = gendata(*common, "--lam_list=1,1,1,1,1", f"--value_list={','.join(values)}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "results" / "temp").glob("*.json")
    assert {"wins", "best", "fit", "far", "tone"} <= set(json.loads(file.read_text())[0])


def test_a_label_is_no_comment(tmp_path):
    common = ["generate_from_MC_aligned_model", "--MC_nsamples=2", "--end_index=2", "--lam_list=1,1"]
    done = gendata(*common, "--value_list=humor,positive#0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "results" / "temp").glob("*.json")
    assert {"humor", "positive#0"} <= set(json.loads(file.read_text())[0])


@pytest.mark.parametrize(
    ("text", "meant"),
    [("a#1", "a#1"), ("a#1,b", "a#1,b"), ("['a#1','b']", ["a#1", "b"]), ("a,b", ("a", "b")), ("-0.5", -0.5)],
)
def test_a_flag_is_a_literal_or_its_text(text, meant):
    assert _parsed(text) == meant
