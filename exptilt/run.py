"""What a run owns beside its recipe: where its S3 answers, how often it tried again, what it computed, its
request to stop, and programs and models that it has until it ends.

A plan is made in a new run (`in_a_new_run`), a step enters the run that it is given (`in_its_run`), and a
thread that a step starts gets its work by `carried`. Below a step nothing is handed down: `current` is the
run of that step. The process keeps none: outside of every step `current` is a new run, reached as the
environment says.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import lru_cache, wraps
from threading import Event, Lock
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from uuid import uuid4

from exptilt.errors import Stopped
from exptilt.meter import Meter
from exptilt.owned import Owned

T = TypeVar("T")
Use = Callable[[T], bool]


class Run:
    """The state of one run; runs that are at work at once in a process share none of it."""

    def __init__(self, endpoint: str = "") -> None:
        """A run that begins within another one stops with it, and what either owns is the other's, too.

        Args:
            endpoint: the address of its S3, if not the environment's.
        """
        outer = _entered.get()
        self.endpoint, self.retries, self.meter = endpoint, 0, Meter()
        self.findings = dict[str, Any]()  # see exptilt.storage.findings
        self._stop: Event = outer._stop if outer else Event()
        self._counting, self._name = Lock(), uuid4().hex
        self._owned: Owned = outer._owned if outer else Owned()

    def __reduce__(self) -> tuple[Callable[[str, str], "Run"], tuple[str, str]]:
        """In another process it is a run of its own, the same for all that is received of it."""
        return _received, (self.endpoint, self._name)

    @contextmanager
    def entered(self) -> Iterator["Run"]:
        """Make this the current run of the block; what is no Exception (Ctrl-C, a signal) stops the run."""
        before = _entered.set(self)
        try:
            yield self
        except BaseException as error:
            if not isinstance(error, Exception):
                self.stop()
            raise
        finally:
            _entered.reset(before)

    def stop(self) -> None:
        """Ask the run's steps, in whichever thread, to stop at their next check. Another go is a new run."""
        self._stop.set()

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raise Stopped if the run was asked to stop."""
        if self.is_stopping:
            raise Stopped("stopped by the user; finished shards are saved, run again to go on")

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`; raise Stopped as soon as the run is asked to stop."""
        self._stop.wait(seconds)
        self.check()

    def owned(self, key: Hashable, make: Callable[[], AbstractContextManager[T]], is_of_use: Use[T]) -> T:
        """What the run has made for `key`, made now where it has none of use.

        Args:
            key: names it within the run.
            make: gives it as a context, which is left when the run ends.
            is_of_use: whether one that was made before still is.
        """
        return self._owned.get(key, make, is_of_use)

    def hold(self, thing: object) -> None:
        """Keep `thing`, which other runs may have, too, until this one ends."""
        self._owned.hold(thing)

    def end(self) -> None:
        """End what the run owns, and keep nothing that it held."""
        self._owned.end()

    def count_retry(self) -> None:
        """Note that something is tried again."""
        with self._counting:
            self.retries += 1


@lru_cache(maxsize=1)
def _received(endpoint: str, name: str) -> Run:
    """The run of another process whose steps this one does: it has their models until another's come."""
    return Run(endpoint)


_entered: ContextVar[Run | None] = ContextVar("run", default=None)


class _Owner(Protocol):
    """A plan, a recipe or a workspace."""

    @property
    def run(self) -> Run: ...


class _Reaching(Protocol):
    """A configuration."""

    @property
    def endpoint_url(self) -> str: ...


O = TypeVar("O", bound=_Owner)  # noqa: E741 - one letter, as its neighbours
C = TypeVar("C", bound=_Reaching)
P = ParamSpec("P")
R = TypeVar("R")


def current() -> Run:
    """The run of this thread's step."""
    return _entered.get() or Run()


def begin_for_the_process() -> None:
    """Begin a run that stays the current one of this thread: a worker keeps in it the models of its steps."""
    _entered.set(Run())


def in_its_run(step: Callable[Concatenate[O, P], R]) -> Callable[Concatenate[O, P], R]:
    """`step`, in the run of its first argument. Raises Stopped where that was asked to stop."""

    @wraps(step)
    def stepped(owner: O, /, *args: P.args, **kwargs: P.kwargs) -> R:
        owner.run.check()
        with owner.run.entered():
            return step(owner, *args, **kwargs)

    return stepped


def in_a_new_run(prepare: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], R]:
    """`prepare`, in a run that begins with it and ends where it fails; its S3 is the configuration's."""

    @wraps(prepare)
    def prepared(config: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with Run(config.endpoint_url).entered() as run:
            try:
                return prepare(config, *args, **kwargs)
            except BaseException:
                run.end()
                raise

    return prepared


def carried(work: Callable[P, R]) -> Callable[P, R]:
    """`work` for other threads, which do it in the run of this one."""
    run = current()

    @wraps(work)
    def working(*args: P.args, **kwargs: P.kwargs) -> R:
        with run.entered():
            return work(*args, **kwargs)

    return working
