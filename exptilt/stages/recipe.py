"""The recipe of a run: all that a step needs beside its shard."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exptilt.config.field_types import count_of
from exptilt.config.settings import Config, MCAligned
from exptilt.engines import registry
from exptilt.engines.base import P0
from exptilt.models.devices import Devices
from exptilt.rewards import RewardSpec
from exptilt.run import Run
from exptilt.stages.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is drawn, how it is scored, and where: all that a step needs beside its shard.

    `p0` is None where the samples came from a file; `name` is what the outputs are called after; `certified`
    is the share of the prompts that have second chains, where the run refines.
    """

    config: Config
    p0: P0 | None
    rewards: tuple[RewardSpec, ...]
    devices: Devices
    name: str
    run: Run
    certified: float = 0.0

    @property
    def lam(self) -> dict[str, float]:
        """λ by value, in the rewards' order; empty for a run that does not tilt."""
        return self.config.tilt if isinstance(self.config, MCAligned) else {}

    @property
    def lam_vector(self) -> NDArray[np.float64]:
        """λ [V] of a run that tilts, in the rewards' order."""
        return np.array([self.lam[spec.value] for spec in self.rewards])

    @property
    def refines(self) -> bool:
        """Whether draws are moved on."""
        return isinstance(self.config, MCAligned) and self.config.refine > 0

    @property
    def steers(self) -> bool:
        """Whether moves begin at steered draws."""
        return isinstance(self.config, MCAligned) and self.config.steer

    @property
    def drawn_by(self) -> str:
        """What draws: the base model and where it is, or the file's name."""
        if self.p0 is None:
            return self.name
        is_local = registry.capabilities(self.p0.model).is_local
        by = f" by vLLM {self.p0.vllm.version}" if self.p0.vllm else ""
        where = f"{by} on {', '.join(self.devices)} ({self.p0.dtype})" if is_local else ""
        return f"{self.p0.model.name}{where}"

    @property
    def batch_size(self) -> int:
        """Sequences decoded at once; 0 lets the engine choose."""
        return count_of(self.config.batch_size)

    @property
    def workspace(self) -> Workspace:
        """Where its steps work."""
        return Workspace(
            devices=self.devices,
            save_directory=self.config.save_directory,
            allow_missing=self.config.allow_missing,
            run=self.run,
        )
