"""Which devices a run has, which type of number suits them, and which of them does a piece of work.

A device is cpu, cuda or cuda:N; cpu:0, cpu:1, … share the processor and load models of their own.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Condition
from typing import Any, Final, TypeVar

from exptilt.errors import ConfigError, DeviceError
from exptilt.models.reference import ModelRef
from exptilt.run import current
from exptilt.storage.findings import found
from exptilt.wording import counted

R = TypeVar("R")
GPU_FILES: Final = ("nvidia[0-9]*", "nvmap", "kfd", "dxg")  # of NVIDIA, Tegra, AMD, and under Windows
CPU_INFO: Final = Path("/proc/cpuinfo")
FAST_BFLOAT16: Final = frozenset(("avx512_bf16", "amx_tile"))
NARROW: Final = 512  # a CPU gains nothing by bfloat16 on hidden states of fewer numbers
LOOK_SECONDS: Final = 0.5  # between looks at whether to stop


class Devices(Sequence[str]):
    """The devices of a run, in order: how much it does on each, and which of them have failed it."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.failed = tuple(names), dict[str, str]()
        self._changed, self._at_work = Condition(), Counter[tuple[str, str]]()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, place: Any) -> Any:
        return self.names[place]

    def __reduce__(self) -> tuple[type["Devices"], tuple[tuple[str, ...]]]:
        """In another process they are the devices of that machine."""
        return type(self), (self.names,)

    def take(self, kind: str, at_once: int) -> str:
        """The device that does least of this kind, once that is less than `at_once`.

        Raises DeviceError when none is left, Stopped where the run is asked to stop.
        """
        with self._changed:
            while True:
                device = min(self._alive(), key=lambda name: self._at_work[name, kind])
                if self._at_work[device, kind] < at_once:
                    self._at_work[device, kind] += 1
                    return device
                self._changed.wait(LOOK_SECONDS)
                current().check()

    def _alive(self) -> list[str]:
        alive = [device for device in self.names if device not in self.failed]
        if not alive:
            why = "; ".join(f"{device}: {self.failed[device]}" for device in self.names)
            raise DeviceError(f"no device is left: {why}")
        return alive

    def give_back(self, device: str, kind: str) -> None:
        """Say that a piece of work is done."""
        with self._changed:
            self._at_work[device, kind] -= 1
            self._changed.notify_all()

    def lose(self, device: str, error: BaseException) -> None:
        """Give no more work to a device that failed."""
        with self._changed:
            self.failed[device] = str(error).strip().split("\n", 1)[0]
        said = f"warning: {device} failed ({self.failed[device]}); others do its work"
        print(said, file=sys.stderr, flush=True)


def resolve(asked: str) -> Devices:
    """The devices that `asked` means here; ConfigError where this machine has no such device."""
    count = _count_gpus(asked)
    if asked == "auto":
        several = [f"cuda:{i}" for i in range(count)]
        return Devices(several if count > 1 else ["cuda"] if count else ["cpu"])
    devices = asked.split(",")
    for device in devices:
        if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= count:
            raise ConfigError(f"--device {device}: this machine has {counted(count, 'CUDA device')}")
    return Devices(devices)


def _count_gpus(asked: str) -> int:
    """How many devices torch calls cuda; it takes seconds to load, so it is asked only where one may be."""
    if "cuda" not in asked and not any(
        found for pattern in GPU_FILES for found in Path("/dev").glob(pattern)
    ):
        return 0
    import torch

    return torch.cuda.device_count()


def kind(device: str) -> str:
    """cpu or cuda."""
    return device.partition(":")[0]


def reward_dtype(device: str, asked: str) -> str:
    """The type that reward models compute in: as `asked`, or what suits `device`."""
    return fast_dtype(device) if asked == "auto" else asked


def fast_dtype(device: str) -> str:
    """bfloat16 where the device multiplies it faster, else float32."""
    return "float32" if device.startswith("cpu") and cpu_features().isdisjoint(FAST_BFLOAT16) else "bfloat16"


def cpu_features() -> frozenset[str]:
    """What the processor can, by Linux; nothing elsewhere, where none multiplies bfloat16 faster."""
    with suppress(OSError):
        lines = CPU_INFO.read_text().splitlines()
        return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
    return frozenset()


def base_dtype(model: ModelRef, device: str, asked: str) -> str:
    """The type that a checkpoint computes in: as asked, or the fast one; float32 for a small one on a CPU.

    Args:
        model: the checkpoint.
        device: where it will lie.
        asked: a torch type's name, or "auto".
    """
    if asked != "auto":
        return asked
    small = device.startswith("cpu") and (_hidden_size(model) or NARROW) < NARROW
    return "float32" if small else fast_dtype(device)


def _hidden_size(model: ModelRef) -> int | None:
    def find() -> int | None:
        from exptilt.models.loading import hidden_size

        return hidden_size(model)

    return found("hidden size", model.identity, find)


def on_one_of(devices: Devices, kind: str, at_once: int, work: Callable[[str], R]) -> R:
    """What `work` gives on the device that does least of this kind.

    Another device takes the work over from one that fails, which gets none any more.

    Args:
        devices: the run's.
        kind: which work is counted.
        at_once: how much of it a device does at a time.
        work: gets the device.

    Raises:
        DeviceError: when no device is left.
    """
    while True:
        device = devices.take(kind, at_once)
        try:
            return work(device)
        except Exception as error:
            if not is_the_devices(error):
                raise
            devices.lose(device, error)
        finally:
            devices.give_back(device, kind)


def is_the_devices(error: BaseException) -> bool:
    """Whether a device failed and not the work: a lost GPU, an illegal address; not memory."""
    found = type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)
    return found or (error.__cause__ is not None and is_the_devices(error.__cause__))
