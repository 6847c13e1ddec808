"""A model on a CPU in several threads with cores and rows of their own, by replicas that share its weights.

Threads that compute one operation together wait for each other at each of the thousands of a step; those that
draw rows of their own do not.
"""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier
from typing import Any, Final, TypeVar

import torch

from exptilt.once import once
from exptilt.run import carried

R = TypeVar("R")
ROWS: Final = 128  # that a thread draws at least: for fewer, reading the weights takes longer than computing


def threads_for(rows: int, device: str) -> int:
    """How many threads `rows` are worth: a power of two, one on a GPU."""
    most = min(torch.get_num_threads(), rows // ROWS) if device.startswith("cpu") else 1
    return 1 << (max(most, 1).bit_length() - 1)


def replica(model: Any) -> Any:
    """A model with the modules and the configuration of `model`, copied, and its own tensors."""
    kept = [x for module in model.modules() for x in vars(module).values() if isinstance(x, torch.Tensor)]
    tensors = [*model.parameters(), *model.buffers(), *kept]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def side_by_side(works: list[Callable[[], R]]) -> list[R]:
    """What each of `works` gives, without gradients, each in a thread of its own with its part of the cores.

    Raises what the first one raises, when all have ended.
    """
    if len(works) == 1:
        return [works[0]()]
    team = _team(len(works), max(torch.get_num_threads() // len(works), 1))
    futures = [team.submit(torch.inference_mode()(carried(work))) for work in works]
    wait(futures)
    return [future.result() for future in futures]


@once
def _team(threads: int, cores: int) -> ThreadPoolExecutor:
    """Threads whose operations take so many cores each."""
    before, started = torch.get_num_threads(), Barrier(threads)
    team = ThreadPoolExecutor(threads, "draw", _take_cores, (cores,))
    list(team.map(lambda _: started.wait(), range(threads)))
    torch.set_num_threads(before)
    return team


def _take_cores(cores: int) -> None:
    """Let this thread's operations take so many; the question makes torch note it for the thread."""
    torch.set_num_threads(cores)
    torch.get_num_threads()
