"""The page of the runs under a save directory, written anew by every process that works at one."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from exptilt.errors import StorageError
from exptilt.reports import live_page
from exptilt.reports.live_page import Finished
from exptilt.reports.standing import Standing
from exptilt.storage import filesystem, pool
from exptilt.storage.filesystem import Stamp

NAME: Final = "live.html"
MOST: Final = 50  # data sets that are linked to, the latest


class LivePage:
    """The page under a root; each data set's manifest is read once, and again when its records changed."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._finished: dict[str, tuple[Stamp, Finished]] = {}

    def write(self, standings: Mapping[str, Standing]) -> None:
        """Make the page anew, from how far each configuration is."""
        written = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        in_order = sorted(standings.values(), key=lambda each: each.facts.began)
        page = live_page.render(in_order, list(self.finished()), written)
        filesystem.write_bytes(filesystem.join(self.root, NAME), page)

    def finished(self) -> Iterator[Finished]:
        """The data sets under the root that are whole, the latest first."""
        for name, stamp in self._records()[:MOST]:
            known = self._finished.get(name)
            if known is None or known[0] != stamp:
                manifest = _manifest(filesystem.join(self.root, name, pool.MANIFEST))
                known = (stamp, _read(name, manifest, stamp)) if manifest else None
            if known:
                self._finished[name] = known
                yield known[1]

    def _records(self) -> list[tuple[str, Stamp]]:
        """The names of what may be data sets: each has its records beside it; the latest first."""
        found = {
            prefix + name.removesuffix(".json"): stamp
            for prefix, folder in (("", self.root), ("temp/", filesystem.join(self.root, "temp")))
            for name, stamp in filesystem.stamps(folder).items()
            if name.endswith(".json")
        }
        return sorted(found.items(), key=lambda pair: (-pair[1].modified, pair[0]))


def _manifest(path: str) -> dict[str, Any] | None:
    """A data set's manifest; None where there is none that reads as one."""
    try:
        said = filesystem.read_json(path)
    except StorageError:
        return None
    return said if isinstance(said, dict) and "finished" in said else None


def _read(name: str, manifest: dict[str, Any], stamp: Stamp) -> Finished:
    summary = manifest.get("summary")
    verdict = summary.get("verdict") if isinstance(summary, dict) else ""
    return Finished(name=name, verdict=str(verdict or ""), finished=str(manifest["finished"]))
