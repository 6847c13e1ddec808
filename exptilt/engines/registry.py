"""Which engine draws from a p0."""

from exptilt.engines.base import P0, Engine
from exptilt.models.reference import TOY
from exptilt.once import once


@once
def load(p0: P0, device: str) -> Engine:
    """The engine that draws from `p0` on `device`, made once per process."""
    if p0.model.source == TOY:
        from exptilt.engines.toy import ToyEngine

        return ToyEngine(p0)
    if p0.model.is_served:
        from exptilt.engines.openai import OpenAIEngine

        return OpenAIEngine(p0)
    from exptilt.engines.huggingface.engine import TransformersEngine

    return TransformersEngine(p0, device)
