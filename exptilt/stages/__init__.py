"""The stages of a run: each reads references, computes once under a content key, returns a reference.

They do not depend on their caller: the flows and the research API run the same ones. Each works in the run
of its recipe or workspace.
"""

from exptilt.run import in_its_run
from exptilt.stages.generate import generate as _generate
from exptilt.stages.refine import refine as _refine
from exptilt.stages.resample import resample as _resample
from exptilt.stages.score import agreed as _agreed
from exptilt.stages.score import score as _score
from exptilt.stages.sweep import explore as _explore

agreed = in_its_run(_agreed)
explore = in_its_run(_explore)
generate = in_its_run(_generate)
refine = in_its_run(_refine)
resample = in_its_run(_resample)
score = in_its_run(_score)

__all__ = ["agreed", "explore", "generate", "refine", "resample", "score"]
