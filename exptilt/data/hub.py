"""Data sets of the Hub, and folders that save_to_disk wrote, as the datasets library reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from exptilt.data import beside
from exptilt.data.columns import Value, find_column
from exptilt.errors import ConfigError, ExptiltError
from exptilt.storage import filesystem, listing
from exptilt.storage.paths import is_local
from exptilt.wording import reason

FEW_ROWS: Final = 100  # whose images are in memory at a time


def load(name: str, **options: Any) -> Any:
    """datasets.load_dataset, its many failures said in one line."""
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, **options)
    except Exception as error:
        raise ConfigError(
            f"data set {name!r} was not found on the Hub or as a folder ({reason(error)}); "
            "a downloaded file works too: --data FILE.jsonl --prompt-column NAME"
        ) from error


def values(data: str, column: str) -> Iterator[Value]:
    """The prompts of a data set of the Hub, as org/name or org/name:split."""
    name, _, split = data.partition(":")
    return _values(load(name, split=split or "train"), data, column)


def saved(folder: str, column: str) -> Iterator[Value]:
    """The prompts of a folder that Dataset.save_to_disk wrote; ConfigError, which names it, if damaged."""
    import datasets

    datasets.disable_progress_bars()
    with _local(folder) as path:
        try:
            yield from _values(datasets.load_from_disk(path), folder, column)
        except ExptiltError:
            raise
        except Exception as error:
            raise ConfigError(f"--data {folder}: cannot be read ({reason(error)})") from error


@contextmanager
def _local(folder: str) -> Iterator[str]:
    """`folder` itself where it is local; else a temporary folder with what the store has there."""
    if is_local(folder):
        yield folder
        return
    with TemporaryDirectory() as copy:
        for name in listing.files_in(folder):
            filesystem.fetch(filesystem.join(folder, name), str(Path(copy, name)))
        yield copy


def _values(table: Any, data: str, column: str) -> Iterator[Value]:
    try:
        chosen = find_column(table.column_names, column)
    except ConfigError as error:
        raise ConfigError(f"--data {data}: {error}") from error
    others = beside.columns(table.column_names, chosen)
    if not others:
        return (Value(value, chosen) for value in table[chosen])
    return map(Value, table[chosen], repeat(chosen), _given(table.select_columns(others), chosen))


def _given(table: Any, chosen: str) -> Iterator[dict[str, Any]]:
    """What the rows of other columns hold, undecoded: an image stays bytes."""
    for batch in table.with_format("arrow").iter(FEW_ROWS):
        yield from (beside.given(row, chosen) for row in batch.to_pylist())
