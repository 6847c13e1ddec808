"""Columns of numbers for files of records: written beside their others, which stay as they are.

Between JSON files each record keeps its own text, between Parquet files the columns stay in Arrow. From one
to the other goes what both can hold; the rest is refused.
"""

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from exptilt.data import arrow_of_json, compressed, file_names, files, json_of_arrow, json_records
from exptilt.data.json_records import Record
from exptilt.errors import ConfigError
from exptilt.storage import filesystem, keys

T = TypeVar("T")
Column = list[float] | list[float | None]  # a number that is None is null in the file
Numbers = Callable[[int, int], dict[str, Column]]  # by column, those of the records first..last-1
Take = Callable[[int], dict[str, Column]]  # those of the next so many records
AT_ONCE: Final = 200  # files that are written anew together
OTHER_COLUMNS: Final = "its columns are not those of {}; give an --output of .jsonl, or score them apart"


def rehearse(sources: Sequence[str], target: str, columns: Sequence[str]) -> None:
    """Do all that `write` does, but to nowhere: raises what `write` would, before there are numbers."""
    if not target and len(sources) > AT_ONCE:
        raise ConfigError(f"--file: {len(sources):,} files are too many to be written anew: give an --output")

    def take(count: int) -> dict[str, Column]:
        return {name: [0.0] * count for name in columns}

    for some, to in _targets(sources, target):
        with Path(os.devnull).open("wb") as f:
            _write(f, some, to, take)


def write(sources: Sequence[str], target: str, numbers: Numbers) -> None:
    """Write the records of files with their numbers as the ending of `target` says, whole or not at all.

    Without a `target` each file is written anew, and none takes its place before all are whole. A column that
    bears such a name is replaced in its place. ConfigError names the record and the column that a file cannot
    hold.
    """
    take = _in_turn(numbers)
    with ExitStack() as whole:
        for some, to in _targets(sources, target):
            _write(whole.enter_context(filesystem.writing(to)), some, to, take)


def _targets(sources: Sequence[str], target: str) -> list[tuple[Sequence[str], str]]:
    """Which files become which."""
    return [(sources, target)] if target else [([source], source) for source in sources]


def _in_turn(numbers: Numbers) -> Take:
    first = 0

    def take(count: int) -> dict[str, Column]:
        nonlocal first
        first += count
        return numbers(first - count, first)

    return take


def _write(f: IO[bytes], sources: Sequence[str], target: str, take: Take) -> None:
    match files.check_records("--output", target):
        case ".parquet":
            _write_batches(f, _batches(sources), take)
        case ".csv":
            f.writelines(compressed.written(_csv(sources, target, take), target))
        case ending:
            texts = _with_numbers(_texts(sources), take)
            pieces = array(texts) if ending == ".json" else map(_line, texts)
            f.writelines(compressed.written(pieces, target))


def _texts(sources: Sequence[str]) -> Iterator[tuple[Record, str]]:
    """The records of files of any kind with their JSON texts."""
    for source in sources:
        packed = file_names.ending(source) == ".parquet"
        yield from json_of_arrow.texts(files.batches(source), source) if packed else files.texts(source)


def _blocks(items: Iterator[T]) -> Iterator[list[T]]:
    return iter(lambda: list(islice(items, keys.BLOCK)), [])


def _with_numbers(records: Iterator[tuple[Record, str]], take: Take) -> Iterator[str]:
    for block in _blocks(records):
        added = take(len(block))
        for row, (record, text) in zip(zip(*added.values(), strict=True), block, strict=True):
            yield json_records.with_numbers(record, text, dict(zip(added, row, strict=True)))


def _line(text: str) -> bytes:
    return json_records.in_one_line(text).encode() + b"\n"


def array(texts: Iterable[str]) -> Iterator[bytes]:
    """A JSON array of the items' texts, each at the beginning of a line, in pieces."""
    yield b"["
    for number, text in enumerate(texts):
        yield (",\n    " if number else "\n    ").encode() + text.encode()
    yield b"\n]\n"


def _csv(sources: Sequence[str], target: str, take: Take) -> Iterator[bytes]:
    """The rows of .csv files of the same columns with their numbers, in pieces."""
    columns, heads = _csv_columns(sources, target), True
    for block in _blocks(row for source in sources for row in files.records(source)):
        added = take(len(block))
        names = [*columns, *(name for name in added if name not in columns)]
        numbers = (dict(zip(added, row, strict=True)) for row in zip(*added.values(), strict=True))
        rows = ({**row, **mine} for row, mine in zip(block, numbers, strict=True))
        yield _cells([*([names] if heads else []), *([row[name] for name in names] for row in rows)])
        heads = False


def _csv_columns(sources: Sequence[str], target: str) -> list[str]:
    """The columns that all of some .csv files have."""
    columns: list[str] | None = None
    for source in sources:
        if file_names.ending(source) != ".csv":
            raise ConfigError(f"--output {target}: only .csv files become one, not {source}; give .jsonl")
        names = [*next(files.records(source))]
        columns = columns or names
        if names != columns:
            raise ConfigError(f"--file {source}: {OTHER_COLUMNS.format(sources[0])}")
    return columns or []


def _cells(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _batches(sources: Sequence[str]) -> Iterator[Any]:
    """The records of files as Arrow record batches of one schema."""
    if any(file_names.ending(source) != ".parquet" for source in sources):
        return arrow_of_json.batches(lambda: _blocks(text for _, text in _texts(sources)), ",".join(sources))
    return _of_one_schema(sources)


def _of_one_schema(sources: Sequence[str]) -> Iterator[Any]:
    schema = None
    for source in sources:
        for batch in files.batches(source):
            schema = schema or batch.schema
            if batch.schema != schema:
                raise ConfigError(f"--file {source}: {OTHER_COLUMNS.format(sources[0])}")
            yield batch


def _write_batches(f: IO[bytes], batches: Iterator[Any], take: Take) -> None:
    import pyarrow.parquet

    extended = _extended(batches, take)
    head = next(extended)
    with pyarrow.parquet.ParquetWriter(f, head.schema, compression="zstd") as writer:
        for batch in chain([head], extended):
            writer.write_batch(batch)


def _extended(batches: Iterator[Any], take: Take) -> Iterator[Any]:
    """The record batches with columns of numbers, each in the place of the one of its name or last."""
    import pyarrow

    for batch in batches:
        longer = batch
        for name, values in take(batch.num_rows).items():
            field, column = pyarrow.field(name, pyarrow.float64()), pyarrow.array(values, pyarrow.float64())
            at = batch.schema.get_field_index(name)
            longer = longer.append_column(field, column) if at < 0 else longer.set_column(at, field, column)
        yield longer
