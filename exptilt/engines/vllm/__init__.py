"""Completions from a server of vLLM that the run starts itself, one on each device, and ends."""

from typing import Final

from exptilt.engines.base import P0, Capabilities, Engine, EngineSpec
from exptilt.models.vllm_command import VLLM


def _load(p0: P0, device: str) -> Engine:
    from exptilt.engines.vllm.engine import VllmEngine

    return VllmEngine(p0, device)


ENGINE: Final = EngineSpec(
    name=VLLM,
    can=Capabilities(
        has_checkpoint=True,
        finds_likelihood=True,
        short_trial=False,
        continues=True,
        goes_on_as_drawn=False,
        chat="checkpoint",
    ),
    base_model=lambda name: None,  # --engine vllm asks for it
    load=_load,
)
