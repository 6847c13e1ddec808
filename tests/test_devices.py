"""Several devices do a run's work, each with models of its own; one that fails hands its work over."""

import threading
from pathlib import Path

import pytest
import torch
from checkpoints import causal

from exptilt import local_run
from exptilt.config.checks import check_device
from exptilt.config.settings import Original
from exptilt.config.validation import build
from exptilt.engines import registry
from exptilt.errors import ConfigError, ShardsFailed
from exptilt.models import devices
from exptilt.models.devices import Devices, on_one_of
from exptilt.planning import plan


def test_devices_work_at_once_each_on_one_draw():
    together = threading.Barrier(2, timeout=20)
    used, lock = list[str](), threading.Lock()

    def draw(device: str) -> None:
        with lock:
            used.append(device)
        together.wait()

    both = Devices(["cpu:0", "cpu:1"])
    threads = [threading.Thread(target=on_one_of, args=(both, "draw", 1, draw)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(used) == ["cpu:0"] * 3 + ["cpu:1"] * 3


def test_a_mistake_in_the_work_costs_no_device():
    def work(device: str) -> None:
        raise ValueError("a wrong prompt")

    for _ in range(2):
        with pytest.raises(ValueError, match="a wrong prompt"):
            on_one_of(Devices(["cpu:0"]), "draw", 1, work)


def settings(tmp_path, **changes) -> Original:
    folder = tmp_path / "letters"
    source = str(folder) if folder.exists() else causal(folder, "gpt2")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(
        "".join(
            f"{'abcdef'[i % 6]}{'fedcba'[i // 6 % 6]}{'abc'[i // 36 % 3]}{i // 108 * 'a'}\n"
            for i in range(128)
        )
    )
    given = {"basemodel": source, "data": str(prompts), "nsamples": 4, "max_new_tokens": 8, "shard_size": 32}
    return build(Original, {**given, **changes})


def test_a_failing_device_gives_its_shard_to_another_and_the_rows_stay(tmp_path, capsys):
    """A CUDA error ends a device for the process: here the error is injected into a CPU device's model."""
    alone = local_run.run(
        plan.prepare(settings(tmp_path, save_directory=str(tmp_path / "one"), device="cpu"))
    )
    config = settings(tmp_path, save_directory=str(tmp_path / "two"), device="cpu:0,cpu:1")
    planned = plan.prepare(config)
    engine = registry.load(planned.recipe.p0, "cpu:0")

    def lost(*_, **__):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nmore lines")

    engine.model.forward = lost
    both = local_run.run(planned)
    assert engine.model is not registry.load(planned.recipe.p0, "cpu:1").model
    assert (
        "cpu:0 failed (CUDA error: unspecified launch failure); others do its work" in capsys.readouterr().err
    )
    assert Path(both.json).read_bytes() == Path(alone.json).read_bytes()
    other = settings(tmp_path, save_directory=str(tmp_path / "two"), device="cpu:0,cpu:1", seed=1)
    del engine
    planned = plan.prepare(other)
    engines = [registry.load(planned.recipe.p0, device) for device in ("cpu:0", "cpu:1")]
    for engine in engines:
        engine.model.forward = lost
    with pytest.raises(ShardsFailed, match=r"no device is left: cpu:0: CUDA error.*; cpu:1: CUDA error"):
        local_run.run(planned)


@pytest.mark.parametrize("written", ["cuda:x", "cpu,,cpu:1", "cpu:0,cpu:0", "auto,cpu", "gpu"])
def test_a_device_that_is_none_is_refused(written):
    with pytest.raises(ConfigError, match="unknown device"):
        check_device(written)


def test_a_device_that_is_not_here_is_named():
    with pytest.raises(ConfigError, match=r"--device cuda:99: this machine has \d+ CUDA devices"):
        devices.resolve("cpu,cuda:99")


def test_what_suits_a_processor_is_what_torch_says_it_can():
    able = torch.cpu.get_capabilities()
    fast = able.get("avx512_bf16") or able.get("amx_tile")
    assert devices.fast_dtype("cpu") == ("bfloat16" if fast else "float32")
    assert devices.resolve("auto").names == (("cuda",) if torch.cuda.device_count() else ("cpu",))
