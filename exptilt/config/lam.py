"""λ by value, as every --lam writes it: humor=-0.5,positive=2, or numbers in the order of --value.

A --lam is a comma list of NAME=λ. NAME is a value as --value writes it, or its column. A value holds no
comma, but may hold = itself (tone=org/model#joy): λ is what follows the last =.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from exptilt.errors import ConfigError

DEFAULT_VALUE = "humor"


def text(given: Any) -> str:
    """One --lam as it is written: a mapping {value: λ} as NAME=λ,NAME=λ, anything else as it is."""
    if isinstance(given, Mapping):
        return ",".join(f"{name}={number}" for name, number in given.items())
    return str(given).strip()


def named(spec: str) -> dict[str, str]:
    """λ's text by the name before it; empty where `spec` has numbers alone.

    Args:
        spec: a comma list of NAME=λ, or of numbers.

    Raises:
        ConfigError: some parts lack a name or λ, or a name is there twice.
    """
    pairs = [part.rpartition("=") for part in spec.split(",") if part.strip()]
    names = [name.strip() for name, _, _ in pairs]
    if not any(sign for _, sign, _ in pairs):
        return {}
    if not all(name and number.strip() for name, _, number in pairs) or len(set(names)) < len(names):
        raise ConfigError(f"--lam {spec}: write NAME=λ once for each value, or numbers alone")
    return {name: number.strip() for name, (_, _, number) in zip(names, pairs, strict=True)}


def columns_of(values: Sequence[str]) -> dict[str, str]:
    """The column of each of `values`, by its two names: the value as --value writes it, and the column."""
    from exptilt import rewards

    columns = {value: rewards.column_of(value) for value in values}
    return columns | {column: column for column in columns.values()}


def by_column(given: Mapping[str, str], values: Sequence[str]) -> dict[str, str]:
    """`given` by the columns of `values`.

    Args:
        given: λ's text by value or by column.
        values: the values as --value writes them; those that `given` does not name are left out.

    Raises:
        ConfigError: a name is none of the values, or two names mean the same one.
    """
    columns = columns_of(values)
    unknown = [name for name in given if name not in columns]
    if unknown:
        raise ConfigError(f"--lam: {unknown[0]!r} is not one of the values ({','.join(values)})")
    numbers = {columns[name]: number for name, number in given.items()}
    if len(numbers) < len(given):
        raise ConfigError(f"--lam names a value twice: {','.join(given)}")
    return numbers


def with_values(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Settings whose `value`, where it is missing or empty, is what --lam names, else the default."""
    return {**given, "value": given.get("value") or list(dict.fromkeys(names)) or [DEFAULT_VALUE]}


def in_order(given: Mapping[str, str], values: Sequence[str]) -> list[str]:
    """λ's text for each of `values`, in their order.

    Args:
        given: λ's text by value or by column.
        values: the values as --value writes them.

    Raises:
        ConfigError: `given` does not name exactly these values.
    """
    columns = columns_of(values)
    numbers = {columns[name]: number for name, number in given.items() if name in columns}
    if not len(numbers) == len(given) == len(set(columns.values())):
        raise ConfigError(
            f"--lam and --value name different values: --lam has {','.join(given)}, "
            f"--value has {','.join(values)}"
        )
    return [numbers[column] for column in dict.fromkeys(columns.values())]
