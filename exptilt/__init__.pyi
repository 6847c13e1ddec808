"""The names of `import exptilt`, for type checkers and editors."""

from exptilt.api import mc_aligned as mc_aligned
from exptilt.api import original as original
from exptilt.api import palette as palette
from exptilt.api import score as score
from exptilt.api import sweep as sweep
from exptilt.errors import ExptiltError as ExptiltError
from exptilt.outputs.constants import constants as constants
from exptilt.outputs.result import Result as Result
from exptilt.tilting.diagnostics import Diagnosis as Diagnosis
from exptilt.tilting.diagnostics import diagnose as diagnose
from exptilt.tilting.resampling import resample as resample
from exptilt.tilting.weights import levels as levels
from exptilt.tilting.weights import log_weights as log_weights
from exptilt.tilting.weights import normalise as normalise

__version__: str
