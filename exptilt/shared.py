"""Things that runs share while one of them is going, and then let go: models, engines, connections."""

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from exptilt.run import current

P = ParamSpec("P")
O = TypeVar("O", bound=object)  # noqa: E741 - one letter, as its neighbours
R = TypeVar("R")


def shared(make: Callable[P, R]) -> Callable[P, R]:
    """`make`, whose result for equal arguments is one and the same while anyone has it.

    The run that asks for it has it until it ends. Threads that ask meanwhile wait for what the first makes.
    """
    there: WeakValueDictionary[Any, Any] = WeakValueDictionary()
    making = RLock()

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> R:
        key = (args, tuple(kwargs.items()))
        with making:
            found: R | None = there.get(key)
            if found is None:
                found = there[key] = make(*args, **kwargs)
        current().hold(found)
        return found

    made.cache_clear = there.clear  # type: ignore[attr-defined]
    return made


def once_each(make: Callable[Concatenate[O, P], R]) -> Callable[Concatenate[O, P], R]:
    """`make`, run once for equal arguments while its first one lives; threads wait as for `shared`."""
    there: WeakKeyDictionary[Any, dict[Any, R]] = WeakKeyDictionary()
    making = RLock()

    @wraps(make)
    def made(of: O, /, *args: P.args, **kwargs: P.kwargs) -> R:
        key = (args, tuple(kwargs.items()))
        with making:
            mine = there.setdefault(of, {})
            if key not in mine:
                mine[key] = make(of, *args, **kwargs)
            return mine[key]

    return made
