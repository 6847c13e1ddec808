"""From what was given to checked settings, or to one line that names the flag."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from exptilt.errors import ConfigError

C = TypeVar("C", bound=BaseModel)


def build(model: type[C], settings: dict[str, Any]) -> C:
    """The checked configuration, or a ConfigError of one line that names the flag."""
    try:
        return model(**settings)
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


def explain(error: ValidationError) -> str:
    """The first complaint of a ValidationError, as one line that names the flag."""
    first = error.errors()[0]
    own = first.get("ctx", {}).get("error")
    if isinstance(own, ConfigError):
        return str(own)
    name = str(first["loc"][0]) if first["loc"] else "configuration"
    given = "" if first["type"] == "missing" else f", got {first['input']!r}"
    return f"--{name.replace('_', '-')}: {first['msg'].lower()}{given}"
