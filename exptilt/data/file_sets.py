"""Which files a name stands for: one file, several with commas, those of a pattern, those of a folder.

Files of a pattern and of a folder come sorted by name, files with commas as they are given. What there is by
the very name is meant, also where it has a comma or a star in it.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from exptilt.data import compressed, folders
from exptilt.data.file_names import ENDINGS, WILD, File, ending, folder_and_split
from exptilt.errors import ConfigError, StorageError
from exptilt.storage import listing
from exptilt.storage.paths import is_local


def files_of(data: str, flag: str = "--data") -> list[File]:
    """The files that `data` stands for, at least one.

    Raises ConfigError, which names `flag` and the path, where there is none, where one is of no known format,
    where a folder holds several formats or splits, and where a file is named twice.
    """
    try:
        found = [file for part in _parts(data) for file in _files(part)]
        _check_once(found)
    except StorageError as error:
        raise ConfigError(_in_one_line(f"{flag}: {error}")) from error
    except ConfigError as error:
        raise ConfigError(_in_one_line(f"{flag} {error}")) from error
    return found


def check_local(data: str) -> None:
    """Raise as `files_of` for those parts of `data` that lie on this machine."""
    local = [part for part in _parts(data) if is_local(part)]
    if local:
        files_of(",".join(local))


def _check_once(files: Sequence[File]) -> None:
    """Refuse a file that is meant twice, also where one of the two is compressed."""
    places = [os.path.abspath(f.path) if is_local(f.path) else f.path for f in files]
    path, count = Counter(map(compressed.plain, places)).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"{path}: the file is there {count} times, as it is or compressed: name it once")


def _in_one_line(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _parts(data: str) -> list[str]:
    """What stands between commas, except where a comma belongs to a name that is there."""
    if is_local(data) and os.path.exists(data):
        return [data]
    words, parts = data.split(","), list[str]()
    while words:
        count = next((n for n in range(len(words), 1, -1) if os.path.exists(",".join(words[:n]))), 1)
        parts.append(",".join(words[:count]))
        words = words[count:]
    return [part if os.path.exists(part) else part.strip() for part in parts if part.strip()] or [data]


def _files(part: str) -> Iterable[File]:
    """The files of a single name."""
    known, wild = ending(part), WILD.search(part)
    if known and not wild and not is_local(part):
        return [File(part, known)]  # whether it is there is known once it is read
    if listing.is_file(part):
        return [_file(part)]
    for folder, split in dict.fromkeys([(part, ""), folder_and_split(part)]):
        if listing.is_folder(folder):
            return folders.files_in(folder, split)
    if wild:
        return _of_pattern(part)
    raise ConfigError(f"{part}: there is no such file{'' if known else ' or folder'}")


def _file(path: str) -> File:
    if not ending(path):
        raise ConfigError(
            f"{path}: not a file of rows; known are {', '.join(ENDINGS)}, and these but .parquet as "
            f"{' or '.join(compressed.ENDINGS)}"
        )
    return File(path, ending(path))


def _of_pattern(pattern: str) -> list[File]:
    paths = listing.matching(pattern)
    found = {file for path in paths for file in _matched(path)}
    if not found:
        raise ConfigError(f"{pattern}: no file matches")
    return sorted(found)


def _matched(path: str) -> list[File]:
    """The file of a path, or those of its folder; a store is not asked about what is called like a file."""
    known_file = ending(path) and not is_local(path)
    return folders.files_in(path) if not known_file and listing.is_folder(path) else [_file(path)]
