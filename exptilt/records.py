"""Files of records with a prompt and a generated text, read and written some thousands of records at a time.

The records of one prompt are its samples, in the file's order, so a file is a pool of samples whose p0 is
unknown.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Final

import polars as pl

from exptilt import files, ids, store
from exptilt.errors import PromptError
from exptilt.json_records import Record
from exptilt.untrusted import is_text

TIDIED: Final = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
Blocks = Iterator[list[Record]]


def blocks(file: str) -> Blocks:
    """The records of a .json, .jsonl or .parquet file; ConfigError where there are none."""
    found = files.records(file)
    return iter(lambda: list(islice(found, ids.BLOCK)), [])


def tables(
    file: str, prompt_column: str, generated_column: str
) -> Iterator[tuple[list[Record], pl.DataFrame]]:
    """The records, and one row for each: place (of its prompt, by first appearance), prompt_id, prompt,
    sample_index, completion.

    prompt + completion is the record's text. Where that begins with the prompt only as older decoders tidied
    it (no space before a full stop), the prompt is taken so.
    """
    seen, first = ids.Seen(), 0
    for block in blocks(file):
        pairs = [_split(record, prompt_column, generated_column) for record in block]
        if None in pairs:
            raise PromptError(
                f"--file {file}: record {first + pairs.index(None)} needs {prompt_column!r} and "
                f"{generated_column!r}, a text that begins with it"
            )
        prompts, completions = zip(*filter(None, pairs), strict=True)
        names = [ids.prompt_id(prompt) for prompt in prompts]
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


def _tidied(text: str) -> str:
    """`text` as clean_up_tokenization_spaces leaves it, which decoding once did by default."""
    for spaced in TIDIED:
        text = text.replace(spaced, spaced.strip())
    return text


def write(target: str, made: Callable[[], Blocks]) -> None:
    """Write the blocks that `made` gives, every time that it is called, as the ending of `target` says."""
    with store.writing(target) as f:
        match Path(target).suffix.lower():
            case ".parquet":
                _write_parquet(f, made)
            case ".jsonl":
                for record in _each(made()):
                    f.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            case _:
                write_json(f, _each(made()))


def _each(found: Blocks) -> Iterator[Record]:
    return (record for block in found for record in block)


def write_json(f: IO[bytes], records: Iterable[Record]) -> None:
    """A JSON array, indented by 4, written record by record."""
    f.write(b"[")
    for i, record in enumerate(records):
        text = json.dumps(record, indent=4, ensure_ascii=False)
        f.write((",\n    " if i else "\n    ").encode() + text.replace("\n", "\n    ").encode())
    f.write(b"\n]\n")


def _write_parquet(f: IO[bytes], made: Callable[[], Blocks]) -> None:
    """Twice through the blocks: a column's type is known only once all were seen."""
    import pyarrow.parquet

    none = pl.DataFrame()
    for block in made():
        none = pl.concat([none, _frame(block).clear()], how="diagonal_relaxed")
    with pyarrow.parquet.ParquetWriter(f, none.to_arrow().schema, compression="zstd") as writer:
        for block in made():
            writer.write_table(pl.concat([none, _frame(block)], how="diagonal_relaxed").to_arrow())


def _frame(block: list[Record]) -> pl.DataFrame:
    return pl.DataFrame(block, infer_schema_length=None)
