"""Checks that several kinds of settings share: of devices and of values.

What they need is imported in them, so that --help does not wait for polars.
"""

import re
from collections.abc import Sequence
from typing import Any

from exptilt.errors import ConfigError


def check_device(device: str) -> str:
    """`device`, if it is written as one or as several different ones; ConfigError otherwise."""
    names = device.split(",")
    known = device == "auto" or all(re.fullmatch(r"(cpu|cuda)(:\d+)?", name) for name in names)
    if not known or len(set(names)) != len(names):
        raise ConfigError(f"unknown device {device!r}: use auto, cpu, cuda, or cuda:0,cuda:1")
    return device


def check_values(values: Sequence[str]) -> None:
    """Raise ConfigError unless every value names a reward, and each its own column."""
    from exptilt import rewards

    for value in values:
        rewards.check_name(value)
    names = [rewards.column_of(value) for value in values]
    if len(set(names)) != len(names):
        raise ConfigError(f"a value is named twice: --value {plain(names)}")


def plain(items: Sequence[Any]) -> str:
    """The items as a flag takes them."""
    return ",".join(str(item) for item in items)
