"""What a process that does a run sets of Python and OpenMP: threads that give way, and few collections.

Called before torch loads: OpenMP reads its settings from the environment then, and has no call for them.
"""

import atexit
import gc
import os
import sys
from functools import lru_cache
from typing import Final

SWITCH_SECONDS: Final = 0.0002  # at 5 ms, who drives a model waits for Prefect's threads at every operation
SPINS: Final = 10_000  # of OpenMP before a thread sleeps; two runs at once took 20 times as long without
NEW_OBJECTS: Final = 50_000  # between collections; at 700, loading libraries and models collects for seconds


@lru_cache(maxsize=1)
def set_up() -> None:
    """Let threads alternate fast and wait without much spinning; collect garbage seldom, at exit never."""
    sys.setswitchinterval(SWITCH_SECONDS)
    spin_little()
    gc.set_threshold(NEW_OBJECTS, 20, 100)
    atexit.register(gc.freeze)


def spin_little() -> None:
    """Have OpenMP's threads sleep soon, where it is not loaded yet and the user says nothing else of it."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
