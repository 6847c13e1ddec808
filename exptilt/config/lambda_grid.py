"""Many λ at once: vectors, grids and random directions, as a sweep's --lam writes them.

-0.5,2 and humor=-0.5,positive=2 are one vector; humor=-1:1:0.25 is a grid from -1 to 1 in steps of 0.25,
humor=0:2:1,positive=1 a product of two (values that are not named stay at 0); simplex:20:3 are 20 random
vectors ≥ 0 that sum to 3. The names are read as in every --lam (lam.py).
"""

import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from exptilt import rewards
from exptilt.config import lam as lams
from exptilt.errors import ConfigError
from exptilt.wording import counted

Lam = dict[str, float]  # λ by the column of its value, in the values' order
Numbers = tuple[float, ...]
MOST: Final = 10_000


def vectors(specs: Sequence[str], values: Sequence[str], seed: int) -> list[Lam]:
    """Every λ that `specs` mean, each once, in the order written.

    Args:
        specs: vectors, grids and simplexes.
        values: the values as --value writes them.
        seed: of the random vectors.

    Raises:
        ConfigError: a spec is none of these, or they mean more than MOST vectors.
    """
    rows = list(dict.fromkeys(row for spec in specs for row in _read(spec, values, seed)))
    if len(rows) > MOST:
        raise ConfigError(f"--lam means {len(rows):,} vectors; a sweep takes at most {MOST:,}")
    columns = [rewards.column_of(value) for value in values]
    return [dict(zip(columns, row, strict=True)) for row in rows]


def names(specs: Sequence[str]) -> list[str]:
    """The values that `specs` name, each once, in the order written."""
    return list(dict.fromkeys(name for spec in specs for name in lams.named(spec)))


def _read(spec: str, values: Sequence[str], seed: int) -> list[Numbers]:
    try:
        if spec.startswith("simplex:"):
            return _simplex(spec, len(values), seed)
        named = lams.named(spec)
        return _grid(named, values) if named else [_vector(spec, values)]
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(
            f"--lam {spec}: {error}; write a vector (-0.5,2), a grid (NAME=FROM:TO:STEP) or simplex:COUNT:SUM"
        ) from error


def _vector(spec: str, values: Sequence[str]) -> Numbers:
    lam = tuple(_finite(part) for part in spec.strip("[]() ").split(","))
    if len(lam) != len(values):
        numbers, names = counted(len(lam), "number"), counted(len(values), "value")
        raise ValueError(f"{numbers} for {names} ({','.join(values)})")
    return lam


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number


def _grid(named: dict[str, str], values: Sequence[str]) -> list[Numbers]:
    ranges = lams.by_column(named, values)
    return list(itertools.product(*(_axis(ranges.get(rewards.column_of(value), "0")) for value in values)))


def _axis(text: str) -> list[float]:
    parts = [_finite(part) for part in text.split(":")]
    if len(parts) == 1:
        return parts
    if len(parts) != 3 or parts[2] == 0 or (parts[1] - parts[0]) / parts[2] < 0:
        raise ValueError(f"{text!r} is not FROM:TO:STEP")
    first, last, step = parts
    count = math.floor((last - first) / step + 1e-9) + 1
    if count > MOST:
        raise ValueError(f"{count:,} steps are more than {MOST:,}")
    return [round(first + i * step, 12) for i in range(count)]


def _simplex(spec: str, size: int, seed: int) -> list[Numbers]:
    """Uniform on the simplex: normalised exponentials (Devroye 1986, section V.2)."""
    _, count, *total = spec.split(":")
    rng = np.random.default_rng([seed, size])
    parts = rng.exponential(size=(min(int(count), MOST + 1), size))
    scaled = parts / parts.sum(axis=1, keepdims=True) * _finite(total[0] if total else "1")
    return [tuple(row) for row in scaled.tolist()]
