"""Counter-based randomness: a number in (0, 1) for every (seed, step, token), in any order.

The same code runs on numpy and torch int64 arrays, whose products wrap around; shifts are made
logical by a mask. Mixing is SplitMix64's finaliser (Steele, Lea & Flood 2014, section 4).
"""

from typing import Any

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(x: Any, bits: int) -> Any:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Any) -> Any:
    """A bijection of int64 arrays whose every output bit depends on every input bit."""
    x = x + _GOLDEN
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def uniform(seeds: Any, step: Any, tokens: Any) -> Any:
    """Float64 in (0, 1), each of (seed, step, token) alone: not of the row, the batch or the other tokens.

    Args:
        seeds: int64, of any shape.
        step: how many tokens came before: one number, or int64 of a shape that broadcasts likewise.
        tokens: int64 token ids, of a shape that broadcasts with that of `seeds`.

    Returns:
        An array or tensor, as the arguments are, of the shape that they broadcast to.
    """
    high = _shift_right(mix(mix(mix(seeds) ^ step) ^ tokens), 11)
    numbers = high.double() if hasattr(high, "double") else high.astype("float64")
    return (numbers + 0.5) * 2.0**-53
