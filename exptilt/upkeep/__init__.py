"""Upkeep of a pool: what lies in it, whether it is whole, and what can go."""

from typing import Final

DAYS: Final = 7.0  # what was written since is not pruned: a run may have been stopped, and will go on
