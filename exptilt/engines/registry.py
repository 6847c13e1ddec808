"""Which engines there are, what each can do, and which one draws from a base model."""

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final, cast

from exptilt.conversation import PLAIN, Template
from exptilt.engines import huggingface, openai, toy, vllm
from exptilt.engines.base import P0, Capabilities, Continuing, Engine, EngineSpec
from exptilt.errors import ModelError
from exptilt.models import chat_template, devices
from exptilt.models import template_names as names
from exptilt.models.reference import SERVED, ModelRef
from exptilt.shared import shared
from exptilt.storage.keys import content_key

GROUP: Final = "exptilt.engines"


@lru_cache(maxsize=1)
def engines() -> dict[str, EngineSpec]:
    """Every engine by name: exptilt's own and those of installed packages; the one that takes any name last.

    Raises ModelError where an installed one does not load.
    """
    installed = [_installed(point) for point in entry_points(group=GROUP)]
    return {
        spec.name: spec for spec in (toy.ENGINE, openai.ENGINE, vllm.ENGINE, *installed, huggingface.ENGINE)
    }


def _installed(point: EntryPoint) -> EngineSpec:
    try:
        spec = point.load()
    except Exception as error:
        raise ModelError(f"the engine {point.name!r} ({point.value}) does not load: {error}") from error
    if not isinstance(spec, EngineSpec):
        raise ModelError(f"the engine {point.name!r} ({point.value}) is no EngineSpec")
    return spec


def base_model(name: str) -> ModelRef:
    """The base model that `name` means: that of the first engine that takes the name.

    Raises ModelError if there is none, or no Hub is in reach.
    """
    found = (spec.base_model(name) for spec in engines().values())
    return next(ref for ref in found if ref)


def capabilities(model: ModelRef) -> Capabilities:
    """What the engine that draws from `model` can do."""
    return engines()[model.engine].can


def dtype_of(model: ModelRef, device: str, asked: str) -> str:
    """The type that `model` computes in: as `asked`, or what suits it on `device`; SERVED elsewhere."""
    can = capabilities(model)
    if not can.is_local:
        return SERVED
    if can.has_checkpoint:
        return devices.base_dtype(model, device, asked)
    return "float32" if asked == "auto" else asked


def chat_digest(model: ModelRef, template: Template, why: str = "--chat") -> str:
    """What stands for the chat template of `model` in a key; "server" where it is the server's own.

    Args:
        model: the base model.
        template: how the run fills it in.
        why: what asks for a template, in errors.

    Raises ModelError where the model has no template, ConfigError where that does not read an option.
    """
    chat = capabilities(model).chat
    if not chat:
        raise chat_template.no_template(model, why)
    if chat == "checkpoint":
        return chat_template.digest(model, template, why)
    if template.text:
        names.check_options(template, template.text)
    return chat if template == PLAIN else content_key([chat, template.text, dict(template.options)])


def template_names(model: ModelRef, template: Template) -> frozenset[str] | None:
    """The names that the chat template of `model` reads; None where it is the server's own."""
    chat = capabilities(model).chat
    if chat not in ("", "checkpoint") and not template.text:
        return None
    return names.names_read(chat_template.text_of(model, template) if chat == "checkpoint" else template.text)


def load_continuing(p0: P0, device: str) -> Continuing:
    """The same engine, where it can draw the rest of completions (Capabilities.continues)."""
    return cast(Continuing, load(p0, device))


@shared
def load(p0: P0, device: str) -> Engine:
    """The engine that draws from `p0` on `device`, one for all runs that draw so."""
    return engines()[p0.model.engine].load(p0, device)
