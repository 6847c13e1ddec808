"""Columns of numbers for a file of records: written beside its others, which stay as they are.

Between JSON files each record keeps its own text, between Parquet files the columns stay in Arrow. From one
to the other goes what both can hold; the rest is refused.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, TypeVar

from exptilt.data import arrow_of_json, compressed, files, json_of_arrow, json_records
from exptilt.data.json_records import Record
from exptilt.storage import filesystem, keys

T = TypeVar("T")
Numbers = Callable[[int, int], dict[str, list[float]]]  # by column, those of the records first..last-1


def rehearse(file: str, target: str, columns: Sequence[str]) -> None:
    """Do all that `write` does, but to nowhere: raises what `write` would, before there are numbers."""
    with Path(os.devnull).open("wb") as f:
        _write(f, file, target, lambda first, last: {name: [0.0] * (last - first) for name in columns})


def write(file: str, target: str, numbers: Numbers) -> None:
    """Write the records of `file` with their numbers as the ending of `target` says, whole or not at all.

    A column that bears such a name is replaced in its place. ConfigError names the record and the column
    that `target` cannot hold.
    """
    with filesystem.writing(target) as f:
        _write(f, file, target, numbers)


def _write(f: IO[bytes], file: str, target: str, numbers: Numbers) -> None:
    source, ending = files.check_records("--file", file), files.check_records("--output", target)
    if ending == ".parquet":
        found = files.batches(file) if source == ending else arrow_of_json.batches(lambda: _texts(file), file)
        _write_batches(f, found, numbers)
        return
    records = json_of_arrow.texts(files.batches(file), file) if source == ".parquet" else files.texts(file)
    texts = _with_numbers(records, numbers)
    pieces = array(texts) if ending == ".json" else map(_line, texts)
    f.writelines(compressed.written(pieces, target))


def _texts(file: str) -> Iterator[list[str]]:
    return _blocks(text for _, text in files.texts(file))


def _blocks(items: Iterator[T]) -> Iterator[list[T]]:
    return iter(lambda: list(islice(items, keys.BLOCK)), [])


def _with_numbers(records: Iterator[tuple[Record, str]], numbers: Numbers) -> Iterator[str]:
    first = 0
    for block in _blocks(records):
        added = numbers(first, first + len(block))
        for row, (record, text) in zip(zip(*added.values(), strict=True), block, strict=True):
            yield json_records.with_numbers(record, text, dict(zip(added, row, strict=True)))
        first += len(block)


def _line(text: str) -> bytes:
    return json_records.in_one_line(text).encode() + b"\n"


def array(texts: Iterable[str]) -> Iterator[bytes]:
    """A JSON array of the items' texts, each at the beginning of a line, in pieces."""
    yield b"["
    for number, text in enumerate(texts):
        yield (",\n    " if number else "\n    ").encode() + text.encode()
    yield b"\n]\n"


def _write_batches(f: IO[bytes], batches: Iterator[Any], numbers: Numbers) -> None:
    import pyarrow.parquet

    extended = _extended(batches, numbers)
    head = next(extended)
    with pyarrow.parquet.ParquetWriter(f, head.schema, compression="zstd") as writer:
        for batch in chain([head], extended):
            writer.write_batch(batch)


def _extended(batches: Iterator[Any], numbers: Numbers) -> Iterator[Any]:
    """The record batches with columns of numbers, each in the place of the one of its name or last."""
    import pyarrow

    first = 0
    for batch in batches:
        longer = batch
        for name, values in numbers(first, first + batch.num_rows).items():
            field, column = pyarrow.field(name, pyarrow.float64()), pyarrow.array(values, pyarrow.float64())
            at = batch.schema.get_field_index(name)
            longer = longer.append_column(field, column) if at < 0 else longer.set_column(at, field, column)
        yield longer
        first += batch.num_rows
