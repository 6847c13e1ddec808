"""The files of a model's folder: which of them make the model, their digest, and adapters among them."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

ALWAYS: Final = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors", "*.bin")
NEVER: Final = re.compile(  # what no loader reads: hidden files, code, texts and pictures, a trainer's state
    r"\..*|.*\.(py|sh|ipynb|md|rst|html|ya?ml|toml|log|out|err|pdf|png|jpe?g|gif|svg|webp)"
    r"|(LICEN[CS]E|COPYING|NOTICE|README|USE_POLICY).*|(optimizer|scheduler|scaler)\.pt|rng_state(_\d+)?\.pth|events\.out\.tfevents.*",
    re.IGNORECASE,
)
WEIGHTS: Final = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".gguf",
    ".h5",
    ".msgpack",
    ".model",
    ".json",
    ".jinja",
)
OTHERS: Final = (
    re.compile(  # subfolders of other models: a training's checkpoints, other runtimes' copies, logs
        r"\..*|checkpoint-\d+|onnx|openvino|coreml|tflite|original|metal|runs|logs|wandb|__pycache__"
    )
)
NAMING: Final = ("*config.json", "*.index.json")  # the files that name others, which may lie in subfolders
ADAPTER: Final = re.compile(r"adapter_(config\.json|model.*\.(safetensors|bin|pt))")

Stamp = tuple[str, str, int, int, int]  # a file's name and place, size, and times of its last changes in ns


def digest(folder: Path) -> str:
    """The blake2b of what a model is loaded from: every file of `folder` but those that no loader reads;
    weights, configurations and templates in subfolders, but those of other models; and what the configuration
    and the weights' index name anywhere.

    Files are read once per process while they stay as they are.
    """
    return _digest(tuple(_stamp(name, path) for name, path in sorted(_files(folder).items())))


def adapters(names: Iterable[str]) -> list[str]:
    """Those of a folder's or a repository's file names that are an adapter's."""
    return sorted(name for name in names if ADAPTER.fullmatch(name))


def _files(folder: Path) -> dict[str, Path]:
    """The files that count, by their name within the folder."""
    found = [path for pattern in ALWAYS for path in folder.glob(pattern)]
    found += [path for path in folder.iterdir() if not NEVER.fullmatch(path.name)]
    found += [path for path in folder.rglob("*") if path.suffix in WEIGHTS and _is_own(path, folder)]
    files = {path.relative_to(folder).as_posix(): path for path in found if path.is_file()}
    return _named(folder, [path for pattern in NAMING for path in folder.glob(pattern)]) | files


def _is_own(path: Path, folder: Path) -> bool:
    inert = NEVER.fullmatch(path.name) or any(map(OTHERS.fullmatch, path.relative_to(folder).parts[:-1]))
    return not inert


def _named(folder: Path, naming: list[Path]) -> dict[str, Path]:
    """The files that the files `naming` name, and those that these name in turn."""
    found: dict[str, Path] = {}
    while naming:
        for name in set(_names(naming.pop())) - found.keys():
            if os.path.isfile(folder / name):  # False for what no path can be
                found[name] = folder / name
                naming += [folder / name] if name.endswith(".index.json") else []
    return found


def _names(path: Path) -> Iterator[str]:
    """What may be a file's name in a JSON file; a configuration's absolute paths are another machine's."""
    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError):
        return
    is_index = isinstance(said, dict) and "weight_map" in said
    for text in _texts(said):
        if is_index or not text.startswith("/"):
            yield text


def _texts(value: Any) -> Iterator[str]:
    """The strings within a JSON value."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, dict)):
            waiting += value.values() if isinstance(value, dict) else value


def _stamp(name: str, path: Path) -> Stamp:
    found = path.stat()
    return name, str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(maxsize=64)
def _digest(stamps: tuple[Stamp, ...]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for name, path, *_ in stamps:
        with Path(path).open("rb") as f:
            total.update(name.encode() + hashlib.file_digest(f, "blake2b").digest())
    return f"blake2b:{total.hexdigest()}"
