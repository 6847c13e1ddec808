"""Whose turn it is on a CPU: one thread a device runs all its models, first come, first served.

Models that compute at once on the same cores slow each other down, and take the memory of both. A GPU
orders the work of several threads by itself.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

R = TypeVar("R")


@lru_cache(maxsize=16)
def _thread(device: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"compute-{device}")


def in_turn(device: str, work: Callable[[], R]) -> R:
    """What `work` gives, without gradients: on a CPU in the device's one computing thread, else here.

    `work` must not call in_turn itself.
    """

    def run() -> R:
        with torch.inference_mode():
            return work()

    return _thread(device).submit(run).result() if device.startswith("cpu") else run()
