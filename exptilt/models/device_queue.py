"""Whose turn it is: one thread a CPU runs all its models, and a model that draws is run by one thread alone.

Models that compute at once on the same cores slow each other down, and take the memory of both. A GPU
orders the work of several threads by itself.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import RLock
from typing import Any, TypeVar

import torch

from exptilt.once import once

R = TypeVar("R")


@once
def _thread(device: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"compute-{device}")


def in_turn(device: str, work: Callable[[], R]) -> R:
    """What `work` gives, without gradients: on a CPU in the device's one computing thread, else here.

    `work` must not call in_turn itself, nor load a model.
    """

    def run() -> R:
        with torch.inference_mode():
            return work()

    return _thread(device).submit(run).result() if device.startswith("cpu") else run()


@once
def alone(model: Any) -> RLock:
    """The lock of `model`: who draws changes how it attends, and no other thread may run it then.

    To be asked for outside of in_turn.
    """
    return RLock()
