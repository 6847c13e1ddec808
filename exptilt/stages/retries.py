"""A step tried again: after which errors, how often, and after which pauses."""

import random
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

from exptilt.errors import RefusedError
from exptilt.run import Run

RETRIES: Final = 3
FIRST_SECONDS: Final = 2.0  # before the second try, and twice as long before each further one
JITTER: Final = 0.5  # the share by which a pause is shorter or longer, so that runs do not come all at once
R = TypeVar("R")


def can_pass(error: object) -> bool:
    """Whether the next try may succeed: after an error of input or output, of memory, of a connection.

    A wrong configuration, a full disk or a reward that is not finite would fail again.
    """
    if isinstance(error, RefusedError):
        return False
    return isinstance(error, OSError) or type(error).__name__ == "OutOfMemoryError"


def with_retries(run: Run, name: str, step: Callable[..., R], *args: Any) -> R:
    """What `step` gives for `args`, tried again after an error that can pass.

    Args:
        run: whose step it is.
        name: what the warning of a failed try calls the step.
        step: the function.
        *args: its arguments.

    Raises:
        Stopped: where the run is asked to stop, also during a pause.
        Exception: the last try's error, or the first one that cannot pass.
    """
    for tried in range(RETRIES):
        run.check()
        try:
            return step(*args)
        except Exception as error:
            if not can_pass(error):
                raise
            seconds = FIRST_SECONDS * 2**tried * random.uniform(1 - JITTER, 1 + JITTER)
            _warn(name, error, seconds, RETRIES - tried)
        run.pause(seconds)
    return step(*args)


def _warn(name: str, error: Exception, seconds: float, left: int) -> None:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    line = f"warning: {name} failed ({reason}); trying again in {seconds:.1f} s, tries left: {left}"
    print(line, file=sys.stderr, flush=True)
