"""The Ray cluster of a run: connected to once, checked, left when the run ends; and plans made on it.

A plan is made by a worker, which has the device and the type of numbers that the shards will have, and which
keeps the models that it tried.
"""

import contextlib
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from exptilt.config.running import check_address
from exptilt.errors import ConfigError, ExptiltError
from exptilt.process_setup import set_up
from exptilt.run import begin_for_the_process, current
from tasks.runtime.cluster_checks import alive, check_nodes

CONNECT_SECONDS: Final = 10.0
OBJECT_STORE: Final = 100_000_000  # bytes of a Ray of the run's own, which carries references alone
TOKENS: Final = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Workers that each do a shard at a time: how many there are at once, and what one takes of its node."""

    workers: int
    gpus: int
    cpus: int

    @property
    def options(self) -> dict[str, Any]:
        """What Ray is told of a task. Without max_calls a worker with a GPU would end after each one."""
        return {"num_gpus": self.gpus, "num_cpus": self.cpus, "max_calls": 0}


def cluster(config: Any) -> Cluster:
    """The cluster of this run, connected to where it is not yet. Raises ConfigError: what to change."""
    return current().owned("ray", lambda: _connected(config), lambda found: True)


def planned(prepare: Callable[..., R], config: Any) -> R:
    """The plan that `prepare` makes of `config`: here, or on a worker of its cluster.

    Raises ExptiltError: one line on what to change.
    """
    if config.runner != "ray":
        return prepare(config)
    there = cluster(config)
    import ray
    from ray.exceptions import RayError, RayTaskError

    task = ray.remote(**there.options)(_prepared)
    try:
        made = ray.get(task.remote(prepare, config, there.workers))
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise ConfigError(f"the worker that planned the run died: {_first_line(error)}") from error
    if isinstance(made, ExptiltError):
        raise made
    plan: R = made
    return plan


def _prepared(prepare: Callable[..., R], config: Any, workers: int) -> R | ExptiltError:
    """The plan, or the error that says what to change."""
    try:
        return prepare(config, workers)
    except ExptiltError as error:
        return error


@contextlib.contextmanager
def _connected(config: Any) -> Iterator[Cluster]:
    address = config.ray_address or os.environ.get("RAY_ADDRESS", "")
    check_address(address, "RAY_ADDRESS")
    _check_answers(address)
    ray = _ray(own=not address)
    try:
        with _own_signals():
            ray.init(address=address or "local", **_how(own=not address))
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ConfigError(f"no Ray cluster is to be reached{_at(address)}: {_first_line(error)}") from error
    try:
        nodes = alive()
        kind = "GPU" if workers_of([node["Resources"] for node in nodes], config.device).gpus else "CPU"
        nodes = check_nodes(config, nodes, [node for node in nodes if node["Resources"].get(kind, 0) >= 1])
        yield workers_of([node["Resources"] for node in nodes], config.device)
    finally:
        ray.shutdown()


def _ray(own: bool) -> Any:
    """Ray, told before it loads to send no statistics, and to write no token of its `own` into the home."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if own and not any(name in os.environ for name in TOKENS):
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    try:
        import prefect_ray  # noqa: F401 - asked for with Ray
        import ray
    except ImportError as error:
        raise ConfigError(f"--runner ray needs Ray: pip install 'exptilt[ray]' ({error})") from error
    return ray


def _how(own: bool) -> dict[str, Any]:
    """The arguments of ray.init beside the address."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "exptilt"}
    ours = {"include_dashboard": False, "object_store_memory": OBJECT_STORE} if own else {}
    return {**quiet, **ours, "runtime_env": {"worker_process_setup_hook": _starting_in(Path.cwd())}}


def _starting_in(folder: Path) -> Callable[[], None]:
    """What a worker does first: go to the run's folder, where there is one, and set up itself."""

    def start() -> None:
        with contextlib.suppress(OSError):
            os.chdir(folder)
        set_up()
        begin_for_the_process()

    return start


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _check_answers(address: str) -> None:
    """Raise ConfigError where nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}): start one (ray start --head), or leave "
            "--ray-address and RAY_ADDRESS out"
        ) from error


def workers_of(resources: Sequence[Mapping[str, float]], device: str) -> Cluster:
    """The workers of nodes with these resources: one per GPU, or as many CPUs each as the smallest node has.

    Args:
        resources: of each node, as Ray names them: CPU, GPU.
        device: as the user asked for it; auto takes GPUs where there are any.

    Raises:
        ConfigError: there is none of the kind asked for, or single devices are named.
    """
    if device not in ("auto", "cuda", "cpu"):
        raise ConfigError(f"--device {device}: Ray gives each worker a device; use auto, cuda or cpu")
    cpus = [int(node.get("CPU", 0)) for node in resources]
    gpus = [int(node.get("GPU", 0)) for node in resources]
    if device == "cuda" or (device == "auto" and any(gpus)):
        found = Cluster(workers=sum(map(min, cpus, gpus)), gpus=1, cpus=1)
    else:
        found = _of_cpus(cpus)
    if not found.workers:
        kind = "GPU with a CPU beside it" if found.gpus else "CPU"
        raise ConfigError(f"--device {device}: no node of the Ray cluster has a {kind}")
    return found


def _of_cpus(cpus: Sequence[int]) -> Cluster:
    each = min((count for count in cpus if count), default=1)
    return Cluster(workers=sum(count // each for count in cpus), gpus=0, cpus=each)


def _at(address: str) -> str:
    return f" at {address}" if address else ""


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
