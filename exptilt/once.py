"""Making things once: what is asked for again, by whichever thread, is what was made before."""

from collections.abc import Callable
from functools import lru_cache, wraps
from threading import RLock
from typing import Final, ParamSpec, TypeVar

KEPT: Final = 64  # results of a function; the oldest are given up
P = ParamSpec("P")
R = TypeVar("R")


def once(make: Callable[P, R]) -> Callable[P, R]:
    """`make`, run once for equal arguments: threads that ask meanwhile wait for what the first one makes."""
    kept, making = lru_cache(maxsize=KEPT)(make), RLock()

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> R:
        with making:
            return kept(*args, **kwargs)  # type: ignore[arg-type]

    made.cache_clear = kept.cache_clear  # type: ignore[attr-defined]
    return made
