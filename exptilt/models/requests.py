"""Requests to a server, several in flight at once; the first that fails ends the rest."""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Final, TypeVar

from exptilt.run import carried, current

IN_FLIGHT: Final = 8
RETRIES: Final = 5  # 15 s in all, or as long as the server asks for
T = TypeVar("T")
R = TypeVar("R")


def at_once(work: Callable[[T], R], items: Iterable[T], count: int = IN_FLIGHT) -> list[R]:
    """What `work` gives for each item, in order.

    Args:
        work: makes one request; none is begun once the run was asked to stop.
        items: what it is given.
        count: how many are in flight at once.

    Raises:
        Stopped: the run was asked to stop.
        Exception: the first that `work` raised, once the requests in flight have ended.
    """

    def one(item: T) -> R:
        current().check()
        return work(item)

    with ThreadPoolExecutor(count, thread_name_prefix="request") as pool:
        futures = [pool.submit(carried(one), item) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
    return [future.result() for future in futures]
