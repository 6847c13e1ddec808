"""The files of records that --file means: which ones, their name, and their records block by block."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from exptilt.data import file_names, file_sets, files, folders
from exptilt.data.json_records import Record
from exptilt.errors import ConfigError
from exptilt.storage import filesystem, keys


class Block(NamedTuple):
    """Some records of one file.

    Attributes:
        records: some thousands at most.
        number: of the first one, among the records of all files.
        file: where they stand.
        row: of the first one in `file`.
    """

    records: list[Record]
    number: int
    file: str
    row: int

    def named(self, number: int) -> str:
        """What to call record `number` of all: its file, and its own number there."""
        return f"--file {self.file}: record {self.row + number - self.number}"


def files_of(data: str) -> list[str]:
    """The files that `data` stands for, see file_sets; ConfigError where one is of no records."""
    found = file_sets.files_of(data, "--file")
    for path, ending in found:
        if ending == folders.SAVED:
            raise ConfigError(f"--file {path}: is of save_to_disk; write it as a file, as by to_parquet")
        files.check_records("--file", path)
    return [file.path for file in found]


def blocks(data: str, columns: list[str] | None = None) -> Iterator[Block]:
    """The records of all files, of `columns` at least; ConfigError where one cannot be read or has none."""
    number = 0
    for file in files_of(data):
        found, row = files.records(file, columns), 0
        while some := list(islice(found, keys.BLOCK)):
            yield Block(some, number, file, row)
            number, row = number + len(some), row + len(some)


def digest(data: str) -> str:
    """Hex SHA-256 of the file, or of the digests of several in their order."""
    digests = [filesystem.digest(file) for file in files_of(data)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def name_of(data: str) -> str:
    """What to call the files: the name of one, or of the first one, and how many more."""
    several = "," in data and not Path(data).exists()
    return file_names.short_name(data) if several else Path(data).name
