"""Which model a name means, and which exact weights it stands for."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from exptilt import demo
from exptilt.errors import ModelError
from exptilt.models import adapter_config, files, formats, hub
from exptilt.models.place import Place, folder, locate

SERVED: Final = "served"
HUGGINGFACE: Final = "huggingface"
ALIASES: Final = {
    "demo": str(demo.MODEL),
    "gpt2": "openai-community/gpt2",
    "opt1.3b": "facebook/opt-1.3b",
    "llama2_chat": "meta-llama/Llama-2-7b-chat-hf",
}
URL: Final = re.compile(
    r"(?P<root>https?://(?:[\w.-]+|\[[\da-fA-F:]+\])(?::\d{1,5})?(?:/[^\s?#@]*)?)(?:#(?P<model>.*))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model: the name that the user gave, where it is loaded from, and its revision.

    `revision` is the Hub's commit, the digest of a local folder's files, or SERVED. The source of a local
    folder is a path of one machine, so keys and manifests carry name and revision alone; that of a model
    behind a server is URL#MODEL. `engine` names the engine that draws from it, "" for what is no base model.
    `adapters` are merged into the weights, the first one first; source and revision are then the base's.
    """

    name: str
    source: str
    revision: str
    engine: str = ""
    adapters: tuple["ModelRef", ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        """What defines the weights, the same on every machine."""
        return {
            "revision": self.revision,
            "model": "" if self.is_local else self.source,
            **({"adapters": [adapter.identity for adapter in self.adapters]} if self.adapters else {}),
        }

    @property
    def is_local(self) -> bool:
        """Whether the weights lie in a local folder."""
        return self.revision.startswith("blake2b:")

    @property
    def adapter_folder(self) -> Path:
        """The local folder of an adapter's files, fetched where they lie on the Hub."""
        commit = None if self.is_local else self.revision
        return hub.adapter_folder(self.source, commit, repr(self.name))


def file_name(model: str) -> str:
    """The last part of a model's name, with what is not a letter, a digit or -_. made '_'."""
    last = re.split("[/#]" if is_url(model) else "/", model.rstrip("/"))[-1]
    kept = "".join(c if c.isalnum() or c in "-_." else "_" for c in last)
    return kept.encode(errors="replace")[:100].decode(errors="ignore").lstrip(".") or "_"


def checkpoint(name: str) -> ModelRef:
    """The checkpoint that `name` means as a base model: demo, an alias, a local folder, a Hub id, an
    adapter as either, or BASE+ADAPTER.

    Raises ModelError if there is none, or no Hub is in reach.
    """
    found = resolve(name, ALIASES.get(name, name), "base model", "CAUSAL_LM")
    return replace(found, engine=HUGGINGFACE)


def is_url(name: str) -> bool:
    """Whether `name` means a model behind a server."""
    return name.startswith(("http://", "https://"))


def at_server(url: str) -> tuple[str, str]:
    """The root of a server's API and the model's name, "" where `url` names none.

    Raises ModelError, which does not repeat it, where it holds more than that: credentials come from the
    environment.
    """
    found = URL.fullmatch(url)
    if not found:
        raise ModelError(
            "a model behind a server is written http://HOST:PORT/v1#MODEL, without user, password or query; "
            "a key is read from OPENAI_API_KEY in the environment"
        )
    return found["root"].rstrip("/"), found["model"] or ""


def full_name(name: str) -> str:
    """`name`, a server's URL as ROOT#MODEL; the one model that the server has where none is named.

    Raises ModelError as at_server, and where the server has several models.
    """
    if not is_url(name):
        return name
    root, model = at_server(name)
    if model:
        return f"{root}#{model}"
    from exptilt.models.openai_client import only_model

    return f"{root}#{only_model(root)}"


def served(name: str, url: str, engine: str = "") -> ModelRef:
    """The model behind a server.

    Args:
        name: what the user called it, "" for its URL#MODEL.
        url: the server's, with the model's name or without.
        engine: what draws from it, "" for what is no base model.

    Raises ModelError as full_name.
    """
    source = full_name(url)
    return ModelRef(name=name or source, source=source, revision=SERVED, engine=engine)


def resolve(name: str, source: str, role: str, task: str = "") -> ModelRef:
    """The checkpoint at `source`: a local folder or a Hub id, an adapter's with its base, or BASE+ADAPTER.

    Args:
        name: what the user called it.
        source: where it lies.
        role: names it in errors.
        task: what an adapter must be for, as peft names it; "" for any.

    Raises:
        ModelError: there is none, it is in another library's format, or an adapter that cannot be applied.
    """
    return replace(_found(source, role, task), name=name)


def _found(
    source: str, role: str, task: str, above: tuple[Place, ...] = (), pin: str | None = None
) -> ModelRef:
    """As `resolve`; `above` are the adapters that it is the base of, `pin` is its revision on the Hub."""
    base, adapter = _parts(source)
    if adapter:
        place = locate(adapter, f"{role} {source!r}: its adapter")
        adapter_config.read(place.adapter_folder, place.said, task)
        return _on(_found(ALIASES.get(base, base), f"{role} {source!r}: its base", ""), place)
    place = locate(source, role, pin)
    sources = [higher.source for higher in above]
    if not files.adapters(place.names) or sources[-1:] == [place.source]:
        return _whole(place)
    if place.source in sources:
        raise ModelError(f"{place.said} is an adapter whose base is, in the end, that adapter itself")
    return _on(_base_of(place, role, task, above), place)


def _parts(source: str) -> tuple[str, str]:
    """The base and the adapter of BASE+ADAPTER: at the last + before a folder's name, else at the last of
    all; an empty adapter where `source` is a folder, or has no +."""
    if "+" not in source or folder(source).exists():
        return source, ""
    places = [i for i, letter in enumerate(source) if letter == "+"]
    at = next((i for i in reversed(places) if folder(source[i + 1 :]).is_dir()), places[-1])
    return source[:at], source[at + 1 :]


def _base_of(place: Place, role: str, task: str, above: tuple[Place, ...]) -> ModelRef:
    """The base model that the configuration of the adapter at `place` names.

    Raises ModelError where whole weights lie beside the adapter and are not its base.
    """
    config = adapter_config.read(place.adapter_folder, place.said, task)
    source = adapter_config.base_source(config, place.adapter_folder, place.said)
    whole = formats.weights(place.names)
    is_own = str(folder(source).resolve()) == place.source or source == place.source
    if is_own and not whole:
        raise ModelError(f"{place.said} is an adapter that names itself as its base: pass BASE+ADAPTER")
    if whole and not is_own:
        raise ModelError(
            f"{place.said} holds whole weights ({whole[0]}) and an adapter: pass {source}+{place.source} for "
            "the adapter on its base, or move the adapter's files away for the weights alone"
        )
    role = f"{role} {place.source!r} is an adapter: its base"
    return _found(ALIASES.get(source, source), role, "", (*above, place), config.get("revision") or None)


def _whole(place: Place) -> ModelRef:
    """The checkpoint at `place`, which is no adapter."""
    formats.check(place.names, place.said)
    if place.is_local and "config.json" not in place.names:
        inner = sorted(name for name in place.names if name.endswith(f"/{adapter_config.FILE}"))
        advice = f"; an adapter lies in {Path(place.source, inner[0]).parent}" if inner else ""
        raise ModelError(f"{place.said}: the folder {place.source} has no config.json{advice}")
    return ModelRef(name=place.source, source=place.source, revision=place.revision)


def _on(base: ModelRef, place: Place) -> ModelRef:
    """The base model with the adapter at `place` on it."""
    adapter = ModelRef(name=place.source, source=place.source, revision=place.revision)
    return replace(base, adapters=(*base.adapters, adapter))
