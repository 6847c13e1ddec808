"""The types of the settings' fields: what may be written for each, in flags, in TOML or in a form."""

import json
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from exptilt.config import lam as lams
from exptilt.errors import ConfigError
from exptilt.storage import paths


def split(given: Any) -> Any:
    """One item, a comma list, a list of these, or a tuple: as one flat list."""
    items = given if isinstance(given, (list, tuple)) else [given]
    return [p.strip() for item in items for p in str(item).strip("[]() ").split(",") if p.strip()]


def _schema(one: str, *more: dict[str, Any]) -> WithJsonSchema:
    alone = [{"type": kind} for kind in dict.fromkeys([one, "string"])]
    return WithJsonSchema({"anyOf": [*alone, {"type": "array", "items": {"type": one}}, *more]})


def listed(given: Any) -> Any:
    """One item, or several: as a list, their commas left alone, a mapping as its --lam writes it."""
    items = given if isinstance(given, (list, tuple)) else [given]
    return [lams.text(item) for item in items]


BY_VALUE: Final = {"type": "object", "additionalProperties": {"type": "number"}}
Numbers = Annotated[tuple[float, ...], BeforeValidator(split), _schema("number", BY_VALUE)]
Names = Annotated[tuple[str, ...], BeforeValidator(split), _schema("string")]


def _texts(given: Any) -> Any:
    """One text, or several: as a list, each as it is."""
    texts = list(given) if isinstance(given, (list, tuple)) else [given]
    if not all(isinstance(text, str) and text and _is_unicode(text) for text in texts):
        raise ConfigError(f"--stop: a text that ends a completion has at least one character, got {given!r}")
    return texts


def _is_unicode(text: str) -> bool:
    """Whether `text` holds no surrogates, which stand for bytes that are not UTF-8."""
    return text.encode(errors="replace").decode() == text


def _options(given: Any) -> Any:
    """NAME=VALUE, a comma list or a mapping of them: as a list of NAME=VALUE, each value as JSON."""
    items = (
        [f"{name}={json.dumps(value)}" for name, value in given.items()]
        if isinstance(given, dict)
        else split(given)
    )
    for item in items:
        option(item)
    return items


def option(item: str) -> tuple[str, Any]:
    name, equals, value = item.partition("=")
    if not (equals and name.isidentifier()):
        raise ConfigError(f"--template-options {item}: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


Options = Annotated[tuple[str, ...], BeforeValidator(_options), _schema("string", {"type": "object"})]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts), _schema("string")]
Items = Annotated[tuple[str, ...], BeforeValidator(listed), _schema("string")]
Specs = Annotated[tuple[str, ...], BeforeValidator(listed), _schema("string", {"type": "object"})]


def _joined(given: Any) -> Any:
    """One name, or several: with commas between them."""
    return ",".join(map(str, given)) if isinstance(given, (list, tuple)) else given


def _check_paths(names: str) -> str:
    for name in names.split(","):
        paths.check_path(name.strip())
    return names


Places = Annotated[str, BeforeValidator(_joined), AfterValidator(_check_paths), _schema("string")]
Place = Annotated[str, AfterValidator(paths.check_path)]
Endpoint = Annotated[
    str, AfterValidator(paths.check_endpoint), WithJsonSchema({"type": "string", "pattern": paths.ENDPOINT})
]
S3_HOST: Final = "the address of an S3 that is not AWS: https://HOST:PORT of MinIO, R2, Ceph, ..."
Positive = Annotated[int, Field(ge=1)]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
ResamplerName = Literal["multinomial", "systematic", "residual", "gumbel-top-k", "rejection", "best-of-n"]
EXPORTS: Final = ("weighted", "pairs", "sft")
IN_CHAT: Final = ("pairs-chat", "sft-chat")  # which pairs and sft write, too
PositiveOrAuto = Annotated[int, Field(ge=1)] | Literal["auto"]


def count_of(given: int | Literal["auto"]) -> int:
    """A number that is given, 0 for one that is not."""
    return 0 if given == "auto" else given
