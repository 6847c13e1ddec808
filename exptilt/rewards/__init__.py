"""How completions are scored: one file per kind of reward, all with the contract of base."""

from exptilt.rewards.base import Rewards, RewardSpec, Scored, together
from exptilt.rewards.catalogue import Beside, check_name, column_of, expand, has_template, parse, resolve
from exptilt.rewards.registry import by_contract, load, manner, needs_of

__all__ = [
    "Beside",
    "RewardSpec",
    "Rewards",
    "Scored",
    "by_contract",
    "check_name",
    "column_of",
    "expand",
    "has_template",
    "load",
    "manner",
    "needs_of",
    "parse",
    "resolve",
    "together",
]
