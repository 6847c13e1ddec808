"""The run record: what the first run of a configuration on a root found out, which those that join take over.

So every machine draws the same samples, in the same shards. The record is named by what is asked of the draw:
runs that differ in λ, in their values or in their outputs have the same one.
"""

import platform
import socket
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from exptilt import __version__
from exptilt.config.publishing import PUSHING
from exptilt.config.settings import Config, Original
from exptilt.errors import ConfigError, MissingError
from exptilt.models import devices
from exptilt.models.devices import Devices
from exptilt.run import current
from exptilt.storage import exclusive, filesystem, keys, pool
from exptilt.wording import counted

OWN: Final = {
    "save_directory",
    "endpoint_url",
    "batch_size",
    "allow_missing",
    "runner",
    "ray_address",
    "page_prompts",
    *PUSHING,
}  # each machine's


class RunRecord(BaseModel):
    """What a run draws with, where its configuration leaves that open.

    Attributes:
        host: the machine that found it out.
        device: the kind of device that draws, cpu or cuda.
        dtype: the base model's.
        reward_dtype: the reward models'.
        shard_size: prompts of a shard.
        versions: of exptilt, and of what computes.
        findings: of models and prompts, see exptilt.storage.findings.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    device: str
    dtype: str
    reward_dtype: str
    shard_size: int
    versions: dict[str, str]
    findings: dict[str, Any] = {}

    @property
    def taken(self) -> tuple[str, str, str, int]:
        """What another machine takes over."""
        return self.device, self.dtype, self.reward_dtype, self.shard_size

    @property
    def note(self) -> str:
        """What a run on another machine says before it starts; "" on the same one."""
        if self.host == socket.gethostname():
            return ""
        size = counted(self.shard_size, "prompt")
        return f"as {self.host} began this run: {self.device}, {self.dtype}, shards of {size}"

    def applied(self, config: Config) -> Config:
        """`config` with what it leaves open as it stands here."""
        open_ = {"dtype": self.dtype, "shard_size": self.shard_size}
        return config.model_copy(update={k: v for k, v in open_.items() if getattr(config, k) == "auto"})


def of_this_machine(device: str, dtype: str, reward_dtype: str, shard_size: int) -> RunRecord:
    """The record of a run that is begun here."""
    return RunRecord(
        host=socket.gethostname(),
        device=device,
        dtype=dtype,
        reward_dtype=reward_dtype,
        shard_size=shard_size,
        versions=_versions(),
        findings=current().findings,
    )


def _versions() -> dict[str, str]:
    return {
        "exptilt": __version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
        **{name: version(name) for name in ("torch", "transformers")},
    }


def take_findings(found: RunRecord | None) -> None:
    """Let the current run know what a record of these versions says was found out."""
    if found and found.versions == _versions():
        current().findings.update(found.findings)


def find(config: Config) -> RunRecord | None:
    """The record of runs of `config` on its root; None without one, or where it does not read as one."""
    try:
        return RunRecord.model_validate_json(filesystem.read_bytes(_path(config)))
    except (MissingError, ValidationError):
        return None


def devices_for(config: Config, found: RunRecord | None) -> Devices:
    """The devices of a run here: of the record's kind, where the configuration leaves it open."""
    names = devices.resolve(config.device)
    is_open = config.device == "auto"
    return devices.resolve("cpu") if is_open and found and found.device == "cpu" else names


def check_device(device: str, found: RunRecord) -> None:
    """Raise ConfigError where samples are to be drawn on `device`, which is of another kind."""
    here = devices.kind(device)
    if here != found.device:
        raise ConfigError(
            f"--device: {found.host} began this run on {found.device}, and this machine has only {here}: "
            f"run it where there is {found.device}, or draw all anew with --device {here}"
        )


def settled(
    config: Config, mine: RunRecord, found: RunRecord | None, is_going: Callable[[], bool]
) -> RunRecord:
    """The record that holds: the one that was there, or else `mine`, which is kept now.

    Args:
        config: the run's.
        mine: what this machine found out, or took from `found`.
        found: what was there when the plan was made.
        is_going: whether another run works at these shards now.

    Raises:
        ConfigError: another machine works at this run, with other versions.
    """
    if found and found.versions == mine.versions:
        return _with_findings(config, found, mine)
    if found and is_going():
        raise ConfigError(_other_versions(mine, found))
    text = filesystem.json_bytes(mine.model_dump())
    if found is None:
        exclusive.create(_path(config), text)
        if first := find(config):
            return first
    filesystem.write_bytes(_path(config), text)
    return mine


def _with_findings(config: Config, found: RunRecord, mine: RunRecord) -> RunRecord:
    """The record that was found, kept with what else was found out now."""
    if mine.findings.keys() <= found.findings.keys():
        return found
    more = found.model_copy(update={"findings": {**found.findings, **mine.findings}})
    filesystem.write_bytes(_path(config), filesystem.json_bytes(more.model_dump()))
    return more


def _other_versions(mine: RunRecord, found: RunRecord) -> str:
    there, here = (
        ", ".join(
            f"{name} {record.versions.get(name, 'none')}"
            for name in mine.versions
            if mine.versions.get(name) != found.versions.get(name)
        )
        for record in (found, mine)
    )
    return f"{found.host} is at work at this run with {there}, and this machine has {here}: install the same"


def _path(config: Config) -> str:
    asked: dict[str, Any] = config.model_dump(mode="json", include=set(Original.model_fields) - OWN)
    return f"{pool.place(config.save_directory, 'runs', keys.content_key(asked))}.json"
