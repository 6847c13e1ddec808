"""Whose turn it is: one thread a CPU runs all its models, and a model that draws is run by one thread alone.

Models that compute at once on the same cores slow each other down, and take the memory of both. A GPU
orders the work of several threads by itself.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import RLock, Thread
from typing import Any, Final, TypeVar

import torch

from exptilt.once import once
from exptilt.run import carried, current
from exptilt.shared import once_each

R = TypeVar("R")
LOOK_SECONDS: Final = 0.5  # between looks at whether to stop


@once
def _thread(device: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"compute-{device}")


def in_turn(device: str, work: Callable[[], R]) -> R:
    """What `work` gives, without gradients: on a CPU in the device's one computing thread, else here.

    `work` must not call in_turn itself, nor load a model. Raises Stopped where the run is asked to stop
    before its turn comes.
    """

    def run() -> R:
        with torch.inference_mode():
            return work()

    return _awaited(_thread(device).submit(carried(run))) if device.startswith("cpu") else run()


def apart(work: Callable[[], R]) -> R:
    """What `work` gives, in a thread that ends with it.

    OpenMP keeps a thread for each core for every thread that ever computed with several. Once these are more
    than the cores, none waits awake for the next operation, and an operation of 20 µs takes 60.
    """
    done = Future[R]()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=carried(run), name="apart", daemon=True).start()
    return _awaited(done)


def _awaited(work: Future[R]) -> R:
    while not wait([work], LOOK_SECONDS).done:
        if current().is_stopping and work.cancel():
            current().check()
    return work.result()


@once_each
def alone(model: Any) -> RLock:
    """The lock of `model`: who draws changes how it attends, and no other thread may run it then.

    To be asked for outside of in_turn.
    """
    return RLock()
