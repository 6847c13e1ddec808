"""How vLLM's server is started: its arguments, and the environment that gives it its device and its key."""

import os

from exptilt.engines.base import P0

WHOLE_PROMPTS = "--no-enable-chunked-prefill"  # vLLM 0.32 crashes on a CPU at a part of a prompt with a seed
SHARE = 0.8  # of a GPU's free memory; the rest is for reward models


def command(p0: P0, device: str, port: int, name: str) -> list[str]:
    """The command of a server on `port` of loopback.

    Args:
        p0: what it draws from. Its sampler is in the requests; the model's own is not used.
        device: cpu, cuda, or one of several as cuda:N.
        port: of the API.
        name: the model's in the API.
    """
    assert p0.vllm
    settings = {
        "host": "127.0.0.1",
        "port": str(port),
        "served-model-name": name,
        "dtype": p0.dtype,
        "generation-config": "vllm",
        "max-logprobs": "-1",  # as many as top_k asks for
        **({} if p0.model.is_local else {"revision": p0.model.revision}),
    }
    if device.startswith("cuda") and not p0.vllm.has("gpu-memory-utilization", "kv-cache-memory-bytes"):
        settings["gpu-memory-utilization"] = f"{_share(device):.2f}"
    own = [word for name, value in settings.items() for word in (f"--{name}", value)]
    own += ["--disable-uvicorn-access-log", *([] if device.startswith("cuda") else [WHOLE_PROMPTS])]
    given = [word for words in p0.vllm.arguments for word in words]
    return [p0.vllm.program, "serve", p0.model.source, *own, *given]


def _share(device: str) -> float:
    """The part of a GPU's memory that the server may take."""
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return SHARE * free / total


def environment(device: str, key: str) -> dict[str, str]:
    """This environment with `device` as the only GPU, and the API's key, which is in no argument."""
    more = {"VLLM_API_KEY": key, "VLLM_NO_USAGE_STATS": "1", "CUDA_VISIBLE_DEVICES": _visible(device)}
    return {**os.environ, **more}


def _visible(device: str) -> str:
    """The GPU that a device is, as CUDA_VISIBLE_DEVICES names it."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return ""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return seen.split(",")[int(number or 0)] if seen else number or "0"
