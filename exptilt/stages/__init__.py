"""The stages of a run: each reads references, computes once under a content key, returns a reference.

They know nothing of who calls them: the flows and the research API run the same ones.
"""

from exptilt.stages.explore import explore
from exptilt.stages.generate import generate
from exptilt.stages.resample import resample
from exptilt.stages.score import agreed, score

__all__ = ["agreed", "explore", "generate", "resample", "score"]
