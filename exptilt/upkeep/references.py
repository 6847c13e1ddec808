"""Which outputs under a save directory refer to which entries of its pool, by what their manifests name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exptilt.errors import StorageError
from exptilt.outputs.pool_entries import ENTRIES
from exptilt.storage import filesystem, keys, listing, pool
from exptilt.storage.inventory import Folder

PALETTE: Final = re.compile(r".*_palette_.*\.json")
NOT_OF_P0: Final = {"ends", "name", "device"}  # what a data set's manifest says beside p0's identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A data set, a sweep, a palette or a scored file.

    Attributes:
        path: of a data set's or a sweep's folder, of a palette's JSON, of a scored file.
        noted_at: where its manifest lies.
        finished: when it was saved, as its manifest has it; "" where it does not say.
        entries: how many of the pool's entries it names; None for one of an older version, which names none.
        p0: the key of its p0, see `p0_key`.
    """

    path: str
    noted_at: str
    finished: str
    entries: int | None
    p0: str


@dataclass(slots=True)
class References:
    """The outputs that there are, and which of them name an entry.

    Attributes:
        outputs: all of them.
        unreadable: manifests of which it is not known what they refer to, each with the reason.
        named: by an entry's name: a bit for each output that names it, as by its place in `outputs`.
    """

    outputs: list[Output] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    named: dict[bytes, int] = field(default_factory=dict)

    def of(self, folder: Folder) -> list[int]:
        """The places of the outputs that refer to an entry.

        An output that names no entries refers to all of its model, and to all that names no model.
        """
        bits = self.named.get(_short(folder.name), 0)
        mine = p0_key(folder.entry.meta.get("p0")) if folder.entry else ""
        return [
            place
            for place, output in enumerate(self.outputs)
            if bits >> place & 1 or (output.entries is None and mine in ("", output.p0))
        ]

    def enter(self, path: str, noted_at: str, manifest: Mapping[str, Any]) -> None:
        """Enter an output and what it names."""
        named, bit = manifest.get(ENTRIES), 1 << len(self.outputs)
        count = None if named is None else 0
        for name in _names(named or {}):
            self.named[name] = self.named.get(name, 0) | bit
            count = (count or 0) + 1
        finished, p0 = str(manifest.get("finished", "")), p0_key(manifest.get("p0"))
        self.outputs.append(Output(path=path, noted_at=noted_at, finished=finished, entries=count, p0=p0))


def p0_key(said: Any) -> str:
    """A key of what a manifest says of p0, the same for a data set's and an entry's; "" where it says
    nothing."""
    p0 = {name: value for name, value in said.items() if name not in NOT_OF_P0} if said else {}
    return keys.content_key(p0) if p0 else ""


def find(root: str) -> References:
    """What refers to the pool under `root`: the outputs there, however deep, and the files scored there.

    Links to folders are not followed. A manifest that cannot be read is noted as such.
    """
    found = References()
    for path in _manifests(root):
        try:
            _enter(found, path, filesystem.read_json(path))
        except (StorageError, AttributeError, TypeError, ValueError) as error:
            found.unreadable.append(str(error) if isinstance(error, StorageError) else f"{path}: {error}")
    return found


def _enter(found: References, path: str, manifest: Any) -> None:
    """Enter the manifest at `path`, unless it is of something else than exptilt's."""
    if not isinstance(manifest, dict) or "configuration" not in manifest:
        return
    is_folders = path.endswith(f"/{pool.MANIFEST}")
    output = manifest.get("scored") or (path.rpartition("/")[0] if is_folders else path)
    found.enter(output, path, manifest)


def _manifests(root: str) -> Iterator[str]:
    """Where manifests may lie, that of the pool's entries aside."""
    scored = pool.place(root, "scored")
    yield from (filesystem.join(scored, name) for name in filesystem.names(scored) if name.endswith(".json"))
    folders = [root]
    while folders:
        folder = folders.pop()
        for item in listing.items(folder):
            path = filesystem.join(folder, item.name)
            if item.is_folder and path != filesystem.join(root, pool.POOL) and not item.is_link:
                folders.append(path)
            elif item.name == pool.MANIFEST or PALETTE.fullmatch(item.name):
                yield path


def _names(named: Mapping[str, list[str]]) -> Iterator[bytes]:
    for stage, rest in named.items():
        yield from (_short(f"{stage}/{name}") for name in rest)


def _short(name: str) -> bytes:
    """An entry's name in 16 bytes; memory holds one for each entry that is named."""
    return bytes.fromhex(keys.content_key(name))
