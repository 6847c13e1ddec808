"""Rows of a whole run, on disk until they are asked for again."""

import io
import tempfile
from collections.abc import Iterable, Iterator

import polars as pl

from exptilt.storage import access_errors


class Spool:
    """Tables of equal columns in a temporary file without a name; memory holds one of them at a time."""

    def __init__(self) -> None:
        self._folder = tempfile.gettempdir()
        with access_errors.clear_errors(self._folder, "write"):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the spool
        self._places: list[tuple[int, int, int]] = []  # group, offset and size of each table
        self.height = 0

    def append(self, table: pl.DataFrame, group: int = 0) -> None:
        """Add a table; StorageError where the temporary folder is full."""
        data = io.BytesIO()
        table.write_ipc(data, compression="lz4")
        with access_errors.clear_errors(self._folder, "write"):
            offset = self._file.seek(0, io.SEEK_END)
            self._file.write(data.getbuffer())
            self._file.flush()
        self._places.append((group, offset, data.tell()))
        self.height += table.height

    def tables(self, *columns: str, group: int | None = None) -> Iterator[pl.DataFrame]:
        """The tables, as they were added; of all columns, or of `columns`; of all groups, or of `group`."""
        for its_group, offset, size in self._places:
            if group in (None, its_group):
                self._file.seek(offset)
                yield pl.read_ipc(self._file.read(size), columns=list(columns) or None)

    def parts(self, heights: Iterable[int]) -> Iterator[pl.DataFrame]:
        """All rows in their order, in tables of `heights`."""
        tables, held = self.tables(), pl.DataFrame()
        for height in heights:
            while held.height < height:
                held = pl.concat([held, next(tables)]) if held.height else next(tables)
            yield held[:height]
            held = held[height:]
