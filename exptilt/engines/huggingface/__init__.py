"""Completions from any causal language model of the transformers library: what the engine can do."""

from typing import Final

from exptilt.engines.base import P0, Capabilities, Engine, EngineSpec
from exptilt.models.reference import HUGGINGFACE, checkpoint


def _load(p0: P0, device: str) -> Engine:
    from exptilt.engines.huggingface.engine import TransformersEngine

    return TransformersEngine(p0, device)


ENGINE: Final = EngineSpec(
    name=HUGGINGFACE,
    can=Capabilities(has_checkpoint=True, continues=True, chat="checkpoint"),
    base_model=checkpoint,
    load=_load,
)
