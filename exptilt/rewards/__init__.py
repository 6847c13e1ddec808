"""How completions are scored: one file per kind of reward, all with the contract of base."""

from exptilt.rewards.base import (
    Rewards,
    RewardSpec,
    check_name,
    expand,
    label_of,
    load,
    resolve,
)

__all__ = ["RewardSpec", "Rewards", "check_name", "expand", "label_of", "load", "resolve"]
