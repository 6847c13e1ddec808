"""How completions are scored: one file per kind of reward, all with the contract of base."""

from exptilt.rewards.base import Rewards, RewardSpec, Scored
from exptilt.rewards.catalogue import check_name, column_of, expand, resolve
from exptilt.rewards.registry import load, needs_of

__all__ = [
    "RewardSpec",
    "Rewards",
    "Scored",
    "check_name",
    "column_of",
    "expand",
    "load",
    "needs_of",
    "resolve",
]
