"""The file of an ensemble: how its members are combined, and the constants that standardise each of them.

kind = "mean-k-sd"            # or "mean", or "min"
k = 0.5                       # of mean-k-sd alone
pool = "demo-demo_lam=..."    # the samples of p0 that the constants are of

[members]                     # values as --value writes them
humor = { mean = 0.3033, sd = 0.4597 }
positive = { mean = 0.6081, sd = 0.4882 }
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exptilt.errors import ConfigError
from exptilt.models.reference import is_url
from exptilt.tilting.ensemble import RULES

ENDING: Final = ".toml"
WITH_K: Final = "mean-k-sd"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleFile:
    """An ensemble as its file has it: `members` are mean and sd by value; `k` is 0 where a rule has none."""

    rule: str
    k: float
    pool: str
    members: dict[str, tuple[float, float]]


def is_ensemble(source: str) -> bool:
    """Whether the source of a value is an ensemble's file."""
    return source.endswith(ENDING) and not is_url(source)


def read(path: str, value: str) -> EnsembleFile:
    """The ensemble in the file at `path`.

    Args:
        path: of a local file.
        value: as --value writes it, for errors.

    Raises:
        ConfigError: the file is not there or is no such file; the text says where.
    """
    said = f"--value {value}"
    given = _table(path, said)
    unknown = [name for name in given if name not in ("kind", "k", "pool", "members")]
    if unknown:
        raise ConfigError(f"{said}: unknown key {unknown[0]!r}; known are kind, k, pool and members")
    rule, members = given.get("kind"), given.get("members")
    if rule not in RULES:
        raise ConfigError(f"{said}: kind is {', '.join(RULES)}, got {rule!r}")
    if not isinstance(members, dict) or len(members) < 2:
        raise ConfigError(f"{said}: an ensemble needs two or more members, each as NAME = {{ mean, sd }}")
    return EnsembleFile(
        rule=rule,
        k=_k(given, rule, said),
        pool=str(given.get("pool", "")),
        members={name: _constants(name, constants, said) for name, constants in members.items()},
    )


def _table(path: str, said: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{said}: {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{said}: {path} is not TOML ({error})") from error


def _k(given: Mapping[str, Any], rule: str, said: str) -> float:
    if (rule == WITH_K) != ("k" in given):
        raise ConfigError(f"{said}: kind {WITH_K} needs k, and no other kind has it")
    k = given.get("k", 0.0)
    if not _is_finite(k) or k < 0:
        raise ConfigError(f"{said}: k is a finite number of at least 0, got {k!r}")
    return float(k)


def _constants(name: str, given: Any, said: str) -> tuple[float, float]:
    """A member's mean and sd."""
    if not isinstance(given, dict) or set(given) != {"mean", "sd"}:
        raise ConfigError(f"{said}: member {name!r} needs {{ mean, sd }}, got {given!r}")
    mean, sd = given["mean"], given["sd"]
    if not (_is_finite(mean) and _is_finite(sd) and sd > 0):
        raise ConfigError(
            f"{said}: member {name!r} needs a finite mean and an sd over 0, got {mean!r}, {sd!r}"
        )
    return float(mean), float(sd)


def _is_finite(given: Any) -> bool:
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    return is_number and math.isfinite(given)
