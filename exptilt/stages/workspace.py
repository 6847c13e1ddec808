"""The workspace of a step: the devices that it computes on, and the pool that it reads and writes."""

from dataclasses import dataclass

from exptilt.models.devices import Devices
from exptilt.run import Run
from exptilt.storage import pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Where a step works.

    Attributes:
        devices: what models run on.
        save_directory: the folder that holds the pool.
        run: whose step it is.
        allow_missing: whether prompts that fail may be left out.
    """

    devices: Devices
    save_directory: str
    run: Run
    allow_missing: bool = False

    def path(self, stage: str, *parts: str) -> str:
        """The pool's path of `stage`."""
        return pool.place(self.save_directory, stage, *parts)
