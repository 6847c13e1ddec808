"""Which model a name means, and which exact weights it stands for."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from exptilt import demo
from exptilt.errors import ModelError
from exptilt.models import files

SERVED: Final = "served"
HUGGINGFACE: Final = "huggingface"
HUB_SECONDS: Final = 10.0
ALIASES: Final = {
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
    """

    name: str
    source: str
    revision: str
    engine: str = ""

    @property
    def identity(self) -> dict[str, str]:
        """What defines the weights, the same on every machine."""
        return {"revision": self.revision, "model": "" if self.is_local else self.source}

    @property
    def is_local(self) -> bool:
        """Whether the weights lie in a local folder."""
        return self.revision.startswith("blake2b:")


def file_name(model: str) -> str:
    """The last part of a model's name, with what is not a letter, a digit or -_. made '_'."""
    last = re.split("[/#]" if is_url(model) else "/", model.rstrip("/"))[-1]
    kept = "".join(c if c.isalnum() or c in "-_." else "_" for c in last)
    return kept.encode(errors="replace")[:100].decode(errors="ignore").lstrip(".") or "_"


def checkpoint(name: str) -> ModelRef:
    """The checkpoint that `name` means as a base model: demo, an alias, a local folder or a Hub id.

    Raises ModelError if there is none, or no Hub is in reach.
    """
    if name == "demo":
        found = _local(name, demo.MODEL)
    else:
        found = resolve(name, ALIASES.get(name, name), "base model")
    return replace(found, engine=HUGGINGFACE)


def is_url(name: str) -> bool:
    """Whether `name` means a model behind a server."""
    return name.startswith(("http://", "https://"))


def full_name(name: str) -> str:
    """`name`, a server's URL as ROOT#MODEL; the one model that the server has where none is named.

    Raises ModelError where the URL holds more than that: credentials come from the environment.
    """
    if not is_url(name):
        return name
    found = URL.fullmatch(name)
    if not found:
        raise ModelError(
            "a server as base model is written http://HOST:PORT/v1#MODEL, without user, password or query; "
            "a key is read from OPENAI_API_KEY in the environment"
        )
    root = found["root"].rstrip("/")
    if found["model"]:
        return f"{root}#{found['model']}"
    from exptilt.models.openai_client import only_model

    return f"{root}#{only_model(root)}"


def resolve(name: str, source: str, role: str) -> ModelRef:
    """The checkpoint at `source`, a local folder or a Hub id; `role` names it in errors.

    Raises ModelError where there is none, or where an adapter is among its files: it would be ignored.
    """
    folder = _folder(source)
    if folder.is_dir():
        return _local(name, folder, role)
    return ModelRef(name=name, source=source, revision=_hub_revision(source, role))


def _folder(source: str) -> Path:
    """The path that `source` may be; a name that no path can have is none."""
    try:
        folder = Path(source).expanduser()
        folder.is_dir()
    except (OSError, ValueError, RuntimeError):
        return Path("/dev/null")
    return folder


def _local(name: str, folder: Path, role: str = "base model") -> ModelRef:
    _refuse_adapter(name, role, (path.name for path in folder.iterdir()))
    if not (folder / "config.json").is_file():
        raise ModelError(f"{role} {name!r}: the folder {folder} has no config.json")
    return ModelRef(name=name, source=str(folder.resolve()), revision=files.digest(folder.resolve()))


def _refuse_adapter(name: str, role: str, listed: Iterable[str]) -> None:
    found = files.adapters(listed)
    if found:
        raise ModelError(
            f"{role} {name!r} holds an adapter ({found[0]}), and adapters are not applied: merge it into the "
            "weights (merge_and_unload of peft) and pass what that saves, or pass the adapter's base model"
        )


@lru_cache(maxsize=64)
def _hub_revision(source: str, role: str) -> str:
    """The commit of `source` that the Hub holds now, or that a local copy holds where none answers."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        found = HfApi().model_info(source, timeout=HUB_SECONDS)
    except HFValidationError:
        reason = "it is neither a known name, a local folder nor a Hub id"
    except GatedRepoError:
        reason = "its owner asks you to accept its terms on the Hub and to log in"
    except RepositoryNotFoundError:
        reason = "the Hub has no such model"
    except Exception:
        kept = _kept(source)
        if kept:
            _refuse_adapter(source, role, (path.name for path in kept.iterdir()))
            return kept.name
        reason = f"no Hub is in reach; pass a local folder instead (hf download {source})"
    else:
        _refuse_adapter(source, role, (file.rfilename for file in found.siblings or ()))
        return str(found.sha)
    raise ModelError(f"{role} {source!r} was not found: {reason}")


def _kept(source: str) -> Path | None:
    """The copy of `source` in the Hub's local cache, a folder called as its commit, if there is one."""
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(source, name) for name in ("config.json", "adapter_config.json")]
    return next((Path(path).parent for path in paths if isinstance(path, str)), None)
