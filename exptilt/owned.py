"""Things that a run has until it ends: what it made once for its threads, and what it shares with others."""

from collections import defaultdict
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, ExitStack
from threading import Lock
from typing import Any, TypeVar

T = TypeVar("T")


class Owned:
    """What was made, by its key; different keys are made at once, equal ones one after the other."""

    def __init__(self) -> None:
        self._made, self._ends = dict[Hashable, Any](), ExitStack()
        self._held = dict[int, Any]()
        self._locks, self._lock = defaultdict[Hashable, Lock](Lock), Lock()

    def get(
        self, key: Hashable, make: Callable[[], AbstractContextManager[T]], is_of_use: Callable[[T], bool]
    ) -> T:
        """What there is of `key`; made by `make` where there is none, or none of use any more."""
        with self._lock:
            making = self._locks[key]
        with making:
            if key not in self._made or not is_of_use(self._made[key]):
                self._made[key] = self._entered(make())
            made: T = self._made[key]
            return made

    def _entered(self, context: AbstractContextManager[T]) -> T:
        made = context.__enter__()
        with self._lock:
            self._ends.push(context)
        return made

    def hold(self, thing: object) -> None:
        """Keep `thing`, which others may have, too."""
        with self._lock:
            self._held[id(thing)] = thing

    def end(self) -> None:
        """Leave every context, the last one first, and keep nothing; what is asked for later is made anew."""
        with self._lock:
            ends, self._ends, self._made = self._ends, ExitStack(), {}
            self._held = {}
        ends.close()
