"""Many λ at once: vectors, grids and random directions, as a sweep's --lam writes them.

-0.5,2 is one vector; humor=-1:1:0.25 a grid from -1 to 1 in steps of 0.25, humor=0:2:1,positive=0:1:0.5 the
product of two (values that are not named stay at 0); simplex:20:3 are 20 random vectors ≥ 0 that sum to 3.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from exptilt.errors import ConfigError

Lam = tuple[float, ...]
MOST: Final = 10_000


def vectors(specs: Sequence[str], values: Sequence[str], seed: int) -> list[Lam]:
    """Every λ that `specs` mean, each once, in the order written; one number per value of `values`."""
    found = list(dict.fromkeys(lam for spec in specs for lam in _read(spec, values, seed)))
    if len(found) > MOST:
        raise ConfigError(f"--lam means {len(found):,} vectors; a sweep takes at most {MOST:,}")
    return found


def _read(spec: str, values: Sequence[str], seed: int) -> list[Lam]:
    try:
        if spec.startswith("simplex:"):
            return _simplex(spec, len(values), seed)
        return _grid(spec, values) if "=" in spec else [_vector(spec, values)]
    except ValueError as error:
        raise ConfigError(
            f"--lam {spec}: {error}; write a vector (-0.5,2), a grid (NAME=FROM:TO:STEP) or simplex:COUNT:SUM"
        ) from error


def _vector(spec: str, values: Sequence[str]) -> Lam:
    lam = tuple(_finite(part) for part in spec.strip("[]() ").split(","))
    if len(lam) != len(values):
        raise ValueError(f"{len(lam)} numbers for {len(values)} values ({','.join(values)})")
    return lam


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number


def _grid(spec: str, values: Sequence[str]) -> list[Lam]:
    axes: dict[str, list[float]] = {}
    for part in spec.split(","):
        name, _, range_ = part.rpartition("=")
        if name not in values or name in axes:
            raise ValueError(f"{name!r} is not one of the values, or is there twice")
        axes[name] = _axis(range_)
    return list(itertools.product(*(axes.get(value, [0.0]) for value in values)))


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


def _simplex(spec: str, size: int, seed: int) -> list[Lam]:
    """Uniform on the simplex: normalised exponentials (Devroye 1986, section V.2)."""
    _, count, *total = spec.split(":")
    rng = np.random.default_rng([seed, size])
    parts = rng.exponential(size=(min(int(count), MOST + 1), size))
    scaled = parts / parts.sum(axis=1, keepdims=True) * _finite(total[0] if total else "1")
    return [tuple(row) for row in scaled.tolist()]
