"""Which devices a run has, which type of number suits them, and which of them does a piece of work.

A device is cpu, cuda or cuda:N; cpu:0, cpu:1, … share the processor and load models of their own.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from threading import Condition
from typing import Final, TypeVar

from exptilt.errors import ConfigError, DeviceError
from exptilt.models.reference import ModelRef

R = TypeVar("R")
NARROW: Final = 512  # a CPU gains nothing by bfloat16 on hidden states of fewer numbers
_changed = Condition()
_at_work: Counter[tuple[str, str]] = Counter()
_failed: dict[str, str] = {}


def resolve(asked: str) -> tuple[str, ...]:
    """The devices that `asked` means here; ConfigError where this machine has no such device."""
    import torch

    count = torch.cuda.device_count()
    if asked == "auto":
        several = tuple(f"cuda:{i}" for i in range(count))
        return several if count > 1 else ("cuda",) if count else ("cpu",)
    devices = tuple(asked.split(","))
    for device in devices:
        if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= count:
            raise ConfigError(f"--device {device}: this machine has {count} CUDA devices")
    return devices


def fast_dtype(device: str) -> str:
    """bfloat16 where the device multiplies it faster, else float32."""
    import torch

    able = torch.cpu.get_capabilities()
    fast = not device.startswith("cpu") or able.get("avx512_bf16") or able.get("amx_tile")
    return "bfloat16" if fast else "float32"


def base_dtype(model: ModelRef, device: str, asked: str) -> str:
    """The type that a checkpoint computes in: as asked, or the fast one; float32 for a small one on a CPU."""
    if asked != "auto":
        return asked
    from exptilt.models.loading import hidden_size

    small = device.startswith("cpu") and (hidden_size(model) or NARROW) < NARROW
    return "float32" if small else fast_dtype(device)


def on_one_of(devices: Sequence[str], kind: str, at_once: int, work: Callable[[str], R]) -> R:
    """What `work` gives on the device that does least of this kind, at most `at_once` on each; another
    device takes it over from one that fails, which gets no work any more. DeviceError when none is left."""
    while True:
        device = _take(devices, kind, at_once)
        try:
            return work(device)
        except Exception as error:
            if not is_the_devices(error):
                raise
            _lose(device, error)
        finally:
            _give_back(device, kind)


def _take(devices: Sequence[str], kind: str, at_once: int) -> str:
    with _changed:
        while True:
            alive = [device for device in devices if device not in _failed]
            if not alive:
                raise DeviceError(
                    "no device is left: " + "; ".join(f"{device}: {_failed[device]}" for device in devices)
                )
            device = min(alive, key=lambda name: _at_work[name, kind])
            if _at_work[device, kind] < at_once:
                _at_work[device, kind] += 1
                return device
            _changed.wait()


def _give_back(device: str, kind: str) -> None:
    with _changed:
        _at_work[device, kind] -= 1
        _changed.notify_all()


def _lose(device: str, error: BaseException) -> None:
    with _changed:
        _failed[device] = str(error).strip().split("\n", 1)[0]
    said = f"warning: {device} failed ({_failed[device]}); others do its work"
    print(said, file=sys.stderr, flush=True)


def is_the_devices(error: BaseException) -> bool:
    """Whether a device failed and not the work: a lost GPU, an illegal address; not memory."""
    found = type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)
    return found or (error.__cause__ is not None and is_the_devices(error.__cause__))
