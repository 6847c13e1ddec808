"""What every node of a Ray cluster must have before a run begins on it, asked there and refused by name."""

import ipaddress
import platform
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx
from prefect.settings import get_current_settings

from exptilt import __version__
from exptilt.errors import ConfigError, ExptiltError
from exptilt.run import Run
from exptilt.storage import filesystem, write_checks

ANSWER_SECONDS: Final = 120.0
HERE: Final = {"exptilt": __version__, "Python": ".".join(platform.python_version_tuple()[:2])}
Node = Mapping[str, Any]  # as ray.nodes() describes it


def alive() -> list[Node]:
    """The nodes of the cluster that Ray takes to be alive; one that died is among them for half a minute."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def check_nodes(config: Any, nodes: Sequence[Node], used: Sequence[Node]) -> list[Node]:
    """Those of `used` that are still alive, once each has said that it can do shards.

    Raises:
        ConfigError: one cannot: which, and what to change.
    """
    check_api(str(get_current_settings().api.url), {node["NodeManagerHostname"] for node in nodes})
    with Run(config.endpoint_url).entered():
        write_checks.check_writable(config.save_directory)
        mark = filesystem.join(config.save_directory, "pool", f"seen-by-nodes-{uuid.uuid4().hex}")
        filesystem.write_bytes(mark, b"")
        try:
            answers = _asked(used, mark, config.endpoint_url)
        finally:
            filesystem.remove(mark)
    known = {node["NodeID"] for node in alive()}
    found = [(node, said) for node, said in zip(used, answers, strict=True) if node["NodeID"] in known]
    for node, answer in found:
        check_answer(str(node["NodeManagerHostname"]), answer, config.save_directory)
    return [node for node, _ in found]


def check_api(api: str, hosts: set[str]) -> None:
    """Raise ConfigError where the Prefect server is on loopback and the cluster has several hosts."""
    if len(hosts) > 1 and _is_loopback(httpx.URL(api).host):
        raise ConfigError(
            f"the Ray cluster has {len(hosts)} hosts, which cannot reach a Prefect server on loopback: "
            "prefect server start --host 0.0.0.0, and PREFECT_API_URL=http://HOST:4200/api"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host == "localhost"


def _asked(nodes: Sequence[Node], mark: str, endpoint: str) -> list[dict[str, str] | BaseException]:
    """The answer of every node, or what it failed with."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    ask = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = [
        ask.options(scheduling_strategy=On(n["NodeID"], soft=False)).remote(mark, endpoint) for n in nodes
    ]
    return [_answer(ref) for ref in asked]


def _answer(ref: Any) -> dict[str, str] | BaseException:
    import ray

    try:
        said = ray.get(ref, timeout=ANSWER_SECONDS)
    except ray.exceptions.RayTaskError as error:
        said = error.cause
    except ray.exceptions.RayError as error:
        said = error
    answer: dict[str, str] | BaseException = said
    return answer


def look(mark: str, endpoint: str) -> dict[str, str]:
    """What a node has: its versions, and why it does not see the file `mark`, "" where it does."""
    with Run(endpoint).entered():
        try:
            filesystem.read_bytes(mark)
            why = ""
        except ExptiltError as error:
            why = str(error)
    return {**HERE, "why": why}


def check_answer(name: str, answer: Mapping[str, str] | BaseException, root: str) -> None:
    """Raise ConfigError unless the node `name` answered what a run needs of it."""
    if isinstance(answer, ImportError):
        raise ConfigError(
            f"Ray's node {name} lacks exptilt's checkout ({answer}): install the same on every node"
        )
    if isinstance(answer, BaseException):
        line = next(iter(str(answer).strip().splitlines()), type(answer).__name__)
        raise ConfigError(f"Ray's node {name} does not answer: {line}")
    for what, here in HERE.items():
        if answer[what] != here:
            raise ConfigError(
                f"Ray's node {name} has {what} {answer[what]}, this machine {here}: "
                "install the same on every node"
            )
    if answer["why"]:
        raise ConfigError(
            f"Ray's node {name} does not see --save-directory {root} ({answer['why']}): give a folder that "
            "every node has at the same path, or s3://BUCKET/PREFIX and the credentials to each node"
        )
