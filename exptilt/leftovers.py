"""What a killed run left in a local folder: temporary files and leases, removed once their process is dead
for sure. A temporary file has its process in its name, a lease in its text; a live one's are left alone."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from exptilt import holder, store


def sweep(folders: Iterable[str]) -> None:
    """Remove the leftovers of dead processes directly in `folders`, where these are local."""
    for folder in sorted(set(folders)):
        if store.is_local(folder):
            for path in _leftovers(Path(folder)):
                path.unlink(missing_ok=True)


def _leftovers(folder: Path) -> Iterator[Path]:
    for path in folder.glob(".*.tmp"):
        parts = path.name.rsplit(".", 3)
        if len(parts) == 4 and holder.token_is_dead(parts[1]):
            yield path
    for path in folder.glob("*.lease"):
        with suppress(OSError, ValueError, RecursionError):
            if holder.is_dead(json.loads(path.read_bytes())):
                yield path
