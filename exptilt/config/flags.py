"""A configuration's field as a flag: its name, what it takes, its default, for help and the reference."""

from typing import Literal, NamedTuple, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


class Flag(NamedTuple):
    """A flag of the command line.

    Attributes:
        name: with its dashes.
        takes: what stands behind it, "" for a switch.
        is_many: whether it may be repeated.
        default: as one writes it, "" where there is none.
        description: what it does.
    """

    name: str
    takes: str
    is_many: bool
    default: str
    description: str


def flag(name: str, field: FieldInfo) -> Flag:
    """The flag of the field `name`."""
    is_switch = field.annotation is bool
    return Flag(
        name=f"--{name.replace('_', '-')}",
        takes="" if is_switch else _takes(name, field),
        is_many=any(isinstance(check, BeforeValidator) for check in field.metadata),  # it takes a list, too
        default="" if is_switch else _default(field),
        description=field.description or "",
    )


def _takes(name: str, field: FieldInfo) -> str:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return "|".join(choices) if choices else name.rsplit("_", maxsplit=1)[-1].upper()


def _default(field: FieldInfo) -> str:
    if field.default in (None, PydanticUndefined):
        return ""
    return ",".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)
