"""Files of records with a prompt and a generated text, read some thousands of records at a time.

The records of one prompt are its samples, in the file's order, so a file is a pool of samples whose p0 is
unknown.
"""

from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import IO, Final

import polars as pl

from exptilt.data import added_columns, files
from exptilt.data.json_records import Record, text_of
from exptilt.data.parsing import is_text
from exptilt.errors import PromptError, StorageError
from exptilt.storage import keys

TIDIED: Final = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
Blocks = Iterator[list[Record]]


def blocks(file: str, columns: list[str] | None = None) -> Blocks:
    """The records of a .json, .jsonl or .parquet file, of `columns` at least; ConfigError without any."""
    found = files.records(file, columns)
    return iter(lambda: list(islice(found, keys.BLOCK)), [])


def tables(
    file: str, prompt_column: str, generated_column: str, others: Iterable[str] = ()
) -> Iterator[tuple[list[Record], pl.DataFrame]]:
    """The records, of these columns and `others` at least, and one row for each: place (of its prompt, by
    first appearance), prompt_id, prompt, sample_index, completion.

    prompt + completion is the record's text. Where that begins with the prompt only as older decoders tidied
    it (no space before a full stop), the prompt is taken so.
    """
    seen, first = keys.Seen(), 0
    for block in blocks(file, [*dict.fromkeys([prompt_column, generated_column, *others])]):
        pairs = [_split(record, prompt_column, generated_column) for record in block]
        if None in pairs:
            at = pairs.index(None)
            why = _fault(block[at], prompt_column, generated_column)
            raise PromptError(f"--file {file}: record {first + at} {why}")
        prompts, completions = zip(*filter(None, pairs), strict=True)
        names = [keys.prompt_id(prompt) for prompt in prompts]
        places, repetitions = seen.enter(names)
        columns = {"place": places, "prompt_id": names, "prompt": prompts, "sample_index": repetitions}
        yield block, pl.DataFrame({**columns, "completion": completions})
        first += len(block)


def _split(record: Record, prompt_column: str, generated_column: str) -> tuple[str, str] | None:
    """Prompt and completion, None where the record has no such texts."""
    prompt, text = record.get(prompt_column), record.get(generated_column)
    if isinstance(prompt, str) and isinstance(text, str) and not text.startswith(prompt):
        prompt = _tidied(prompt)
    if not is_text(prompt) or not is_text(text) or not text.startswith(prompt):
        return None
    return prompt, text[len(prompt) :]


def _fault(record: Record, prompt_column: str, generated_column: str) -> str:
    """What is wrong with a record that `_split` does not split."""
    for column in (prompt_column, generated_column):
        if isinstance(record.get(column), str) and not is_text(record[column]):
            return f"holds half a character (a lone surrogate) in {column!r}"
    return f"needs {prompt_column!r} and {generated_column!r}, a text that begins with it"


def _tidied(text: str) -> str:
    """`text` as clean_up_tokenization_spaces leaves it, which decoding once did by default."""
    for spaced in TIDIED:
        text = text.replace(spaced, spaced.strip())
    return text


def write_json(f: IO[bytes], records: Iterable[Record]) -> None:
    """A JSON array, indented by 4, written record by record; StorageError at a NaN or an infinity."""
    added_columns.write_array(f, map(_indented, records, count()))


def _indented(record: Record, number: int) -> str:
    try:
        return text_of(record, number, indent=4).replace("\n", "\n    ")
    except ValueError as error:
        raise StorageError(f"cannot be written: {error}") from error
