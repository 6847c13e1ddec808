"""`--engine vllm`: the run's own server is started once on a device, asked as p0 says, and ends with the run,
however that ends."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from adapters import adapt
from chats import by_hand, chat_model
from checkpoints import causal
from peft import LoraConfig
from processes import flow_command, process, run_flow, wait_until
from vllm_stand_in import ids_of, requests, stand_in, starts

import exptilt
import gendata
from exptilt.config.settings import MCAligned, Original
from exptilt.config.validation import build
from exptilt.engines.vllm import launch, server, watcher
from exptilt.errors import ConfigError, ExptiltError, ModelError, ShardsFailed
from exptilt.local_run import run
from exptilt.models import vllm_command
from exptilt.planning.base_model import p0_of
from exptilt.planning.plan import prepare
from exptilt.stages import retries

PROMPTS = ["abc", "fed cab", "a", "bad face"]
COMMAND = [sys.executable, "-m", "exptilt.command", "original"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return causal(tmp_path_factory.mktemp("vllm") / "letters", "llama")


@pytest.fixture(autouse=True)
def _own_logs(tmp_path, monkeypatch):
    (tmp_path / "logs").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "logs"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(retries, "FIRST_SECONDS", 0.01)


@pytest.fixture
def settings(tmp_path, folder):
    """Settings of a run of four prompts by the stand-in, with some changed."""
    (tmp_path / "p.json").write_text(json.dumps([{"prompt": prompt} for prompt in PROMPTS]))

    def make(program: str, **changes) -> dict:
        common = {"basemodel": folder, "engine": "vllm", "vllm_command": program, "device": "cpu"}
        where = {"data": str(tmp_path / "p.json"), "save_directory": str(tmp_path / "results")}
        return {**common, **where, "max_new_tokens": 6, "top_k": 5, "dtype": "float32", **changes}

    return make


def flags(settings: dict) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def alive(at: Path) -> list[int]:
    """The processes of every start that are still there."""
    return [pid for start in starts(at) for pid in start["pids"] if is_alive(pid)]


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != "zombie"
    except psutil.NoSuchProcess:
        return False


def all_gone(at: Path) -> bool:
    """Whether all of them are gone: the last ones die a moment after the watcher."""
    wait_until(lambda: not alive(at), 20)
    return True


def drawn(config: Original):
    return run(prepare(config))


def test_moves_go_on_from_the_tokens_that_were_drawn(tmp_path, folder, settings):
    (tmp_path / "own.py").write_text(
        "def bees(prompts, completions):\n    return [c.count('b') for c in completions]"
    )
    tilt = {"value": f"{tmp_path}/own.py:bees", "lam": 2.0, "nsamples": 2, "refine": 6, "steer": True}
    how = {"max_new_tokens": 6, "block_tokens": 3, **tilt}
    result = exptilt.mc_aligned(**settings(stand_in(tmp_path / "bin"), **how))
    vocabulary = {number: letter for letter, number in ids_of(folder).items()}
    refined = result.table("refined")
    for row in refined.iter_rows(named=True):
        assert "".join(vocabulary[token] for token in row["tokens"]) == row["completion"]
        assert (row["n_tokens"], row["bees"]) == (6, row["completion"].count("b"))
    samples = result.table("samples")["tokens"].to_list()
    asked = [(each["prompt"], each["max_tokens"]) for each in requests(tmp_path / "bin")]
    rests = [(prompt[len(prompt) - 6 + left :], left) for prompt, left in asked if 0 < left < 6]
    assert any(begun == tokens[: len(begun)] for begun, _ in rests for tokens in samples)
    assert {left for _, left in rests} == {1, 2, 3, 4, 5}
    assert all_gone(tmp_path / "bin")


def test_what_a_server_of_the_run_cannot_refine_is_named(tmp_path, rewards_file, settings):
    how = {"value": f"{rewards_file}:bees", "lam": 1.0, "refine": 2, "stop": ("b",)}
    with pytest.raises(ConfigError, match=r"--refine with --engine vllm takes no --stop"):
        prepare(MCAligned(**settings(stand_in(tmp_path / "bin"), **how)))


def test_one_server_draws_the_trial_and_all_shards_and_ends_with_the_run(tmp_path, settings, capsys):
    program = stand_in(tmp_path / "bin")
    many = tmp_path / "many.json"
    many.write_text(json.dumps([{"prompt": "abcdef"[k % 6] * (k // 6 + 1)} for k in range(70)]))
    config = Original(**settings(program, data=str(many), nsamples=3, shard_size=32))
    plan = prepare(config)
    assert len(alive(tmp_path / "bin")) == 2
    summary = run(plan)
    (start,) = starts(tmp_path / "bin")
    assert all_gone(tmp_path / "bin")
    assert list((tmp_path / "logs").iterdir()) == []
    assert (start["model"], start["gpus"]) == (config.basemodel, "")
    asked = {
        "--host": "127.0.0.1",
        "--dtype": "float32",
        "--generation-config": "vllm",
        "--max-logprobs": "-1",
    }
    assert start["flags"] == {**start["flags"], **asked}
    assert "--no-enable-chunked-prefill" in start["flags"]
    assert start["key"] not in json.dumps(start["flags"])
    said = capsys.readouterr().err
    assert re.search(
        r"vLLM 0.32.0 on cpu starts for \S+letters; its log is \S+\nvLLM 0.32.0 on cpu answers", said
    )
    assert plan.opening.startswith(f"{config.basemodel} by vLLM 0.32.0 on cpu (float32): 70 prompts")
    manifest = json.loads(Path(summary.folder, "manifest.json").read_text())
    assert manifest["p0"] == {**manifest["p0"], "engine": "vllm 0.32.0", "dtype": "float32", "device": "cpu"}
    assert manifest["p0"]["revision"].startswith("blake2b:")
    assert "float32, vllm 0.32.0)" in Path(summary.folder, "README.md").read_text()
    assert start["key"] not in "".join(path.read_text() for path in Path(summary.folder).glob("*.*"))


def test_what_is_in_the_pool_starts_no_server_and_more_samples_extend_it(tmp_path, settings):
    program, at = stand_in(tmp_path / "bin"), tmp_path / "bin"
    first = drawn(Original(**settings(program, nsamples=2)))
    again = drawn(Original(**settings(program, nsamples=2)))
    assert (first.tokens > 0, again.tokens, len(starts(at))) == (True, 0, 1)
    fewer = json.loads(Path(first.json).read_text())
    more = json.loads(Path(drawn(Original(**settings(program, nsamples=4))).json).read_text())
    assert [row for i, row in enumerate(more) if i % 4 < 2] == fewer
    assert len(starts(at)) == 2


def test_it_replays_no_draws_of_another_engine_version_or_argument(tmp_path, settings):
    program = stand_in(tmp_path / "bin")
    own = {name: value for name, value in settings("").items() if not name.startswith(("engine", "vllm"))}
    assert drawn(Original(**settings(program))).tokens > 0
    assert drawn(Original(**own)).tokens > 0
    assert (
        drawn(Original(**settings(f"{program} --max-model-len 32 --gpu_memory_utilization=.5"))).tokens == 0
    )
    assert drawn(Original(**settings(f"{program} --quantization fp8"))).tokens > 0
    one, other = (vllm_command.VllmCommand(program="vllm", version=v).identity for v in ("0.32.0", "0.33.0"))
    assert one != other


def test_arguments_reach_the_server(tmp_path, settings):
    program = stand_in(tmp_path / "my bin")
    drawn(Original(**settings(f"'{program}' --max-model-len 48 --quantization fp8")))
    (start,) = starts(tmp_path / "my bin")
    assert start["flags"] == {**start["flags"], "--max-model-len": "48", "--quantization": "fp8"}


def test_prompts_go_there_as_the_tokens_that_the_model_sees(tmp_path, settings):
    """Behind what opens a text, once, and by the template; the end tokens and stop texts are the run's."""
    program = stand_in(tmp_path / "bin")
    model = chat_model(tmp_path / "chat")
    ids = {letter: 1 + place for place, letter in enumerate("abcdef ")}
    for chat, text in ((False, "<e>abc"), (True, by_hand("abc"))):
        drawn(Original(**settings(program, basemodel=model, chat=chat, stop="dd", temperature=0.7)))
        asked = requests(tmp_path / "bin")
        expected = [0, *(ids[letter] for letter in text.removeprefix("<e>"))]
        own = [each for each in asked if each["prompt"] == expected and each["max_tokens"] == 6]
        assert own
        assert {each["temperature"] for each in own} == {0.7}
        assert own[0] == {**own[0], "stop": ["dd"], "stop_token_ids": [0], "top_k": 5, "top_p": 1.0}


def test_every_device_has_a_server(tmp_path, settings):
    program = stand_in(tmp_path / "bin", slow=0.01)
    many = tmp_path / "many.json"
    many.write_text(json.dumps([{"prompt": "abcdef"[k % 6] * (k // 6 + 1)} for k in range(64)]))
    drawn(Original(**settings(program, data=str(many), shard_size=32, device="cpu:0,cpu:1")))
    first, second = starts(tmp_path / "bin")
    assert first["flags"]["--port"] != second["flags"]["--port"]
    assert first["key"] != second["key"]
    assert all_gone(tmp_path / "bin")


def test_each_of_several_gpus_has_a_server_that_sees_it_alone(tmp_path, settings, monkeypatch):
    """The servers are at work at once, each with its GPU's variable, a port and a key of its own."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    program = f"{stand_in(tmp_path / 'bin')} --gpu-memory-utilization 0.4"
    p0 = p0_of(Original(**settings(program)), "cpu")
    with server.started(p0, "cuda:0") as one, server.started(p0, "cuda:1") as other:
        assert not one.has_ended
        assert one.root != other.root
    found = starts(tmp_path / "bin")
    assert [start["gpus"] for start in found] == ["4", "6"]
    assert [start["flags"]["--gpu-memory-utilization"] for start in found] == ["0.4", "0.4"]
    assert len({start["key"] for start in found}) == len({start["flags"]["--port"] for start in found}) == 2
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,6"
    assert all_gone(tmp_path / "bin")


@pytest.mark.parametrize(
    ("device", "seen", "expected"),
    [
        ("cpu", "2,3", ""),
        ("cpu:1", None, ""),
        ("cuda", None, "0"),
        ("cuda:1", None, "1"),
        ("cuda:1", "2,3", "3"),
        ("cuda", "GPU-8f,GPU-9a", "GPU-8f"),
    ],
)
def test_a_server_sees_its_own_gpu(device, seen, expected, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert launch.environment(device, "key")["CUDA_VISIBLE_DEVICES"] == expected


def test_one_that_dies_at_its_start_is_one_line_with_its_last_words(tmp_path, settings):
    said = (
        "\x1b[0;36m(EngineCore pid=1)\x1b[0;0m ERROR 11-25 10:00:00 [core.py:1] ValueError: 3 GiB needed\n"
        "(APIServer pid=2) RuntimeError: Engine core initialization failed. See root cause above."
    )
    program = stand_in(tmp_path / "bin", says=said)
    with pytest.raises(ModelError) as caught:
        prepare(Original(**settings(program)))
    (log,) = (tmp_path / "logs").iterdir()
    ended = f"--engine vllm: vLLM 0.32.0 on cpu ended: ValueError: 3 GiB needed (its log: {log})"
    assert str(caught.value) == ended
    assert (len(starts(tmp_path / "bin")), all_gone(tmp_path / "bin")) == (1, True)


def test_a_port_that_another_program_takes_is_given_up_for_another(tmp_path, settings, monkeypatch):
    import socket

    program, free = stand_in(tmp_path / "bin"), server._free_port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1], free()]
        monkeypatch.setattr(server, "_free_port", lambda: ports.pop(0))
        assert drawn(Original(**settings(program))).tokens > 0
    assert (len(starts(tmp_path / "bin")), ports) == (2, [])


def test_it_ends_with_a_run_that_fails(tmp_path, settings, rewards_file):
    program = stand_in(tmp_path / "bin")
    config = MCAligned(**settings(program, value=f"{rewards_file}:broken", lam=1.0, nsamples=8))
    with pytest.raises(ExptiltError, match="value 'broken'"):
        drawn(config)
    assert (len(starts(tmp_path / "bin")), all_gone(tmp_path / "bin")) == (1, True)


def test_one_that_dies_in_the_middle_is_started_anew(tmp_path, settings, capsys):
    program, at = stand_in(tmp_path / "bin", dies=[30]), tmp_path / "bin"
    summary = drawn(Original(**settings(program, nsamples=5, batch_size=4)))
    assert (len(starts(at)), all_gone(at)) == (2, True)
    assert "vLLM 0.32.0 on cpu ended: " in capsys.readouterr().err
    whole = settings(stand_in(tmp_path / "whole"), nsamples=5, save_directory=str(tmp_path / "whole"))
    assert Path(summary.json).read_text() == Path(drawn(Original(**whole)).json).read_text()


def test_one_that_always_dies_ends_the_run(tmp_path, settings):
    program = stand_in(tmp_path / "bin", dies=[27] * 4)
    with pytest.raises(ShardsFailed, match=r"vLLM 0.32.0 on cpu ended: .* \(its log: "):
        drawn(Original(**settings(program, nsamples=50)))
    assert all_gone(tmp_path / "bin")


SIGNALS = [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.soak), signal.SIGKILL]


@pytest.mark.parametrize("number", SIGNALS)
def test_it_ends_with_a_run_that_is_ended(number, tmp_path, settings):
    program, at = stand_in(tmp_path / "bin", slow=0.1), tmp_path / "bin"
    command = [*COMMAND, *flags(settings(program, nsamples=64, batch_size=8))]
    with process(command, dict(os.environ), tmp_path / "log") as running:
        wait_until(lambda: len(requests(at)) > 40)
        assert len(alive(at)) == 2
        os.kill(running.pid, number)
        code = running.wait(timeout=30)
    assert all_gone(at)
    assert list((tmp_path / "logs").glob("exptilt-vllm-*")) == []
    assert code == (-9 if number == signal.SIGKILL else 128 + number)


@pytest.mark.soak
def test_a_flow_ends_it_too(tmp_path, settings, server):
    program = stand_in(tmp_path / "bin")
    done = run_flow(
        *flags(settings(program, nsamples=2)),
        env={**server, "TMPDIR": str(tmp_path / "logs")},
        cwd=tmp_path,
        file=Path(flow_command()[1]).with_name("original.py"),
    )
    assert done.returncode == 0, done.stderr
    assert (len(starts(tmp_path / "bin")), all_gone(tmp_path / "bin")) == (1, True)
    assert list((tmp_path / "logs").glob("exptilt-vllm-*")) == []


def test_the_api_and_the_research_api_have_it(tmp_path, settings, capsys):
    program, at = stand_in(tmp_path / "bin"), tmp_path / "bin"
    given = settings(program)
    result = exptilt.original(**given)
    generation = gendata.TextGeneration(
        given["basemodel"], given["data"], str(tmp_path / "own"), engine="vllm", vllm_command=program
    )
    generation.generate_from_original_model()
    assert (result.records.height, len(starts(at)), all_gone(at)) == (4, 2, True)


def test_the_watcher_ends_what_does_not_end_by_itself(tmp_path):
    program = stand_in(tmp_path / "bin", stays=True)
    patient = f"import runpy; main = runpy.run_path({watcher.__file__!r})['main']"
    patient += "; main.__globals__['GRACE_SECONDS'] = 0.3; main()"
    command = [program, "serve", "m", "--port", "0"]
    running = subprocess.Popen(
        [sys.executable, "-c", patient, str(tmp_path / "log"), *command],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "VLLM_API_KEY": "k", "CUDA_VISIBLE_DEVICES": ""},
    )
    (tmp_path / "log").touch()
    wait_until(lambda: bool(starts(tmp_path / "bin")))
    running.communicate(timeout=20)
    assert all_gone(tmp_path / "bin")


REFUSED = [
    ({"basemodel": "toy"}, "--engine vllm serves a checkpoint, which toy is not"),
    ({"basemodel": "http://127.0.0.1:1/v1#m"}, "--engine vllm serves a checkpoint, which http"),
    (
        {"vllm_command": "/none/vllm"},
        "--vllm-command /none/vllm: there is no such program; pip install vllm, or",
    ),
    (
        {"vllm_command": "vllm serve"},
        "--vllm-command: 'serve' is no argument; write PATH --argument value ...",
    ),
    ({"vllm_command": "vllm --port 8000"}, "--vllm-command: the run sets --port itself; leave it out"),
    ({"vllm_command": "vllm --api_key=x"}, "--vllm-command: the run sets --api-key itself; leave it out"),
    ({"vllm_command": "vllm --hf-token x"}, "--vllm-command: a token comes from HF_TOKEN in the environment"),
    ({"vllm_command": "'vllm"}, '--vllm-command "\'vllm": no closing quotation'),
    ({"vllm_command": "/bin/true"}, "--vllm-command /bin/true: it does not say its version"),
    ({"engine": "auto"}, "--vllm-command says which vLLM --engine vllm starts: give that, too"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_cannot_be_served_is_refused_in_one_line(changes, said, tmp_path, settings):
    with pytest.raises((ConfigError, ModelError)) as caught:
        prepare(build(Original, {**settings(stand_in(tmp_path / "bin")), **changes}))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_vllm_one_line_says_what_to_do(settings, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(
        ConfigError, match=r"vLLM is not here; pip install vllm, or name .* --vllm-command PATH"
    ):
        prepare(Original(**settings("")))


def test_an_adapter_is_refused(tmp_path, settings, folder):
    adapter = adapt(folder, tmp_path / "lora", LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ModelError, match="is a base with 1 adapter, and exptilt serves only whole"):
        prepare(Original(**settings(stand_in(tmp_path / "bin"), basemodel=adapter)))


def test_a_program_that_starts_another_version_than_it_says_is_refused(tmp_path, settings):
    program = stand_in(tmp_path / "bin", version="0.31.1")
    with pytest.raises(ModelError, match=r"says that it is 0\.31\.1: --vllm-command names the vllm of one"):
        prepare(Original(**settings(program)))
    assert all_gone(tmp_path / "bin")
