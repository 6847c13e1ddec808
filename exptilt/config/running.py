"""Which runner does the shards of a flow: threads of its process, or the workers of a Ray cluster."""

import re
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from exptilt.errors import ConfigError


class Running(BaseModel):
    """What a run through Prefect has beside what it computes."""

    runner: Literal["threads", "ray"] = Field(
        default="threads",
        description="what does a flow's shards: threads of this machine, or the workers of a Ray cluster",
    )
    ray_address: str = Field(
        default="",
        description="the Ray cluster as HOST:PORT, or auto for the one that this machine is a node of "
        "(default: RAY_ADDRESS, else a Ray of the run's own)",
    )

    @model_validator(mode="after")
    def _ray_is_asked_for(self) -> Self:
        if self.ray_address and self.runner != "ray":
            raise ConfigError("--ray-address names a cluster for --runner ray: give that, too")
        check_address(self.ray_address, "--ray-address")
        return self


def check_address(address: str, named: str) -> None:
    """Raise ConfigError unless Ray's address is empty, auto or HOST:PORT; `named` says where it stands."""
    if (
        address
        and address != "auto"
        and not re.fullmatch(r"[\w.-]+:\d{1,5}|\[[\da-fA-F:]+\]:\d{1,5}", address)
    ):
        raise ConfigError(
            f"{named} {address}: write HOST:PORT or auto, and start the run on a node of the cluster"
        )
