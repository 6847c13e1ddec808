"""Completions from a server with the OpenAI API (vLLM, SGLang, …): what the engine can do."""

from typing import Final

from exptilt.engines.base import Capabilities, EngineSpec
from exptilt.engines.openai.asking import Asking
from exptilt.engines.openai.engine import TRIED, OpenAIEngine
from exptilt.models.reference import ModelRef, is_url, served

__all__ = ["ENGINE", "TRIED", "Asking", "OpenAIEngine"]


def _base_model(name: str) -> ModelRef | None:
    return served("", name, engine="openai") if is_url(name) else None


ENGINE: Final = EngineSpec(
    name="openai",
    can=Capabilities(
        is_local=False,
        gives_likelihood=False,
        finds_likelihood=True,
        measures_prompts=False,
        short_trial=False,
        separates_reasoning=True,
        chat="server",
    ),
    base_model=_base_model,
    load=lambda p0, device: OpenAIEngine(p0, Asking(device=device)),
)
