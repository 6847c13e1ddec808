"""Files of records with a prompt and a generated text, read some thousands of records at a time.

The records of one prompt are its samples, in the file's order, so a file is a pool of samples whose p0 is
unknown.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from typing import IO, Any, Final

import polars as pl

from exptilt.conversation import Prompt, as_dicts
from exptilt.conversation import text_of as prompt_text
from exptilt.data import added_columns, conversations, files
from exptilt.data.conversations import Unusable, checked_text
from exptilt.data.json_records import Record, text_of
from exptilt.data.parsing import is_text
from exptilt.errors import PromptError, StorageError
from exptilt.storage import keys, schemas

COMPLETIONS: Final = ("completion", "response")
MESSAGES: Final = ("messages", "conversations")
Pair = tuple[Prompt, str]
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
    first appearance), prompt_id, prompt, messages, reference, sample_index, completion.

    Args:
        file: a .json, .jsonl or .parquet file.
        prompt_column: holds the prompt.
        generated_column: holds prompt + completion.
        others: more columns that the records must have.

    Raises:
        ConfigError: the file cannot be read.
        PromptError: a record has no prompt and completion; it is named.

    A record's text is prompt + completion, in the generated column; where it has none, the completion is a
    column of its own (COMPLETIONS), or the last turn of messages. Where the text begins with the prompt only
    as older decoders tidied it (no space before a full stop), the prompt is taken so.
    """
    seen, first = keys.Seen(), 0
    known = [prompt_column, generated_column, *COMPLETIONS, *MESSAGES, *others]
    for block in blocks(file, [*dict.fromkeys(known)]):
        pairs = [
            _split(record, first + number, file, prompt_column, generated_column)
            for number, record in enumerate(block)
        ]
        yield block, _table(pairs, seen)
        first += len(block)


def is_conversation(file: str, prompt_column: str, generated_column: str) -> bool:
    """Whether the first record of `file` is a conversation; errors as `tables`."""
    _, table = next(tables(file, prompt_column, generated_column))
    return table["messages"][0] is not None


def _table(pairs: Sequence[Pair], seen: keys.Seen) -> pl.DataFrame:
    prompts = [prompt for prompt, _ in pairs]
    names = [keys.prompt_id(prompt) for prompt in prompts]
    places, repetitions = seen.enter(names)
    messages = [None if isinstance(prompt, str) else as_dicts(prompt) for prompt in prompts]
    return pl.DataFrame(
        {
            "place": places,
            "prompt_id": names,
            "prompt": [prompt_text(prompt) for prompt in prompts],
            "messages": pl.Series(messages, dtype=schemas.MESSAGES),
            "reference": pl.Series([None] * len(pairs), dtype=pl.String),
            "sample_index": repetitions,
            "completion": [completion for _, completion in pairs],
        }
    )


def _split(record: Record, number: int, file: str, prompt_column: str, generated_column: str) -> Pair:
    """Prompt and completion of a record; PromptError where it has no such texts."""
    try:
        return _pair(record, prompt_column, generated_column)
    except Unusable as error:
        raise PromptError(f"--file {file}: record {number} {error}") from None


def _pair(record: Record, prompt_column: str, generated_column: str) -> Pair:
    messages = next((record[name] for name in MESSAGES if record.get(name) is not None), None)
    if record.get(generated_column) is not None or not (messages or _completion(record)):
        return _of_text(record, prompt_column, generated_column)
    if messages is None:
        return conversations.asked(record.get(prompt_column)).prompt, checked_text(_completion(record))
    found = conversations.asked(messages)
    if found.reference is None:
        raise Unusable("without an answer", "has messages that do not end with an assistant's turn")
    return found.prompt, found.reference


def _completion(record: Record) -> Any:
    return next((record[name] for name in COMPLETIONS if record.get(name) is not None), None)


def _of_text(record: Record, prompt_column: str, generated_column: str) -> Pair:
    """Prompt and completion of a record whose text holds both."""
    prompt, text = record.get(prompt_column), record.get(generated_column)
    if isinstance(prompt, str) and isinstance(text, str) and not text.startswith(prompt):
        prompt = _tidied(prompt)
    if is_text(prompt) and is_text(text) and text.startswith(prompt):
        return prompt, text[len(prompt) :]
    for column in (prompt_column, generated_column):
        if isinstance(record.get(column), str) and not is_text(record[column]):
            raise Unusable("half a character", f"holds half a character (a lone surrogate) in {column!r}")
    raise Unusable(
        "no text",
        f"needs {prompt_column!r} and {generated_column!r}, a text that begins with it; or beside the prompt "
        "'completion' or 'response'; or 'messages' that end with an assistant's turn",
    )


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
