"""How completions are scored: one file per kind of reward, all with the contract of base."""

from exptilt.rewards.base import Rewards, RewardSpec, Scored, together
from exptilt.rewards.catalogue import check_name, column_of, expand, parse
from exptilt.rewards.registry import by_contract, load, manner, needs_of
from exptilt.rewards.resolving import Beside, has_template, resolve

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
