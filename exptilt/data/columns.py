"""The column of a table that holds the prompts, and what a row has there and beside it."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from exptilt.data import beside
from exptilt.errors import ConfigError

PROMPT: Final = "prompt"
CONVERSATIONS: Final = ("messages", "conversations", "conversation", "chosen")


class Value(NamedTuple):
    """What a row has for a prompt.

    Attributes:
        value: the prompt as its source has it.
        column: where it stands, "" where there are no columns.
        beside: what else the row holds of beside.COLUMNS.
        place: the file and the row in it, as FILE:ROW, where prompts come from several files.
    """

    value: Any
    column: str = ""
    beside: Mapping[str, Any] = {}
    place: str = ""


def value_of(row: Mapping[str, Any], column: str) -> Value:
    """What a row has for a prompt in `column`."""
    return Value(row.get(column), column, beside.given(row, column))


def find_column(names: Iterable[str], column: str) -> str:
    """The column of the prompts: `column`, or where there is none of the usual name, that of conversations.

    Raises ConfigError where there is neither.
    """
    names = list(names)
    usual = [column, *(CONVERSATIONS if column == PROMPT else ())]
    chosen: str | None = next((name for name in usual if name in names), None)
    if chosen is None:
        found = ", ".join(name if name.isprintable() else repr(name) for name in names)
        raise ConfigError(f"no column {column!r}; its columns are {found} (--prompt-column)")
    return chosen
