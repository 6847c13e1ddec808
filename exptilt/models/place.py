"""Where a model's files lie: a local folder or a repository of the Hub, its revision and its files."""

from dataclasses import dataclass
from pathlib import Path

from exptilt.models import files, formats, hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder or a repository: where it is, its revision, and the names of its files.

    `said` is what errors about it begin with.
    """

    source: str
    revision: str
    names: tuple[str, ...]
    is_local: bool
    said: str

    @property
    def adapter_folder(self) -> Path:
        """The local folder of the adapter here, fetched where it lies on the Hub."""
        return hub.adapter_folder(self.source, None if self.is_local else self.revision, self.said)


def locate(source: str, role: str, revision: str | None = None) -> Place:
    """The place that `source` means.

    Args:
        source: a local folder or a Hub id.
        role: what an error calls the model.
        revision: of the Hub's repository; None is its main branch.

    Raises:
        ModelError: where there is none, or it is a single file.
    """
    said, path = f"{role} {source!r}", folder(source)
    if not path.is_dir():
        formats.check_file(source, path.is_file(), said)
        commit, names = hub.look_up(source, role, revision)
        return Place(source=source, revision=commit, names=names, is_local=False, said=said)
    found = path.resolve()
    names = tuple(file.relative_to(found).as_posix() for file in [*found.glob("*"), *found.glob("*/*")])
    return Place(source=str(found), revision=files.digest(found), names=names, is_local=True, said=said)


def folder(source: str) -> Path:
    """The path that `source` may be; a name that no path can have is none."""
    try:
        path = Path(source).expanduser()
        path.is_dir()
    except (OSError, ValueError, RuntimeError):
        return Path("/dev/null")
    return path if source else Path("/dev/null")
