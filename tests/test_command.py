"""The console command: the flows' flags, rows, summary and exit codes without Prefect, and its help."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT, process, run_flow, told, wait_until

from exptilt.command import RUNS
from exptilt.config import flag_groups
from exptilt.config.command_line import command_line

COMMAND = [sys.executable, "-m", "exptilt.command"]
FLOWS = {name: ROOT / "flows" / f"{name.replace('-', '_')}.py" for name in RUNS}


def exptilt(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": "160"}
    return subprocess.run(
        [*COMMAND, *arguments], env=env, cwd=cwd, capture_output=True, text=True, check=False
    )


def arguments_of(rewards_file: str) -> dict[str, list[str]]:
    """Flags of a small run of each kind."""
    drawn = ["--basemodel", "toy", "--end", "70", "--nsamples", "4", "--shard-size", "32"]
    tilted = [*drawn, "--value", f"{rewards_file}:bees"]
    return {
        "original": drawn,
        "mc-aligned": [*tilted, "--lam", "-0.5", "--ndraws", "2"],
        "score": ["--file", "texts.json", "--value", f"{rewards_file}:bees,{rewards_file}:length"],
        "score pairs": ["--file", "pairs.json", "--value", f"{rewards_file}:bees"],
        "sweep": [*tilted, "--lam", "bees=-1:1:0.5", "--save", "1,5"],
        "palette": [*tilted, "--target", "bees=+0.1"],
    }


def write_files(folder: Path) -> None:
    """The files that are scored."""
    records = [{"prompt": f"p{k}", "generated": f"p{k} b{'ab' * k}"} for k in range(7)]
    pairs = [{"prompt": f"p{k}", "chosen": "b" * (k % 2), "rejected": "a"} for k in range(7)]
    (folder / "texts.json").write_text(json.dumps(records))
    (folder / "pairs.json").write_text(json.dumps(pairs))


def written(folder: Path) -> dict[str, Any]:
    """The JSON files that a run wrote, of a palette's the answer alone: manifests hold the time."""
    paths = [
        path for path in folder.rglob("*.json") if "pool" not in path.parts and path.name != "manifest.json"
    ]
    found = {str(path.relative_to(folder)): json.loads(path.read_text()) for path in paths}
    return {name: value["palette"] if isinstance(value, dict) else value for name, value in found.items()}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in {"mc-aligned", "score"} else [pytest.mark.soak])
        for name in (*RUNS, "score pairs")
    ],
)
def test_rows_summary_and_exit_code_are_the_flows(name, tmp_path, server, rewards_file):
    arguments, folders = arguments_of(rewards_file)[name], (tmp_path / "flow", tmp_path / "command")
    for folder in folders:
        folder.mkdir()
        write_files(folder)
    kind = name.partition(" ")[0]
    flow = run_flow(*arguments, env=server, cwd=folders[0], file=FLOWS[kind])
    command = exptilt(kind, *arguments, cwd=folders[1])
    assert (flow.returncode, command.returncode) == (0, 0), flow.stderr + command.stderr
    assert written(folders[1]) == written(folders[0])
    assert told(command.stdout) == told(flow.stdout)
    assert told(command.stderr) == told(flow.stderr)


@pytest.mark.soak
def test_failed_shards_are_named_as_the_flow_names_them(tmp_path, server):
    (tmp_path / "own.py").write_text(
        "def picky(prompts, completions):\n    return [1 / ('bad' not in p) for p in prompts]\n"
    )
    texts = [f"bad {k}" if k in {40, 100} else f"p {k}" for k in range(150)]
    (tmp_path / "prompts.txt").write_text("\n".join(texts))
    toy = ["--basemodel", "toy", "--data", "prompts.txt", "--nsamples", "2", "--shard-size", "32"]
    arguments = [*toy, "--value", "own.py:picky", "--lam", "1"]
    flow = run_flow(*arguments, env=server, cwd=tmp_path)
    command = exptilt("mc-aligned", *arguments, cwd=tmp_path)
    assert told(command.stderr) == told(flow.stderr)
    assert (command.returncode, flow.returncode) == (1, 1)
    assert told(command.stderr)[1].startswith("error: 2 of 5 shards failed; the others are saved")


def test_exit_codes_tell_bad_input_from_failure(tmp_path):
    (tmp_path / "own.py").write_text(
        "def picky(prompts, completions):\n    return [1 / ('bad' not in p) for p in prompts]\n"
    )
    (tmp_path / "prompts.txt").write_text("\n".join("abcdefgh") + "\nbad\nij\nkl\nmn\n")
    toy = ["--basemodel", "toy", "--data", "prompts.txt", "--value", "own.py:picky", "--shard-size", "2"]
    for arguments, code, said in (
        (["nonesuch"], 2, "error: exptilt nonesuch: name one of original, mc-aligned, score, sweep, palette"),
        (["original", "--nsamples", "0"], 2, "error: --nsamples: input should be greater"),
        (["original", "--data", "none.txt"], 2, "error: --data none.txt: there is no such file"),
        (["mc-aligned", *toy], 1, "  shard 001: prompt 8 ('bad'): value 'picky' failed with Zero"),
        (["palette", *toy, "--end", "8", "--target", "picky=2"], 1, ""),
    ):
        done = exptilt(*arguments, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert done.stderr.splitlines()[-1].startswith(said)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_soon_with_one_line(tmp_path, number):
    (tmp_path / "own.py").write_text(
        "import pathlib, time\n"
        "def slow(prompts, completions):\n"
        "    if len(prompts) > 50: pathlib.Path('begun').touch(); time.sleep(60)\n"
        "    return [1.0] * len(prompts)\n"
    )
    arguments = ["mc-aligned", "--basemodel", "toy", "--end", "40", "--value", "own.py:slow"]
    log = tmp_path / "log"
    with process([*COMMAND, *arguments], dict(os.environ), log, cwd=tmp_path) as running:
        wait_until((tmp_path / "begun").exists)
        for _ in range(2):  # as a scheduler does that signals every process of a job
            running.send_signal(number)
            time.sleep(0.01)
        assert running.wait(20) == 128 + number
    assert log.read_text().splitlines()[-1].startswith("error: stopped; finished shards are saved")
    assert log.read_text().count("error: stopped") == 1
    assert list(tmp_path.rglob("*.lease")) == []


def test_every_setting_stands_in_one_group_of_the_help():
    listed = [name for group in flag_groups.GROUPS.values() for name in group.split()]
    fields = {name for model in RUNS.values() for name in model.model_fields}
    assert len(listed) == len(set(listed))
    assert set(listed) == fields


@pytest.mark.parametrize("name", RUNS)
def test_help_begins_with_an_example_that_parses_and_groups_the_flags(name, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line(RUNS[name], ["--help"], f"exptilt {name}")
    shown = capsys.readouterr().out
    example = shown.splitlines()[0].removeprefix(f"usage: exptilt {name} ")
    assert ended.value.code == 0
    assert command_line(RUNS[name], example.split())
    titles = [line[:-1] for line in shown.splitlines() if line[:-1] in flag_groups.GROUPS]
    assert titles == [title for title in flag_groups.GROUPS if title in titles]
    assert {"what", "model", "output", "running"} <= {*titles, *(["what"] if name == "original" else [])}


def test_a_run_without_checkpoints_loads_no_torch(tmp_path, rewards_file):
    code = (
        "import runpy, sys; sys.argv = [sys.argv[1], *sys.argv[2:]]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    )
    command = [str(ROOT / "exptilt" / "command.py"), "mc-aligned", "--basemodel", "toy", "--end", "4"]
    value = ["--value", f"{rewards_file}:bees", "--lam", "1", "--nsamples", "4"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command, *value],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_of_command_and_flows_loads_no_heavy_module(tmp_path):
    code = (
        "import runpy, sys; sys.argv = [sys.argv[1], *sys.argv[2:]]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: print([m for m in ('numpy', 'polars', 'torch', 'prefect') if m in sys.modules])"
    )
    command = str(ROOT / "exptilt" / "command.py")
    for arguments in (
        [command, "--help"],
        [command, "sweep", "--help"],
        [str(FLOWS["mc-aligned"]), "--help"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"
        assert done.stdout.startswith("usage: ")
        assert "flows/" in done.stdout
